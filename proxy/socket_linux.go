package proxy

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// A socket is a TCP connection whose octets move by system calls that the
// scheduler is not told of. They never block, so there is nothing to tell, and
// telling costs a twentieth of a small request: more on a busy machine, where
// the runtime takes a call that was preempted for one that blocks.
type socket struct {
	net.Conn
	raw syscall.RawConn
	in  direction
	out direction

	peek  func(fd uintptr)
	octet byte // for isQuiet
	quiet bool // what peek found
}

// A direction is the reading or the writing half of a socket.
type direction struct {
	mu   sync.Mutex // guards the following
	p    []byte     // what is left of the caller's octets
	n    int        // octets moved
	err  syscall.Errno
	move func(fd uintptr) bool
}

// newSocket returns a connection that reads and writes as c does.
func newSocket(c net.Conn) net.Conn {
	tcp, ok := bare(c).(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c // closed: every use will say so
	}
	s := &socket{Conn: c, raw: raw}
	s.in.move, s.out.move = s.in.read, s.out.write
	s.peek = func(fd uintptr) { s.quiet = isQuiet(fd, &s.octet) }
	return s
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	d := &s.in
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p, d.n, d.err = p, 0, 0
	err := s.raw.Read(d.move)
	d.p = nil
	switch {
	case err != nil:
		return 0, err
	case d.err != 0:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", d.err)}
	case d.n == 0:
		return 0, io.EOF
	}
	return d.n, nil
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	d := &s.out
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p, d.n, d.err = p, 0, 0
	err := s.raw.Write(d.move)
	d.p = nil
	if err == nil && d.err != 0 {
		err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", d.err)}
	}
	return d.n, err
}

// read moves octets once. It returns false if there are none yet.
func (d *direction) read(fd uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(d.p))), uintptr(len(d.p)))
		switch err {
		case 0:
			d.n = int(n)
			return true
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			d.err = err
			return true
		}
	}
}

// write moves all octets. It returns false when there is no room for more yet.
func (d *direction) write(fd uintptr) bool {
	for len(d.p) > 0 {
		n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(d.p))), uintptr(len(d.p)))
		switch err {
		case 0:
			d.p = d.p[n:]
			d.n += int(n)
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			d.err = err
			return true
		}
	}
	return true
}

// isQuiet reports whether the other end has neither closed the connection nor
// sent anything. If not, the connection must be closed: an octet may be lost.
func (s *socket) isQuiet() bool {
	s.quiet = false
	return s.raw.Control(s.peek) == nil && s.quiet
}

// isQuiet reports whether there is nothing to read, not even the end. Otherwise
// an octet may have been read.
func isQuiet(fd uintptr, octet *byte) bool {
	_, _, err := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(octet)), 1)
	return err == syscall.EAGAIN
}

// CloseWrite ends the sending half of the connection.
func (s *socket) CloseWrite() error { return closeWrite(s.Conn) }

// NetConn returns what the socket is made of.
func (s *socket) NetConn() net.Conn { return s.Conn }
