package proxy

import (
	"sync"
	"time"

	h2 "golang.org/x/net/http2"

	"github.com/clonegate/clonegate/proxy/http2"
)

// A lane is a stream of HTTP/2 as one end of a tunnel (RFC 8441 §5): its octets
// are a connection's, an end is the end of one direction, a reset that of both.
type lane struct {
	s *http2.Stream

	mu      sync.Mutex
	retired bool        // guarded by mu; the stream is not ours any more
	timer   *time.Timer // guarded by mu; nil: no deadline
}

func newLane(s *http2.Stream) *lane { return &lane{s: s} }

// Read implements side.
func (l *lane) Read(p []byte) (int, error) { return l.s.Read(p) }

// Write implements side. Every write leaves at once.
func (l *lane) Write(p []byte) (int, error) {
	if err := l.s.WriteData(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends the direction to the client.
func (l *lane) CloseWrite() error { return l.s.WriteData(nil, true) }

// Close resets the stream, unless both directions have ended.
func (l *lane) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.retired {
		l.s.Abort(h2.ErrCodeCancel)
	}
	return nil
}

// SetDeadline closes the lane at a time; the zero time is never.
func (l *lane) SetDeadline(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if !at.IsZero() {
		l.timer = time.AfterFunc(time.Until(at), func() { l.Close() })
	}
	return nil
}

// retire gives up the stream: what still holds the lane cannot touch it.
func (l *lane) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
