//go:build amd64 || arm64

package dnsd

import (
	"cmp"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A line is a socket connected to one server.
type line struct {
	fd     int
	server netip.AddrPort
	uses   int
	since  time.Time // idle since then

	attempt *attempt // guarded by courier.mu; nil while it is idle

	mu   sync.Mutex // held while the socket is used, so that nobody closes it then
	shut bool       // guarded by mu
}

// Bounds of sockets that are used again.
const (
	maxLines         = 4096 // of all servers, per courier
	linesBeforeReuse = 1024 // idle ones of a server, per courier
	lineUses         = 32
	lineIdle         = 10 * time.Second
)

// transfer sends or receives one datagram, and returns its size. It does not
// tell the scheduler, since nothing blocks here.
func transfer(trap uintptr, fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// pick returns an idle socket to a server, or a new one if there are not enough
// of them; nil if that is not possible.
func (c *courier) pick(server netip.AddrPort) *line {
	c.mu.Lock()
	isFull := len(c.lines) >= maxLines
	if idle := c.idle[server]; len(idle) >= linesBeforeReuse || isFull && len(idle) > 0 {
		l := idle[0]
		c.idle[server] = idle[1:]
		c.mu.Unlock()
		return l
	}
	ready := c.state == working
	c.mu.Unlock()
	if !ready || isFull {
		return nil
	}
	return c.dial(server)
}

// dial opens a socket to a server, nil if that is not possible.
func (c *courier) dial(server netip.AddrPort) *line {
	family, to := sockaddr(server)
	if to == nil {
		return nil
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	l := &line{fd: fd, server: server}
	c.mu.Lock()
	c.lines[int32(fd)] = l
	c.mu.Unlock()
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	err = unix.Connect(fd, to)
	if err == nil {
		var failed error
		err = c.raw.Control(func(epoll uintptr) { failed = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, &event) })
		err = cmp.Or(err, failed)
	}
	if err != nil {
		c.hangUp(l)
		return nil
	}
	return l
}

// hangUp closes a socket.
func (c *courier) hangUp(l *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.hangUpLocked(l)
}

func (c *courier) hangUpLocked(l *line) {
	if l.shut {
		return
	}
	l.shut = true
	c.mu.Lock()
	if c.lines[int32(l.fd)] == l {
		delete(c.lines, int32(l.fd))
	}
	c.mu.Unlock()
	unix.Close(l.fd)
}

// sockaddr returns an address as the system takes it, nil if it needs more
// than that.
func sockaddr(a netip.AddrPort) (family int, to unix.Sockaddr) {
	switch {
	case a.Addr().Zone() != "":
		return 0, nil
	case a.Addr().Is4():
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
