package dnsd

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// A RateLimit bounds how many answers authoritative listeners send to one
// network by UDP, an IPv4 /24 or an IPv6 /56. Whoever forges the address of a
// victim has us answer the victim; clients that are really there come by TCP,
// which has bounds of its own.
type RateLimit struct {
	// PerSecond is how many answers one network gets in a second; one that was
	// quiet before gets five times as many at first. At most 1,000,000. Zero
	// limits nothing.
	PerSecond int

	// Slip is of how many answers beyond that one is sent truncated and without
	// any record, which makes a client ask again by TCP; the others are not sent.
	// At most 10. Zero sends none of them.
	Slip int

	// Exempt lists networks without a limit. Empty: loopback, link-local and
	// private networks, to which nobody outside can have us answer.
	Exempt []netip.Prefix
}

// Bounds of a limiter. What clients remember they ask for again after ownTTL,
// so that is for how long one may spend what it saved.
const (
	maxRate      = 1_000_000
	maxSlip      = 10
	rateBurst    = ownTTL * 1_000_000 // µs
	rateSets     = 1 << 13
	rateWays     = 8 // of 8 octets each: a set is one cache line
	rateLogPause = int64(time.Minute)
	ratePrefixV4 = 24
	ratePrefixV6 = 56
	slotTimeBits = 40
	slotSlipBits = 4
	slotTimeMask = 1<<slotTimeBits - 1
	slotSlipMask = 1<<slotSlipBits - 1
	slotTagShift = slotTimeBits + slotSlipBits
)

// A verdict is what becomes of an answer.
type verdict int

const (
	sendWhole verdict = iota
	sendTruncated
	sendNothing
)

// A limiter counts the answers to each network in a table of fixed size, which
// all sockets share and nobody locks. A slot holds when its network will have
// used up what it got so far (the generic cell rate algorithm), how many answers
// were withheld since the last that was sent truncated, and a part of the
// network's hash. A network that finds no slot takes that of the one with the
// least to its account.
type limiter struct {
	interval int64 // µs that one answer costs
	slip     uint64
	exempt   []netip.Prefix
	seed     maphash.Seed
	sets     [rateSets][rateWays]atomic.Uint64

	log    *slog.Logger
	logged atomic.Int64 // when it was told last that a network is limited, in ns
}

// newLimiter returns nil if there is no limit.
func newLimiter(cfg RateLimit, log *slog.Logger) (*limiter, error) {
	if cfg.PerSecond < 0 || cfg.PerSecond > maxRate || cfg.Slip < 0 || cfg.Slip > maxSlip {
		return nil, fmt.Errorf("rate limit of %d answers a second, slip %d: want at most %d, and at most %d", cfg.PerSecond, cfg.Slip, maxRate, maxSlip)
	}
	if cfg.PerSecond == 0 {
		return nil, nil
	}
	l := &limiter{
		interval: 1_000_000 / int64(cfg.PerSecond), slip: uint64(cfg.Slip), exempt: cfg.Exempt,
		seed: maphash.MakeSeed(), log: log,
	}
	if len(l.exempt) == 0 {
		l.exempt = defaultClients
	}
	return l, nil
}

// judge decides about one answer to a client, and counts it.
func (l *limiter) judge(client netip.Addr, now time.Time) verdict {
	if l == nil {
		return sendWhole
	}
	client = client.Unmap().WithZone("")
	if slices.ContainsFunc(l.exempt, func(p netip.Prefix) bool { return p.Contains(client) }) {
		return sendWhole
	}
	network := networkOf(client)
	octets := network.Addr().As16()
	hash := maphash.Bytes(l.seed, octets[:])
	tag, set, micros := hash>>slotTagShift, &l.sets[hash%rateSets], now.UnixMicro()
	for {
		slot, old := find(set, tag, micros)
		var debt int64
		var withheld uint64
		if old>>slotTagShift == tag {
			debt, withheld = owed(old, micros), old>>slotTimeBits&slotSlipMask
		}
		verdict := sendWhole
		switch {
		case debt+l.interval <= rateBurst:
			debt, withheld = debt+l.interval, 0
		case withheld+1 < l.slip:
			verdict, withheld = sendNothing, withheld+1
		case l.slip > 0:
			verdict, withheld = sendTruncated, 0
		default:
			verdict = sendNothing
		}
		if slot.CompareAndSwap(old, tag<<slotTagShift|withheld<<slotTimeBits|uint64(micros+debt)&slotTimeMask) {
			if verdict != sendWhole {
				l.tell(network, now)
			}
			return verdict
		}
	}
}

// find returns the slot of a tag or the one it may take, and what is in it.
func find(set *[rateWays]atomic.Uint64, tag uint64, micros int64) (*atomic.Uint64, uint64) {
	least, leastDebt, leastHeld := 0, int64(rateBurst+1), uint64(0)
	for i := range set {
		held := set[i].Load()
		if held>>slotTagShift == tag {
			return &set[i], held
		}
		if debt := owed(held, micros); debt < leastDebt {
			least, leastDebt, leastHeld = i, debt, held
		}
	}
	return &set[least], leastHeld
}

// owed returns the µs until a slot's network has all of its answers again. Times
// are counted modulo 2^40; one further ahead than any account can be is past.
func owed(slot uint64, micros int64) int64 {
	ahead := int64(slot-uint64(micros)) << (64 - slotTimeBits) >> (64 - slotTimeBits)
	if ahead < 0 || ahead > rateBurst {
		return 0
	}
	return ahead
}

// networkOf returns the network whose answers are counted together with those
// of a client.
func networkOf(client netip.Addr) netip.Prefix {
	bits := ratePrefixV6
	if client.Is4() {
		bits = ratePrefixV4
	}
	network, _ := client.Prefix(bits)
	return network
}

// tell logs that answers to a network are withheld, now and then.
func (l *limiter) tell(network netip.Prefix, now time.Time) {
	last := l.logged.Load()
	if now.UnixNano()-last < rateLogPause || !l.logged.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	l.log.Warn("dns answers to a network are withheld: it asks too much, or somebody forges its address; if it is yours, raise dns.rate_limit.per_second or exempt it", "network", network)
}

// limited applies the rate limit to an answer over UDP that has not been made
// yet. ok is false if it may be made; otherwise reply is what is sent in its
// place, nil for nothing.
func (w *worker) limited(client netip.Addr) (reply []byte, ok bool) {
	if w.recursive() {
		return nil, false
	}
	v := w.limiter.judge(client, w.query.start)
	if v == sendWhole {
		return nil, false
	}
	if v == sendNothing || !w.query.whole {
		w.metrics.rateDropped.Inc()
		return nil, true
	}
	w.metrics.rateTruncated.Inc()
	reply = appendHeader(w.out[:0], &w.query, &nothing, dns.RcodeSuccess, false, true, false)
	if w.query.edns {
		reply = appendOPT(reply, &w.query, w.habits.EDNSSize, dns.RcodeSuccess, nil)
	}
	return reply, true
}
