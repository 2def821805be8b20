//go:build linux && (amd64 || arm64)

package dnsd

import (
	"context"
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
	buf   []byte  // for what arrives
	out   *outbox // for what clients are told

	mu    sync.Mutex
	lines map[int32]*line            // guarded by mu; by socket
	idle  map[netip.AddrPort][]*line // guarded by mu; by server, longest first
	order []*attempt                 // guarded by mu; by age, those that have ended included, but for the oldest
	alarm *time.Timer                // guarded by mu; rings when the oldest has been silent for too long
	state courierState               // guarded by mu
}

type courierState int

const (
	unready courierState = iota
	working
	closed
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
	c := &courier{
		s: s, epoll: os.NewFile(uintptr(fd), "epoll"), buf: make([]byte, maxUpstreamUDP), out: new(outbox),
		lines: map[int32]*line{}, idle: map[netip.AddrPort][]*line{},
	}
	c.raw, err = c.epoll.SyscallConn()
	return c, err
}

// run brings answers back until ctx ends.
func (c *courier) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { c.epoll.Close() })
	defer stop()
	defer c.close(ctx)
	c.mu.Lock()
	c.alarm = time.AfterFunc(time.Hour, func() { c.ring(ctx) })
	c.state = working
	c.mu.Unlock()
	events := make([]unix.EpollEvent, 64)
	arrivals := make([]arrival, 0, len(events))
	n := 0
	ready := func(fd uintptr) bool {
		n, _ = unix.EpollWait(int(fd), events, 0)
		return n > 0
	}
	for c.raw.Read(ready) == nil {
		arrivals = c.arrived(events[:n], arrivals[:0])
		for _, a := range arrivals {
			c.read(ctx, a.line, a.attempt)
		}
		clear(arrivals)
		c.out.flush()
		runtime.Gosched() // lets more arrive for the next round
	}
}

// An arrival is a socket at which something waits to be read, for an attempt
// or for nobody.
type arrival struct {
	line    *line
	attempt *attempt
}

// arrived appends the sockets that events are about to to.
func (c *courier) arrived(events []unix.EpollEvent, to []arrival) []arrival {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, event := range events {
		if l := c.lines[event.Fd]; l != nil {
			to = append(to, arrival{l, l.attempt})
		}
	}
	return to
}

// close gives up whatever is still on its way.
func (c *courier) close(ctx context.Context) {
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
			a.flight.land(ctx, &entry{key: a.flight.key, failure: context.Canceled.Error()}, nil)
		}
	}
}

// carry sends a flight's question to the first of its servers. It reports
// false if that is not possible.
func (v *view) carry(f *flight) bool {
	if len(v.couriers) == 0 || v.habits.needsSocket() {
		return false
	}
	server, ok := v.first(f.group)
	if !ok {
		return false
	}
	c := v.couriers[v.turn.Add(1)%uint32(len(v.couriers))]
	f.attempt = attempt{flight: f, server: server, query: v.upstreamQuery(f.q, server, true), start: time.Now(), courier: c}
	return c.send(&f.attempt)
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
	if _, errno := transfer(unix.SYS_SENDTO, l.fd, a.query); errno != 0 {
		c.mu.Lock()
		taken := a.result != nil
		a.ended, l.attempt = true, nil
		c.mu.Unlock()
		c.hangUpLocked(l)
		return taken // by a flight that was told of silence
	}
	return true
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
	for len(c.order) > 1 && c.order[0].ended { // so that they are not held until the alarm rings
		c.order[0] = nil
		c.order = c.order[1:]
	}
	c.mu.Unlock()
	if !again {
		c.hangUp(l)
	}
	return true
}

// read reads what arrived at a socket for an attempt, or for nobody if that is
// nil.
func (c *courier) read(ctx context.Context, l *line, a *attempt) {
	l.mu.Lock()
	if l.shut {
		l.mu.Unlock()
		return
	}
	n, errno := transfer(unix.SYS_RECVFROM, l.fd, c.buf)
	l.mu.Unlock()
	if a == nil {
		return // too late, or sent twice
	}
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return
	default:
		c.bring(ctx, a, nil, errno)
		return
	}
	p := c.buf[:n]
	if c.settlePlain(ctx, a, p) {
		return
	}
	m, isReply := readReply(p, len(c.buf), a.query)
	if !isReply {
		isRight := c.s.noteCase(a.server, p, a.query)
		c.s.metrics.upstreamIgnored.Inc()
		if a.ignored++; a.ignored < maxIgnored && !isRight {
			return
		}
		m = &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}} // somebody guesses: over TCP they cannot
	}
	c.bring(ctx, a, m, nil)
}

// settlePlain ends an attempt, and its flight, with a reply that need not be
// unpacked. It reports false, and leaves everything as it is, if it must be.
func (c *courier) settlePlain(ctx context.Context, a *attempt, p []byte) bool {
	f := a.flight
	defer f.guard(ctx)
	e := f.plain(p, a.query, len(c.buf), c.s.now())
	if e == nil {
		return false
	}
	if !a.end(true) {
		return true
	}
	if a.result != nil { // its flight asks others as well
		m, isReply := readReply(p, len(c.buf), a.query)
		if !isReply {
			m = &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}}
		}
		a.result <- m
		return true
	}
	c.note(a)
	f.keep(ctx, e, c.out)
	return true
}

// note notes that a server has answered.
func (c *courier) note(a *attempt) {
	c.s.metrics.upstreamSeconds.Observe(time.Since(a.start).Seconds())
	c.s.health.note(a.server, false, c.s.now())
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
		c.settle(ctx, a, clean)
	default:
		c.s.tasks.Go(func() { a.flight.finish(ctx, a) })
	}
}

// isPlain reports whether a reply is an answer as it stands.
func isPlain(m *dns.Msg) bool {
	return m != nil && !m.Truncated && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError)
}

// settle ends the flight with a plain answer.
func (c *courier) settle(ctx context.Context, a *attempt, clean *dns.Msg) {
	defer a.flight.guard(ctx)
	c.note(a)
	a.flight.arrive(ctx, clean, c.out)
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
