package proxy

import (
	"io"
	"sync"
	"time"
)

const (
	// pieceTime is how long a piece of what is paced takes at most, so that
	// octets trickle and do not come in gushes.
	pieceTime = 50 * time.Millisecond
	// pieceBytes is the most of a piece.
	pieceBytes = largeBuffer
	// paceSlack is how late a timer may be without the rate's sinking.
	paceSlack = 50 * time.Millisecond
	// paceGrain is what nobody waits for: it adds up to what somebody does.
	paceGrain = time.Millisecond
)

// A pacer is a link of so many octets a second, which all who use it share. A
// piece has passed when those before it have, and it has had its own time.
type pacer struct {
	rate int64

	mu   sync.Mutex
	free time.Time // guarded by mu; when all that was sent has passed
}

// piece returns how many octets may be sent at once.
func (p *pacer) piece() int {
	return int(max(1, min(pieceBytes, p.rate*int64(pieceTime)/int64(time.Second))))
}

// send returns how long it takes until n octets, sent now, have passed.
func (p *pacer) send(n int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := now.Add(-paceSlack); p.free.Before(earliest) {
		p.free = earliest
	}
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	return p.free.Sub(now)
}

// A strait is a fault's limit of one direction.
type strait struct {
	fault *trouble
	pacer *pacer
}

// straits are what the octets of one direction of a request or tunnel go through.
// Each is one no more when its fault has ended.
type straits struct {
	all    []strait
	halted <-chan struct{} // when it closes, nothing waits any more; may be nil
}

func upStraits(faults []*trouble, halted <-chan struct{}) *straits {
	return newStraits(faults, halted, func(t *trouble) *pacer { return t.up })
}

func downStraits(faults []*trouble, halted <-chan struct{}) *straits {
	return newStraits(faults, halted, func(t *trouble) *pacer { return t.down })
}

func newStraits(faults []*trouble, halted <-chan struct{}, of func(*trouble) *pacer) *straits {
	l := &straits{halted: halted}
	for _, t := range faults {
		if p := of(t); p != nil {
			l.all = append(l.all, strait{t, p})
		}
	}
	return l
}

// piece returns how many of n octets may be sent at once.
func (l *straits) piece(n int) int {
	now := time.Now()
	for _, k := range l.all {
		if k.fault.left(time.Second, now) > 0 {
			n = min(n, k.pacer.piece())
		}
	}
	return n
}

// pass waits until n octets have passed. It returns false if they were halted on
// their way.
func (l *straits) pass(n int) bool {
	for _, k := range l.all {
		now := time.Now()
		if k.fault.left(time.Second, now) <= 0 {
			continue
		}
		d := k.fault.left(k.pacer.send(n, now), now)
		if d < paceGrain {
			continue
		}
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
		case <-k.fault.over:
		case <-l.halted:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
	return true
}

// A slowed client is one whose octets trickle.
type slowed struct {
	client
	up, down *straits
	halt     func() // halts what goes up

	rest []byte // read of the body, but not handed out
	err  error  // that ended the body behind rest
}

func newSlowed(c client, faults []*trouble) *slowed {
	halted := make(chan struct{})
	return &slowed{client: c, up: upStraits(faults, halted), down: downStraits(faults, nil), halt: sync.OnceFunc(func() { close(halted) })}
}

// bodyIsHere implements client: what trickles is not.
func (s *slowed) bodyIsHere() bool { return len(s.up.all) == 0 && s.client.bodyIsHere() }

func (s *slowed) readBody() ([]byte, error) {
	if len(s.rest) == 0 && s.err == nil {
		s.rest, s.err = s.client.readBody()
	}
	if len(s.rest) == 0 {
		return nil, s.err
	}
	n := s.up.piece(len(s.rest))
	switch {
	case !s.up.pass(n):
		return nil, errHalted
	case s.client.gone():
		return nil, io.ErrUnexpectedEOF // at once, and not behind all that was read ahead
	}
	p := s.rest[:n]
	s.rest = s.rest[n:]
	return p, nil
}

func (s *slowed) haltBody() {
	s.halt()
	s.client.haltBody()
}

func (s *slowed) write(p []byte) error {
	for {
		n := s.down.piece(len(p))
		s.down.pass(n)
		if err := s.client.write(p[:n]); err != nil || n == len(p) {
			return err
		}
		p = p[n:]
		if err := s.client.flush(); err != nil {
			return err
		}
	}
}

// A slowSide is an end of a tunnel from which octets trickle.
type slowSide struct {
	side
	straits *straits
}

func (s *slowSide) Read(p []byte) (int, error) {
	n, err := s.side.Read(p[:s.straits.piece(len(p))])
	if n > 0 {
		s.straits.pass(n)
	}
	return n, err
}

// CloseWrite ends the direction to this end.
func (s *slowSide) CloseWrite() error { return closeWrite(s.side) }
