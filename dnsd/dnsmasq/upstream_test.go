package dnsmasq_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A script is upstream servers that answer by rule and note what they are
// asked.
type script struct {
	addrs []netip.AddrPort

	// alike has all servers say the same, and only after a moment in which
	// others can be asked as well: whose answer comes first does not matter then.
	alike atomic.Bool

	mu    sync.Mutex
	asked []string // guarded by mu
}

// newScript starts n servers.
func newScript(t testing.TB, n int) *script {
	t.Helper()
	s := &script{}
	var loops sync.WaitGroup
	for i := range n {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.addrs = append(s.addrs, conn.LocalAddr().(*net.UDPAddr).AddrPort())
		loops.Go(func() { s.serve(conn, i) })
		t.Cleanup(func() { conn.Close() })
	}
	return s
}

func (s *script) serve(conn net.PacketConn, i int) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(buf[:n]) != nil {
			continue
		}
		q := m.Question[0]
		if strings.Contains(strings.ToLower(q.Name), ".clonegate-loop-probe.") || isLoopProbe(q) {
			continue // no client has asked that
		}
		s.mu.Lock()
		s.asked = append(s.asked, fmt.Sprintf("U%d %s %s", i, strings.ToLower(q.Name), dns.Type(q.Qtype)))
		s.mu.Unlock()
		wait, who := time.Duration(0), i
		if s.alike.Load() {
			wait, who = 10*time.Millisecond, 0
		}
		if wire, err := scripted(m, who).Pack(); err == nil {
			time.AfterFunc(wait, func() { conn.WriteTo(wire, from) })
		}
	}
}

// isLoopProbe reports whether dnsmasq looks for loops.
func isLoopProbe(q dns.Question) bool {
	hex, isTest := strings.CutSuffix(q.Name, ".test.")
	_, err := strconv.ParseUint(hex, 16, 32)
	return isTest && err == nil && len(hex) == 8 && q.Qtype == dns.TypeTXT
}

// take returns what was asked since the last call, each question once.
func (s *script) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.asked
	s.asked = nil
	slices.Sort(out)
	return slices.Compact(out)
}

// scripted returns what server i says: the first label of a name decides.
func scripted(m *dns.Msg, i int) *dns.Msg {
	q := m.Question[0]
	r := new(dns.Msg)
	r.SetReply(m)
	r.RecursionAvailable = true
	soa := fmt.Sprintf("%s 60 IN SOA ns. host. 1 2 3 4 60", q.Name)
	label, _, _ := strings.Cut(strings.ToLower(q.Name), ".")
	var text string
	switch {
	case strings.HasPrefix(label, "nx"):
		r.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA && label == "private":
		text = "300 IN A 10.9.8.7"
	case q.Qtype == dns.TypeA && label == "loopback":
		text = "300 IN A 127.0.0.5"
	case q.Qtype == dns.TypeA && label == "bogus":
		text = "300 IN A 64.94.110.11"
	case q.Qtype == dns.TypeA:
		text = fmt.Sprintf("300 IN A 8.8.%d.8", i)
	case q.Qtype == dns.TypeAAAA && label == "private":
		text = "300 IN AAAA fd00::7"
	case q.Qtype == dns.TypeAAAA && label != "v4":
		text = fmt.Sprintf("300 IN AAAA 2a00::%d", i+1)
	case q.Qtype == dns.TypeTXT:
		text = fmt.Sprintf("300 IN TXT up%d", i)
	case q.Qtype == dns.TypeMX:
		text = "300 IN MX 10 mail.up.test."
	case q.Qtype == dns.TypeSRV:
		text = "300 IN SRV 1 2 3 srv.up.test."
	}
	if text != "" {
		rr, err := dns.NewRR(q.Name + " " + text)
		if err != nil {
			panic(err)
		}
		r.Answer = []dns.RR{rr}
	} else {
		rr, err := dns.NewRR(soa)
		if err != nil {
			panic(err)
		}
		r.Ns = []dns.RR{rr}
	}
	return r
}
