package proxy

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fixedRoutes is routes that never change.
type fixedRoutes []*registry.Clone

func (r fixedRoutes) Clone(id registry.ID) (*registry.Clone, bool) {
	for _, c := range r {
		if c.ID == id {
			return c, true
		}
	}
	return nil, false
}

func (r fixedRoutes) Clones(registry.ID) iter.Seq[*registry.Clone] {
	return func(yield func(*registry.Clone) bool) {
		for _, c := range r {
			if !yield(c) {
				return
			}
		}
	}
}

func (r fixedRoutes) Lookup(string) (registry.Target, bool) { return registry.Target{}, false }
func (r fixedRoutes) Revision() uint64                      { return 1 }
func (r fixedRoutes) Changes(ctx context.Context, _ uint64) ([]registry.Change, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// pageClones are the clones that pages tell of, created before the beginning of
// synctest's time.
func pageClones() fixedRoutes {
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	services := map[string]*registry.Service{
		"www": {Endpoints: []netip.AddrPort{netip.MustParseAddrPort("10.0.4.10:8080")}, Default: true},
		"api": {Endpoints: []netip.AddrPort{netip.MustParseAddrPort("10.0.4.20:8080"), netip.MustParseAddrPort("10.0.4.21:8080")}},
	}
	clones := fixedRoutes{
		{ID: "1234", State: registry.Ready, Template: "shop@2026.11.21-1", Owner: "ada", Aliases: []string{"pr-87"}, Services: services, TTL: 120, Created: began.Add(-25 * time.Minute)},
		{ID: "1235", State: registry.Ready, Template: "shop@2026.11.21-1", Owner: "grace", Services: services, Created: began.Add(-3 * time.Hour)},
		{ID: "1236", State: registry.Starting, Template: "shop@2026.11.21-2", Owner: "ada", Reason: "waiting for api2, 3 of 4 hosts are ready", Created: began.Add(-9 * time.Second)},
		{ID: "1230", State: registry.Suspended, Template: "shop@2026.11.20-4", Owner: "linus", Services: services, Created: began.Add(-49 * time.Hour)},
		{ID: "1229", State: registry.Degraded, Template: "billing@14", Services: map[string]*registry.Service{"billing": {}}, Created: began.Add(-72 * time.Hour)},
		{ID: "1228", State: registry.Gone, Template: "shop@2026.11.20-4", Owner: "linus", Ended: began.Add(-5 * time.Minute), EndedBy: "linus"},
		{ID: "1227", State: registry.Lost, Template: "shop@2026.11.20-4", Owner: "ada", Ended: began.Add(-12 * time.Second)},
		{ID: "1226", State: registry.Failed, Template: "shop@2026.11.20-4", Owner: "ada", Reason: "host db: bin/shop: exit status 1: data/shop.db: disk is full"},
		{ID: "1225", State: registry.Stopping, Template: "shop@2026.11.20-4", Owner: "ada"},
	}
	for _, c := range clones {
		if c.ID != "1229" {
			c.Provider = "process"
		}
	}
	return clones
}

// TestPages holds what people and programs read against golden files. Look at
// the pages in a browser when they change.
func TestPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		routes := pageClones()
		zones, err := registry.NewZones("test_envs.internal.example.com", "test-envs.internal.example.com")
		if err != nil {
			t.Fatal(err)
		}
		zones.SetPort(8443)
		g, err := New(Config{
			Routes: routes, Zones: zones, TLS: new(tls.Config), CheckEndpoint: registry.NewNetworks(nil).Check,
			Lease: func(registry.ID) (registry.Lease, bool) { return registry.Lease{Left: 85 * time.Second}, true },
		})
		if err != nil {
			t.Fatal(err)
		}
		to := func(sub string, id registry.ID, service string) target {
			c, _ := routes.Clone(id)
			return target{host: sub + "." + string(zones.Zone()), sub: sub, zone: zones.Zone(), clone: c, service: service}
		}
		for reason, tt := range map[Reason]struct {
			target target
			cause  string
		}{
			UnknownZone:     {target: target{host: "127.0.0.1"}},
			NoName:          {target: target{host: string(zones.Zone()), zone: zones.Zone()}},
			UnknownClone:    {target: to("www-1243", "", "")},
			UnknownService:  {target: to("shop-1234", "1234", "")},
			Starting:        {target: to("www-1236", "1236", "")},
			Asleep:          {target: to("www-1230", "1230", "www")},
			Stopping:        {target: to("www-1225", "1225", "")},
			Gone:            {target: to("www-1228", "1228", "")},
			Lost:            {target: to("www-1227", "1227", "")},
			Failed:          {target: to("www-1226", "1226", "")},
			NoEndpoint:      {target: to("billing-1229", "1229", "billing")},
			Unhealthy:       {target: to("api-1234", "1234", "api"), cause: "10.0.4.20:8080: GET /healthz answered 500 Internal Server Error; 10.0.4.21:8080: connection refused"},
			Unreachable:     {target: to("www-1234", "1234", "www"), cause: "10.0.4.10:8080: connection refused"},
			Overloaded:      {target: to("www-1234", "1234", "www")},
			AddressRefused:  {target: to("www-1234", "1234", "www"), cause: "endpoint 10.0.4.10:8080 is a listener of this gateway itself"},
			UpstreamBroken:  {target: to("www-1234", "1234", "www"), cause: "10.0.4.10:8080: read: connection reset by peer"},
			UpstreamTimeout: {target: to("www-1234", "1234", "www")},
			Loop:            {target: to("www-1234", "1234", "www")},
			BadRequest:      {cause: `host "a b" holds the character ' '`},
			BadBody:         {target: to("www-1234", "1234", "www"), cause: "invalid byte in chunk length"},
			BodyTimeout:     {target: to("www-1234", "1234", "www")},
			HeadTooLarge:    {cause: "they have 70000 octets; at most 65536 are taken"},
			MethodRefused:   {},
			InternalError:   {},
		} {
			a := g.explain(reason, tt.target, tt.cause, "00f067aa0ba902b7")
			for _, browser := range []bool{true, false} {
				h, body, err := g.pages.render(a, browser, true)
				if err != nil {
					t.Fatalf("%s: %v", reason, err)
				}
				if h.Get("Content-Length") != fmt.Sprint(len(body)) {
					t.Errorf("%s: Content-Length %s of %d octets", reason, h.Get("Content-Length"), len(body))
				}
				if len(body) > 24<<10 {
					t.Errorf("%s: %d octets; want a small page", reason, len(body))
				}
				name := string(reason) + ".json"
				if browser {
					name = string(reason) + ".html"
				}
				golden(t, name, body)
			}
		}
	})
}

// golden compares with testdata/name, or writes it. The style and the script
// stand in files of their own and would only blur the comparison.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	text := strings.Replace(string(got), pageStyle, "/* page.css */", 1)
	text = strings.Replace(text, pageScript, "/* page.js */", 1)
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs from its golden file; look at it, then run with -update:\n%s", name, text)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0 s", 1999 * time.Millisecond: "1 s", 119 * time.Second: "119 s",
		2 * time.Minute: "2 minutes", 119 * time.Minute: "119 minutes", 2 * time.Hour: "2 hours", 47 * time.Hour: "47 hours", 50 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %q; want %q", d, got, want)
		}
	}
}
