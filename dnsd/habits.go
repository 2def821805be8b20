package dnsd

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Habits are how a Server deals with upstream servers and with its clients,
// where tastes differ. The zero value has the habits of DESIGN: the next server
// of a group is asked when one is silent for 200 ms, and the first answer wins.
type Habits struct {
	// StrictOrder asks the servers of a group in the order in which they are
	// named, whatever came of them before. The next one is asked when one has
	// failed, or has been silent for a second.
	StrictOrder bool

	// AllServers asks all servers of a group at once.
	AllServers bool

	// Retry is how long the servers asked may be silent until one more is
	// asked, or one of them again. Zero means 200 ms, and that each is asked
	// again only once it has failed.
	Retry time.Duration

	// Patience is how long a question may wait for upstreams. Zero means 5 s.
	Patience time.Duration

	// MaxWaiting bounds how many questions wait for one group of upstreams.
	// Zero means 1000.
	MaxWaiting int

	// SourcePort is the port that all questions over UDP leave from, 0 one that
	// the system chooses at the start. Nil: every question leaves from a random
	// port of its own, one from FirstPort to LastPort unless both are 0.
	SourcePort          *uint16
	FirstPort, LastPort uint16

	// Sources is where questions to some servers leave from, whatever stands
	// above.
	Sources map[netip.AddrPort]Source

	// EDNSSize is the largest message over UDP, in octets, that is sent to
	// clients and asked of upstreams: 512 to 4096. Zero means 1232, which passes
	// without fragments.
	EDNSSize int

	// MaxConns bounds the TCP connections of one listener. Zero means 256.
	MaxConns int

	// StaleFor is how long past its end an answer with data may be given while
	// upstreams are silent. Zero means an hour. StaleFirst gives it at once, and
	// has it renewed for those who ask later.
	StaleFor   time.Duration
	StaleFirst bool
}

// A Source is where questions to a server leave from: an address of this
// machine, an interface, or both.
type Source struct {
	Addr      netip.Addr // invalid: any
	Interface string     // "": as routes say
}

// strictRetry is how long a server that comes first may be silent: the one
// after it may know less.
const strictRetry = time.Second

// check returns nil if a server can have these habits.
func (h Habits) check() error {
	switch {
	case h.EDNSSize != 0 && (h.EDNSSize < plainSize || h.EDNSSize > maxUpstreamUDP):
		return fmt.Errorf("messages of %d octets; want %d to %d", h.EDNSSize, plainSize, maxUpstreamUDP)
	case h.FirstPort > h.LastPort:
		return fmt.Errorf("source ports from %d to %d; the last one is below the first", h.FirstPort, h.LastPort)
	case h.MaxWaiting < 0 || h.MaxConns < 0 || h.Retry < 0 || h.Patience < 0 || h.StaleFor < 0:
		return fmt.Errorf("a bound below 0: %+v", h)
	}
	return nil
}

// filled returns the habits with what is not set as it is by default.
func (h Habits) filled() Habits {
	h.MaxWaiting = cmp.Or(h.MaxWaiting, maxWaitingPerGroup)
	h.EDNSSize = cmp.Or(h.EDNSSize, maxSize)
	h.MaxConns = cmp.Or(h.MaxConns, maxConns)
	h.StaleFor = cmp.Or(h.StaleFor, maxStale)
	return h
}

// apply changes what a server waits for.
func (h Habits) apply(t *timing) {
	if h.StrictOrder {
		t.hedge = strictRetry
	}
	t.hedge = cmp.Or(h.Retry, t.hedge)
	t.total = cmp.Or(h.Patience, t.total)
	t.try = min(max(t.try, 2*t.hedge), t.total)
}

// needsSocket reports whether a question has to leave in a way that couriers
// do not know.
func (h *Habits) needsSocket() bool {
	return h.AllServers || h.SourcePort != nil || h.LastPort != 0 || len(h.Sources) > 0
}

// dialer returns what connects to a server.
func (h *Habits) dialer(network string, server netip.AddrPort) net.Dialer {
	from, ok := h.Sources[server]
	if !ok {
		return net.Dialer{}
	}
	d := net.Dialer{}
	switch {
	case !from.Addr.IsValid():
	case network == "tcp":
		d.LocalAddr = &net.TCPAddr{IP: from.Addr.AsSlice(), Zone: from.Addr.Zone()}
	default:
		d.LocalAddr = &net.UDPAddr{IP: from.Addr.AsSlice(), Zone: from.Addr.Zone()}
	}
	if from.Interface != "" {
		d.Control = func(_, _ string, conn syscall.RawConn) error { return bindToInterface(conn, from.Interface) }
	}
	return d
}
