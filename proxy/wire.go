package proxy

import (
	"net"
	"sync"
)

// A wire is a client's TCP connection, under TLS. It can hold what is written,
// so that the records of a long body leave in one system call.
type wire struct {
	net.Conn
	mu   sync.Mutex
	held *[]byte // guarded by mu; nil: nothing is held
}

// Write writes p now, or when it is released.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		return w.Conn.Write(p)
	}
	*w.held = append(*w.held, p...)
	return len(p), nil
}

// hold keeps what is written in a buffer.
func (w *wire) hold(buf *[]byte) {
	*buf = (*buf)[:0]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = buf
}

// release writes what was held.
func (w *wire) release() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	held := *w.held
	w.held = nil
	_, err := w.Conn.Write(held)
	return err
}

// CloseWrite ends the sending half of the connection.
func (w *wire) CloseWrite() error { return closeWrite(w.Conn) }

// reset closes the connection so that what was sent is not taken for complete.
func (w *wire) reset() {
	if l, ok := bare(w.Conn).(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	w.Close()
}
