//go:build linux

package dnsd

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// A courier carries questions to upstreams and their answers back without a
// goroutine for each. Each question has a socket to itself while it is on its
// way. A socket that brought the right answer is used again, but only after
// some thousand others, so that its port, which the system chose at random,
// says nothing about the next question. Whatever is more than one question and
// its plain answer, a courier hands over to the flight itself: silence for a
// moment, an error, an answer by TCP.
type courier struct {
	s     *Server
	epoll *os.File
	raw   syscall.RawConn

	mu    sync.Mutex
	lines map[int32]*line            // guarded by mu; by socket
	idle  map[netip.AddrPort][]*line // guarded by mu; by server, longest first
	order []*attempt                 // guarded by mu; by age, those that have ended included
	alarm *time.Timer                // guarded by mu; rings when the oldest has been silent for too long
	state courierState               // guarded by mu
}

type courierState int

const (
	unready courierState = iota
	working
	closed
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
	linesBeforeReuse = 1024 // idle ones of a server, per courier
	lineUses         = 32
	lineIdle         = 10 * time.Second
)

// An attempt is one question to one server.
type attempt struct {
	flight  *flight
	server  netip.AddrPort
	query   []byte
	line    *line
	start   time.Time
	ignored int           // messages that were no reply to it
	ended   bool          // guarded by courier.mu
	result  chan *dns.Msg // guarded by courier.mu; where the answer goes, nil while the courier sees to it
	err     error         // if nil was sent to result
	courier *courier
}

func newCourier(s *Server) (*courier, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	c := &courier{s: s, epoll: os.NewFile(uintptr(fd), "epoll"), lines: map[int32]*line{}, idle: map[netip.AddrPort][]*line{}}
	c.raw, err = c.epoll.SyscallConn()
	return c, err
}

// run brings answers back until ctx ends.
func (c *courier) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { c.epoll.Close() })
	defer stop()
	defer c.close()
	c.mu.Lock()
	c.alarm = time.AfterFunc(time.Hour, func() { c.ring(ctx) })
	c.state = working
	c.mu.Unlock()
	events := make([]unix.EpollEvent, 64)
	buf := make([]byte, maxUpstreamUDP)
	n := 0
	ready := func(fd uintptr) bool {
		n, _ = unix.EpollWait(int(fd), events, 0)
		return n > 0
	}
	for c.raw.Read(ready) == nil {
		for _, event := range events[:n] {
			c.mu.Lock()
			l := c.lines[event.Fd]
			var a *attempt
			if l != nil {
				a = l.attempt
			}
			c.mu.Unlock()
			if l != nil {
				c.read(ctx, l, a, buf)
			}
		}
		runtime.Gosched() // lets more arrive for the next round
	}
}

// close gives up whatever is still on its way.
func (c *courier) close() {
	c.mu.Lock()
	c.state = closed
	c.alarm.Stop()
	var left []*attempt
	var idle []*line
	for _, l := range c.lines {
		switch {
		case l.attempt == nil:
			idle = append(idle, l)
		case l.attempt.result == nil: // else its flight ends with ctx
			left = append(left, l.attempt)
		}
	}
	c.mu.Unlock()
	for _, l := range idle {
		c.hangUp(l)
	}
	for _, a := range left {
		if a.end(false) {
			a.flight.land(&entry{key: a.flight.key, failure: context.Canceled.Error()})
		}
	}
}

// carry sends a flight's question to the first of its servers. It reports
// false if that is not possible.
func (v *view) carry(f *flight) bool {
	if len(v.couriers) == 0 || v.habits.needsSocket() {
		return false
	}
	servers := v.order(f.group)
	if len(servers) == 0 || v.health.isDown(servers[0]) {
		return false
	}
	c := v.couriers[v.turn.Add(1)%uint32(len(v.couriers))]
	a := &attempt{flight: f, server: servers[0], query: v.upstreamQuery(f.q, servers[0], true), start: time.Now(), courier: c}
	return c.send(a)
}

// send sends the question of an attempt, over a socket that only it uses.
func (c *courier) send(a *attempt) bool {
	l := c.pick(a.server)
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.mu.Lock()
	if c.state != working || l.shut {
		c.mu.Unlock()
		c.hangUpLocked(l)
		return false
	}
	a.line, l.attempt = l, a
	if len(c.order) == 0 {
		c.alarm.Reset(c.patience())
	}
	c.order = append(c.order, a)
	c.mu.Unlock()
	l.uses++
	if _, err := unix.Write(l.fd, a.query); err != nil {
		c.mu.Lock()
		taken := a.result != nil
		a.ended, l.attempt = true, nil
		c.mu.Unlock()
		c.hangUpLocked(l)
		return taken // by a flight that was told of silence
	}
	return true
}

