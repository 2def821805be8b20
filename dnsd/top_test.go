package dnsd_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// TestTop: what is asked for often is known with its count, however many other
// names there are, and the past is forgotten.
func TestTop(t *testing.T) {
	var c clock
	s := serveWith(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, func(s *dnsd.Server) { s.SetClock(c.now) }, nil, &dnsd.Resolver{Clone: "1234"})
	for i := range 150 {
		c.advance(time.Second) // so that each is counted
		for range 4 {
			ask(t, s.addrs[0], "www-1234."+zone+".", dns.TypeA)
		}
		ask(t, s.addrs[0], fmt.Sprintf("no-%d.%s.", i, zone), dns.TypeA)
	}
	ask(t, s.addrs[1], "DB.", dns.TypeA)
	top, err := s.Top("")
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Names) != 100 || top.Names[0] != (dnsd.TopCounter{Key: "www-1234." + zone + ".", Count: 600}) {
		t.Errorf("%d names, first %+v; want 100, first www-1234 600 times", len(top.Names), top.Names[0])
	}
	if len(top.Clients) != 1 || top.Clients[0] != (dnsd.TopCounter{Key: "127.0.0.1", Count: 750}) {
		t.Errorf("clients %+v, want 127.0.0.1 750 times", top.Clients)
	}
	own, err := s.Top("1234")
	if err != nil || own.Clone != "1234" || len(own.Names) != 1 || own.Names[0].Key != "db." {
		t.Errorf("the resolver's: %+v, %v; want db.", own, err)
	}
	c.advance(10 * time.Minute)
	if top, _ = s.Top(""); top.Clients[0].Count != 375 {
		t.Errorf("ten minutes later: %+v, want half of 750", top.Clients)
	}
	c.advance(24 * time.Hour)
	if top, _ = s.Top(""); len(top.Names)+len(top.Clients) != 0 {
		t.Errorf("a day later: %+v, want nothing", top)
	}
	if _, err := s.Top("9"); err == nil {
		t.Error("an unknown listener has counts")
	}
}

// TestTopIsFair: of very many questions in one second some are counted for all.
func TestTopIsFair(t *testing.T) {
	top := dnsd.CountTop(t, 100_000, netip.MustParseAddr("192.0.2.7"))
	if n := top.Clients[0].Count; n < 80_000 || n > 120_000 {
		t.Errorf("100,000 questions were counted as %d", n)
	}
}
