package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// A sidecar is the DNS server of one clone.
type sidecar struct {
	cfg *dnsmasq.Config
	log *slog.Logger

	id    registry.ID     // of the clone whose record is followed; "" if none
	zones *registry.Zones // of its names; nil: those of its URLs
	watch func(context.Context, uint64, func(api.Change) error) error

	rules   *dnsmasq.Rules
	mirror  *dnsd.Mirror // of the clone
	metrics *prometheus.Registry
}

// run listens and answers until ctx ends.
func (s *sidecar) run(ctx context.Context) error {
	s.rules = dnsmasq.New(s.cfg, s.log)
	s.mirror = dnsd.NewMirror(s.log)
	s.metrics = prometheus.NewRegistry()
	server, err := dnsd.New(dnsd.Config{
		Directory: noClones{}, ResolvConf: os.DevNull, CacheEntries: cacheEntries(s.cfg), Habits: s.cfg.Habits,
		RateLimit: dnsd.RateLimit{PerSecond: worldRate, Slip: 2},
		Log:       s.log, Metrics: s.metrics,
	})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
	l := &listeners{cfg: s.cfg, server: server, log: s.log, rules: s.rulesAt}
	if !s.cfg.NoIdent {
		l.identity = s.identity
	}
	if err := l.listen(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.run(ctx) })
	g.Go(func() error { return s.rules.Run(ctx) })
	g.Go(func() error { s.obey(ctx, signals); return nil })
	if s.id != "" {
		g.Go(func() error { s.follow(ctx); return nil })
	}
	return g.Wait()
}

// rulesAt returns the rules of the listener at an address: those for the world,
// or those of its networks, behind those of the clone if there is one.
func (s *sidecar) rulesAt(a dnsmasq.Address) dnsd.Rules {
	if a.World {
		return s.rules.Authority()
	}
	rules := s.rules.At(a.Networks...)
	if s.id == "" {
		return rules
	}
	return s.mirror.Ahead(rules)
}

// worldRate is how many answers a second one network gets by UDP at listeners
// of auth-server, where anybody can write anybody's address under a question.
const worldRate = 1000

// sidecarCache is how many answers are kept unless cache-size says; dnsmasq's
// default of 150 is for home routers.
const sidecarCache = 20_000

// cacheEntries returns the bound of the cache, negative for none.
func cacheEntries(cfg *dnsmasq.Config) int {
	switch {
	case cfg.CacheSize == nil:
		return sidecarCache
	case *cfg.CacheSize == 0:
		return -1
	}
	return *cfg.CacheSize
}

// identity returns what monitors of dnsmasq ask for: its version, and how its
// cache fares. "" is nothing.
func (s *sidecar) identity(name string) string {
	switch name {
	case "version.bind.":
		return "clonegate " + buildVersion()
	case "cachesize.bind.":
		return strconv.Itoa(max(cacheEntries(s.cfg), 0))
	case "hits.bind.":
		return s.counter("clonegate_dns_cache_hits_total")
	case "misses.bind.":
		return s.counter("clonegate_dns_cache_misses_total")
	}
	return ""
}

// counter returns the value of a metric.
func (s *sidecar) counter(name string) string {
	families, err := s.metrics.Gather()
	if err != nil {
		return ""
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return strconv.FormatFloat(sum, 'f', 0, 64)
}

// obey does what dnsmasq does on SIGHUP and SIGUSR1.
func (s *sidecar) obey(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if sig == syscall.SIGUSR1 {
				s.statistics(ctx)
				continue
			}
			if err := s.rules.Reload(); err != nil {
				s.log.Error("servers-file cannot be understood; its old servers stay", "err", err)
				continue
			}
			s.log.Info("files are read again, and what was kept is forgotten")
		}
	}
}

// statistics logs every counter that is not zero.
func (s *sidecar) statistics(ctx context.Context) {
	families, err := s.metrics.Gather()
	if err != nil {
		s.log.Error("statistics cannot be read", "err", err)
		return
	}
	var attrs []slog.Attr
	for _, f := range families {
		sum := 0.0
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		if sum > 0 {
			attrs = append(attrs, slog.Float64(strings.TrimPrefix(f.GetName(), "clonegate_dns_"), sum))
		}
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "statistics", attrs...)
}

// refusedPause is how long a sidecar waits before it asks a registry again
// that has refused it: somebody has to change its token.
const refusedPause = 10 * time.Second

// follow keeps the mirrors equal to the clone's record. While the registry
// cannot be reached, or refuses, the last record stays.
func (s *sidecar) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.watch(ctx, 0, s.take)
		if ctx.Err() != nil {
			return
		}
		s.log.Error("registry cannot be followed; the clone's last names stay", "clone", s.id, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(refusedPause):
		}
	}
}

// take puts a change of the clone into the mirrors.
func (s *sidecar) take(ch api.Change) error {
	c := ch.Clone
	if ch.Kind != api.KindClone || c == nil || c.ID != s.id {
		return nil
	}
	zones := s.zones
	if zones == nil {
		var err error
		if zones, err = zonesOf(c); err != nil {
			s.log.Warn("names of the clone are not known yet", "clone", s.id, "err", err)
			return nil
		}
	}
	record := &registry.Clone{
		ID: c.ID, Incarnation: c.Incarnation, Revision: c.Revision, Aliases: c.Aliases, State: c.State,
		Services: c.Services, Hosts: c.Hosts, Records: c.Records, Forward: c.Forward, Faults: c.Faults,
	}
	s.mirror.Set(record, zones)
	s.log.Info("names of the clone are taken from the registry", "clone", s.id, "hosts", len(c.Hosts), "records", len(c.Records), "revision", c.Revision)
	return nil
}

var errNoURL = errors.New("it has no URL that tells its zone; give it with --zone")

// zonesOf returns the zone in which a clone's URLs lie.
func zonesOf(c *api.Clone) (*registry.Zones, error) {
	for _, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("url %q: %w", text, err)
		}
		if _, zone, ok := strings.Cut(u.Hostname(), "."); ok {
			return registry.NewZones(zone)
		}
	}
	return nil, errNoURL
}

// noClones is a directory without clones and zones: all names are those of
// rules.
type noClones struct{}

func (noClones) Lookup(string) (registry.Target, bool)     { return registry.Target{}, false }
func (noClones) Clone(registry.ID) (*registry.Clone, bool) { return nil, false }
func (noClones) Revision() uint64                          { return 0 }
func (noClones) Zones() *registry.Zones                    { return new(registry.Zones) }