// pick returns an idle socket to a server, or a new one if there are not
// thousands of them; nil if that is not possible.
func (c *courier) pick(server netip.AddrPort) *line {
	c.mu.Lock()
	if idle := c.idle[server]; len(idle) >= linesBeforeReuse {
		l := idle[0]
		c.idle[server] = idle[1:]
		c.mu.Unlock()
		return l
	}
	ready := c.state == working
	c.mu.Unlock()
	if !ready {
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

// end ends an attempt; its socket is used again if it brought the answer. It
// reports false if it had ended before.
func (a *attempt) end(answered bool) bool {
	c, l := a.courier, a.line
	c.mu.Lock()
	if a.ended {
		c.mu.Unlock()
		return false
	}
	a.ended, l.attempt = true, nil
	again := answered && l.uses < lineUses && c.state == working
	if again {
		l.since = a.start
		c.idle[l.server] = append(c.idle[l.server], l)
	}
	c.mu.Unlock()
	if !again {
		c.hangUp(l)
	}
	return true
}

// read reads what arrived at a socket for an attempt, or for nobody if that is
// nil.
func (c *courier) read(ctx context.Context, l *line, a *attempt, buf []byte) {
	l.mu.Lock()
	if l.shut {
		l.mu.Unlock()
		return
	}
	n, err := unix.Read(l.fd, buf)
	l.mu.Unlock()
	if a == nil {
		return // too late, or sent twice
	}
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case err != nil:
		c.bring(ctx, a, nil, err)
		return
	}
	m, isReply := readReply(buf[:n], len(buf), a.query)
	if !isReply {
		c.s.noteCase(a.server, buf[:n], a.query)
		c.s.metrics.upstreamIgnored.Inc()
		if a.ignored++; a.ignored < maxIgnored {
			return
		}
		m = &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}} // somebody guesses: over TCP they cannot
	}
	c.bring(ctx, a, m, nil)
}

// bring ends an attempt with what came of it.
func (c *courier) bring(ctx context.Context, a *attempt, m *dns.Msg, err error) {
	if !a.end(isPlain(m)) {
		return
	}
	var clean *dns.Msg
	if isPlain(m) {
		clean, _ = c.s.clean(m, a.flight.q) // what is wrong with it shows again when others have been asked
	}
	c.mu.Lock()
	a.err = err
	result := a.result
	if result == nil && clean == nil {
		a.result = make(chan *dns.Msg, 1)
		a.result <- m
	}
	c.mu.Unlock()
	switch {
	case result != nil:
		result <- m
	case clean != nil:
		c.settle(a, clean)
	default:
		c.s.tasks.Go(func() { a.flight.finish(ctx, a) })
	}
}

// isPlain reports whether a reply is an answer as it stands.
func isPlain(m *dns.Msg) bool {
	return m != nil && !m.Truncated && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError)
}

// settle ends the flight with a plain answer.
func (c *courier) settle(a *attempt, clean *dns.Msg) {
	f := a.flight
	defer func() {
		if p := recover(); p != nil {
			f.land(&entry{key: f.key, failure: c.s.panicked(p).Error()})
		}
	}()
	c.s.metrics.upstreamSeconds.Observe(time.Since(a.start).Seconds())
	c.s.health.note(a.server, false, c.s.now())
	f.arrive(clean)
}

// patience is for how long silence is nothing unusual.
func (c *courier) patience() time.Duration { return min(c.s.timing.hedge, c.s.timing.try) }

// ring hands those that have been silent for a moment over to their flights,
// which ask others as well, and closes sockets that nobody needed for a while.
func (c *courier) ring(ctx context.Context) {
	now := time.Now()
	c.mu.Lock()
	for len(c.order) > 0 {
		a := c.order[0]
		if !a.ended {
			if wait := c.patience() - now.Sub(a.start); wait > 0 && c.state == working {
				c.alarm.Reset(wait)
				break
			}
			a.result = make(chan *dns.Msg, 1)
			c.s.tasks.Go(func() { a.flight.finish(ctx, a) })
		}
		c.order[0] = nil
		c.order = c.order[1:]
	}
	var old []*line
	for server, idle := range c.idle {
		n := slices.IndexFunc(idle, func(l *line) bool { return now.Sub(l.since) < lineIdle })
		if n < 0 {
			n = len(idle)
			delete(c.idle, server)
		} else {
			c.idle[server] = idle[n:]
		}
		old = append(old, idle[:n]...)
	}
	if len(c.order) == 0 && len(c.idle) > 0 && c.state == working {
		c.alarm.Reset(lineIdle)
	}
	c.mu.Unlock()
	for _, l := range old {
		c.hangUp(l)
	}
}

// over reports whether something came of an attempt.
func (a *attempt) over() bool {
	a.courier.mu.Lock()
	defer a.courier.mu.Unlock()
	return a.ended
}

// wait returns what came of an attempt that was handed over.
func (a *attempt) wait(ctx context.Context) (*dns.Msg, error) {
	select {
	case m := <-a.result:
		if m == nil {
			return nil, ctxError(ctx, a.err)
		}
		return m, nil
	case <-ctx.Done():
		a.end(false)
		return nil, ctxError(ctx, ctx.Err())
	}
}
