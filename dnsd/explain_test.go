package dnsd_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// TestExplain: who answers a name, in a few words.
func TestExplain(t *testing.T) {
	up := newUpstream(t, says(0, []string{" 60 IN A 198.51.100.1"}, nil))
	r := to(up)
	r.Clone = "1234"
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil, r)
	ask(t, s.addrs[0], "www-1234."+zone+".", dns.TypeA) // it is open by then
	for _, row := range []struct {
		view, name, qtype string
		want              string // rcode, then "from/owner" of each step
	}{
		{"", "www-1234." + zone, "A", "NOERROR registry/1234"},
		{"", "www-9." + zone, "A", "NXDOMAIN zone/"},
		{"", "example.com", "A", "REFUSED refused/"},
		{"1234", "db", "a", "NOERROR registry/1234"},
		{"1234", "mail.1234." + zone, "A", "NOERROR registry/1234 registry/1234"},
		{"1234", "out.1234." + zone, "A", "NOERROR registry/1234 upstream/"},
		{s.addrs[1], "www.example.net", "A", "NOERROR cache/"},
		{"1234", "www-1234." + zone, "A", "NOERROR registry/1234"},
	} {
		e, err := s.Explain(t.Context(), row.view, row.name, row.qtype)
		if err != nil {
			t.Errorf("%s in %q: %v", row.name, row.view, err)
			continue
		}
		got := e.Rcode
		for _, step := range e.Steps {
			got += " " + step.From + "/" + step.Owner
			if asks := step.From == "cache" || step.From == "upstream"; asks != (step.Upstreams == up.addr.String()) {
				t.Errorf("%s in %q: upstreams %q from %s", row.name, row.view, step.Upstreams, step.From)
			}
		}
		if got != row.want {
			t.Errorf("%s in %q: got %s, want %s", row.name, row.view, got, row.want)
		}
	}
	for _, bad := range [][3]string{{"9", "db", "A"}, {"", "db", "NONE-SUCH"}, {"", "a..b", "A"}} {
		if _, err := s.Explain(t.Context(), bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("Explain%v: no error", bad)
		}
	}
}

// TestFlush: what upstreams said is forgotten by name, by suffix, or all.
func TestFlush(t *testing.T) {
	up := newUpstream(t, says(0, []string{" 3600 IN A 198.51.100.1"}, nil))
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	names := []string{"example.com.", "www.example.com.", "wwwexample.com.", "other.net."}
	for _, row := range []struct {
		name   string
		suffix bool
		want   int
	}{
		{"EXAMPLE.com", false, 1}, {"example.com", true, 2}, {".", true, 4}, {".", false, 0}, {"nothing.org", true, 0},
	} {
		for _, name := range names {
			ask(t, s.addrs[0], name, dns.TypeA)
		}
		if n, err := s.Flush(row.name, row.suffix); n != row.want || err != nil {
			t.Errorf("Flush(%q, %t) = %d, %v; want %d", row.name, row.suffix, n, err, row.want)
		}
		if entries, bytes := s.CacheSize(); entries != len(names)-row.want || entries == 0 && bytes != 0 {
			t.Errorf("after Flush(%q, %t): %d entries of %d octets are left", row.name, row.suffix, entries, bytes)
		}
	}
	if _, err := s.Flush("a..b", false); err == nil {
		t.Error("a..b is no name, and no error")
	}
}

// TestWatch: the query log shows what passes its filter, to several at once.
func TestWatch(t *testing.T) {
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil, &dnsd.Resolver{Clone: "1234"})
	rows := []struct {
		filter dnsd.LogFilter
		want   string
	}{
		{dnsd.LogFilter{}, "www-1234." + zone + ". NOERROR, WWW-9." + zone + ". NXDOMAIN, DB. NOERROR"},
		{dnsd.LogFilter{Clone: "1234"}, "DB. NOERROR"},
		{dnsd.LogFilter{Suffix: zone}, "www-1234." + zone + ". NOERROR, WWW-9." + zone + ". NXDOMAIN"},
		{dnsd.LogFilter{Rcode: "nxdomain"}, "WWW-9." + zone + ". NXDOMAIN"},
		{dnsd.LogFilter{Client: netip.MustParsePrefix("192.0.2.0/24")}, ""},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	var mu sync.Mutex
	got := make([][]string, len(rows))
	for i, row := range rows {
		readers.Go(func() {
			if err := s.Watch(ctx, row.filter, func(e dnsd.LogEntry) error {
				mu.Lock()
				defer mu.Unlock()
				got[i] = append(got[i], e.Name+" "+e.Rcode)
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	for s.Watchers() < len(rows) {
		time.Sleep(time.Millisecond)
	}
	ask(t, s.addrs[0], "www-1234."+zone+".", dns.TypeA)
	ask(t, s.addrs[0], "WWW-9."+zone+".", dns.TypeA)
	ask(t, s.addrs[1], "DB.", dns.TypeA)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		mu.Lock()
		all := len(got[0]) == 3
		mu.Unlock()
		if all {
			break
		}
	}
	cancel()
	readers.Wait()
	for i, row := range rows {
		if text := strings.Join(got[i], ", "); text != row.want {
			t.Errorf("%+v: got %q, want %q", row.filter, text, row.want)
		}
	}
	if s.Watchers() != 0 {
		t.Error("readers that left are still told")
	}
	stop := errors.New("stop")
	go func() {
		for s.Watchers() == 0 {
			time.Sleep(time.Millisecond)
		}
		ask(t, s.addrs[1], "db.", dns.TypeA)
	}()
	if err := s.Watch(t.Context(), dnsd.LogFilter{}, func(dnsd.LogEntry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Watch = %v, want the reader's error", err)
	}
}
