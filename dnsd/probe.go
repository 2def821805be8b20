package dnsd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// How upstreams are looked after.
const (
	probeEvery   = 500 * time.Millisecond // those that failed, until they answer
	loopEvery    = 30 * time.Second       // all of them, for loops
	loopPatience = 2 * time.Second        // for a question to come back
	probeMemory  = 10 * time.Minute       // for how long one that failed is probed though nobody asks it
)

// A loop probe asks for a random name that means nothing to anybody: loopMark
// behind tokenLen hexadecimal digits. Who receives it has sent it.
const (
	loopMark = ".clonegate-loop-probe."
	tokenLen = 16
)

// loops remembers which upstreams send our own questions back to us.
type loops struct {
	mu      sync.Mutex
	probed  map[netip.AddrPort]loopProbe // guarded by mu; the last probe of each upstream
	looping map[netip.AddrPort]bool      // guarded by mu
	found   atomic.Int32                 // how many loop
}

type loopProbe struct {
	token string
	at    time.Time
	back  bool
}

// due notes which upstreams are to be probed now, with the token of each.
// Those that are no longer in use are forgotten.
func (l *loops) due(inUse map[netip.AddrPort]string, now time.Time) map[netip.AddrPort]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := map[netip.AddrPort]string{}
	for server := range l.probed {
		if _, ok := inUse[server]; !ok {
			delete(l.probed, server)
			delete(l.looping, server)
			l.found.Store(int32(len(l.looping)))
		}
	}
	for server := range inUse {
		if p, ok := l.probed[server]; ok && now.Sub(p.at) < loopEvery {
			continue
		}
		if l.probed == nil {
			l.probed, l.looping = map[netip.AddrPort]loopProbe{}, map[netip.AddrPort]bool{}
		}
		var random [tokenLen / 2]byte
		rand.Read(random[:])
		due[server] = hex.EncodeToString(random[:])
		l.probed[server] = loopProbe{token: due[server], at: now}
	}
	return due
}

// cleared takes back what was said about upstreams whose last probe did not
// come back, and returns them.
func (l *loops) cleared(now time.Time) []netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []netip.AddrPort
	for server := range l.looping {
		if p := l.probed[server]; !p.back && now.Sub(p.at) > loopPatience {
			delete(l.looping, server)
			l.found.Store(int32(len(l.looping)))
			out = append(out, server)
		}
	}
	return out
}

// received notes that a probe came back. It returns the upstream that it was
// sent to if that is news.
func (l *loops) received(token string) (server netip.AddrPort, isNew bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for server, p := range l.probed {
		if p.token == token {
			p.back = true
			l.probed[server] = p
			isNew = !l.looping[server]
			l.looping[server] = true
			l.found.Store(int32(len(l.looping)))
			return server, isNew
		}
	}
	return netip.AddrPort{}, false
}

func (l *loops) has(server netip.AddrPort) bool {
	if l.found.Load() == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looping[server]
}

// answerProbe answers a question that this server itself has asked, nil if it
// is any other.
func (s *Server) answerProbe(q question) *result {
	if len(q.name) < tokenLen+len(loopMark) || q.name[tokenLen:tokenLen+len(loopMark)] != loopMark {
		return nil
	}
	if server, isNew := s.loops.received(q.name[:tokenLen]); isNew {
		s.log.Warn("upstream sends our own questions back to us and is left out until it stops; give this listener other upstreams", "upstream", server)
	}
	return refused(dns.ExtendedErrorCodeOther, "this question would go round in circles")
}

// serveProbes looks after upstreams until ctx ends: those that failed are
// asked until they answer, and each is asked a question that nobody else can
// know, to see whether it comes back.
func (s *Server) serveProbes(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		inUse := s.upstreams()
		for server, token := range s.loops.due(inUse, time.Now()) {
			name := token + loopMark + strings.TrimPrefix(inUse[server], ".")
			s.tasks.Go(func() { s.probe(ctx, server, question{name: name, qtype: dns.TypeTXT}) })
		}
		for _, server := range s.loops.cleared(time.Now()) {
			s.log.Info("upstream sends no questions back any more and is asked again", "upstream", server)
		}
		for _, server := range s.health.toProbe(s.now()) {
			s.tasks.Go(func() {
				answered := s.probe(ctx, server, question{name: ".", qtype: dns.TypeNS})
				s.health.probed(server, answered)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// probe asks a server and reports whether it says anything at all.
func (s *Server) probe(ctx context.Context, server netip.AddrPort, q question) bool {
	ctx, cancel := context.WithTimeout(ctx, s.timing.try)
	defer cancel()
	_, err := s.exchangeUDP(ctx, server, s.upstreamQuery(q, server, true))
	return err == nil
}

// upstreams returns the servers that questions may go to, each with a domain
// that it is asked about, but for this server itself.
func (s *Server) upstreams() map[netip.AddrPort]string {
	out := map[netip.AddrPort]string{}
	add := func(domain string, servers []netip.AddrPort) {
		for _, server := range servers {
			if len(out) < maxFailedServers && !s.isOwn(server) {
				out[server] = domain
			}
		}
	}
	for _, f := range *s.fronts.Load() {
		if f.view == nil {
			continue
		}
		if n := f.view.ownNames(); n != nil {
			for _, forward := range n.forward {
				add(forward.zone, forward.group.servers)
			}
		}
		if f.view.rules != nil {
			f.view.rules.Upstreams(func(domain string, r Route) { add(domain, r.servers) })
		}
		if usual := f.view.own.servers; len(usual) > 0 {
			add(".", usual)
		} else {
			add(".", s.resolvConf.group(s.now()).servers)
		}
	}
	return out
}
