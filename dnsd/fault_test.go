package dnsd_test

import (
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// faulty returns a clone whose faults begin at now, each with its own end.
func faulty(id registry.ID, faults ...*registry.Fault) *registry.Clone {
	c := shop(id)
	for i, f := range faults {
		if f.ID = uint64(i + 1); f.Percent == 0 {
			f.Percent = 100
		}
	}
	c.Faults = faults
	return c
}

func fault(spec registry.FaultSpec, until time.Time) *registry.Fault {
	return &registry.Fault{FaultSpec: spec, Until: until}
}

// TestFaults: a clone's resolver makes the trouble it was told to, until it ends.
func TestFaults(t *testing.T) {
	var c clock
	hour := c.now().Add(time.Hour)
	w := newWorld(t, shop("77"), faulty("1234",
		fault(registry.FaultSpec{Kind: registry.FaultDNSServfail, Name: "db"}, hour),
		fault(registry.FaultSpec{Kind: registry.FaultDNSNXDomain, Name: "*.1234." + zone}, hour),
		fault(registry.FaultSpec{Kind: registry.FaultDNSDelay, Name: "dual", Delay: 150}, hour),
		fault(registry.FaultSpec{Kind: registry.FaultDNSDrop, Name: "www"}, hour),
		fault(registry.FaultSpec{Kind: registry.FaultAbort, Status: 503}, hour),
	))
	s := serveWith(t, dnsd.Config{Directory: w}, func(s *dnsd.Server) { s.SetClock(c.now) }, &dnsd.Resolver{Clone: "1234"}, &dnsd.Resolver{Clone: "77"})
	if r := ask(t, s.addrs[0], "DB.", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("servfail: got %s", short(r))
	}
	if r := ask(t, s.addrs[1], "db.", dns.TypeA); r.Rcode != dns.RcodeSuccess {
		t.Errorf("another clone: got %s", short(r))
	}
	if r := ask(t, s.addrs[0], "db.1234."+zone+".", dns.TypeA); r.Rcode != dns.RcodeNameError || len(r.Ns) != 1 {
		t.Errorf("nxdomain: got %v", r)
	}
	if r := ask(t, s.addrs[0], "1234."+zone+".", dns.TypeA); r.Rcode != dns.RcodeSuccess {
		t.Errorf("the name above those of nxdomain: got %s", short(r))
	}
	start := time.Now()
	if r := ask(t, s.addrs[0], "dual.", dns.TypeA); len(r.Answer) != 2 || time.Since(start) < 150*time.Millisecond {
		t.Errorf("delay: got %s after %v", short(r), time.Since(start))
	}
	m := new(dns.Msg)
	m.SetQuestion("www.", dns.TypeA)
	if reply := raw(t, s.addrs[0], pack(m), 50*time.Millisecond); reply != nil {
		t.Errorf("drop: got %x", reply)
	}
	if e, err := s.Explain(t.Context(), "1234", "db", "A"); err != nil || len(e.Faults) != 1 || e.Faults[0] != "fault 1: dns-servfail, questions for db, for another 1h0m0s" {
		t.Errorf("explained: %+v, %v; want the fault beside the answer", e, err)
	}

	// A fault that is removed is over at once, whatever else the clone has.
	w.set(shop("77"), faulty("1234", fault(registry.FaultSpec{Kind: registry.FaultDNSDrop, Name: "www"}, hour)))
	if r := ask(t, s.addrs[0], "db.", dns.TypeA); r.Rcode != dns.RcodeSuccess {
		t.Errorf("removed: got %s", short(r))
	}
	c.advance(2 * time.Hour)
	if r := ask(t, s.addrs[0], "www.", dns.TypeA); r.Rcode != dns.RcodeSuccess {
		t.Errorf("after its end: got %s", short(r))
	}
}

// TestFaultsOfSome: a fault befalls as many questions as it says.
func TestFaultsOfSome(t *testing.T) {
	var c clock
	w := newWorld(t, faulty("1234", fault(registry.FaultSpec{Kind: registry.FaultDNSServfail, Name: "*", Percent: 30}, c.now().Add(time.Hour))))
	s := serveWith(t, dnsd.Config{Directory: w}, func(s *dnsd.Server) { s.SetClock(c.now) }, &dnsd.Resolver{Clone: "1234"})
	failed := 0
	const asked = 1000
	for range asked {
		if r := ask(t, s.addrs[0], "db.", dns.TypeA); r.Rcode == dns.RcodeServerFailure {
			failed++
		}
	}
	if failed < asked*22/100 || failed > asked*38/100 { // five standard deviations
		t.Errorf("%d of %d questions failed, want about 30 %%", failed, asked)
	}
}

// TestFaultsThroughAMirror: a sidecar has the faults of its clone's record.
func TestFaultsThroughAMirror(t *testing.T) {
	zones, err := registry.NewZones(zone)
	if err != nil {
		t.Fatal(err)
	}
	mirror := dnsd.NewMirror(nil)
	s := serveWith(t, dnsd.Config{Directory: newWorld(t)}, nil, &dnsd.Resolver{Rules: mirror.Ahead(fixed{})})
	for _, row := range []struct {
		clone *registry.Clone
		want  int
	}{
		{shop("1234"), dns.RcodeSuccess},
		{faulty("1234", fault(registry.FaultSpec{Kind: registry.FaultDNSServfail, Name: "db"}, time.Now().Add(time.Hour))), dns.RcodeServerFailure},
		{shop("1234"), dns.RcodeSuccess},
	} {
		mirror.Set(row.clone, zones)
		if r := ask(t, s.addrs[0], "db.", dns.TypeA); r.Rcode != row.want {
			t.Errorf("with %v: got %s, want rcode %d", row.clone.Faults, short(r), row.want)
		}
	}
}

// fixed are rules that know nothing.
type fixed struct{}

func (fixed) Answer(dns.Question) *dnsd.Answer { return &dnsd.Answer{Rcode: dns.RcodeRefused} }
func (fixed) Route(dns.Question) dnsd.Route    { return dnsd.Route{} }
func (fixed) Amend(dns.Question, *dns.Msg)     {}

func (fixed) Upstreams(func(string, dnsd.Route)) {}
