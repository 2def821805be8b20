package proxy

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// An asking asks questions over a socket: see ask.
type asking struct {
	s    *socket
	q    []byte // what is left of the question; nil: the answer is awaited
	sent int
	isOn bool // the other end was quiet
	step func(fd uintptr) bool
}

// newAsker returns what asks over a connection, nil if that cannot be done.
func newAsker(c net.Conn) asker {
	s, ok := c.(*socket)
	if !ok {
		return nil
	}
	a := &asking{s: s}
	a.step = a.move
	return a
}

// ask implements asker. A read that finds nothing belongs to every question:
// before the question it also shows that nothing came unasked, and then none is
// needed behind it.
func (a *asking) ask(q, p []byte) (sent, n int, err error) {
	d := &a.s.in
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p, d.n, d.err = p, 0, 0
	a.q, a.sent, a.isOn = q, 0, false
	err = a.s.raw.Read(a.step)
	isWhole := len(a.q) == 0
	d.p, a.q = nil, nil
	switch {
	case !a.isOn:
		return 0, 0, errStale
	case err == nil && d.err != 0:
		err = &net.OpError{Op: "ask", Net: "tcp", Err: os.NewSyscallError("ask", d.err)}
	case err == nil && isWhole && d.n == 0:
		err = io.EOF
	}
	return a.sent, d.n, err
}

// move sends the question, or reads what came of it. It returns false if it is
// to be called again when there is something to read.
func (a *asking) move(fd uintptr) bool {
	if a.isOn {
		return a.s.in.read(fd)
	}
	if !isQuiet(fd, &a.s.octet) {
		return true
	}
	a.isOn = true
	for len(a.q) > 0 {
		n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(a.q))), uintptr(len(a.q)))
		switch err {
		case 0:
			a.q = a.q[n:]
			a.sent += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return true // the rest has to wait for room
		default:
			a.s.in.err = err
			return true
		}
	}
	return false
}
