// Package dnsmasq reads a dnsmasq configuration and answers DNS as dnsmasq 2.90
// does with it: local names, names of hosts files, and which server is asked
// for the rest.
//
// It gives out no addresses, serves no boot files, and listens on nothing;
// dnsd asks it. Every line is either applied, named as not applied, or refused
// with its file and number.
package dnsmasq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/fsnotify/fsnotify"
	"github.com/miekg/dns"
)

// Rules are a configuration at work. They answer from the files as they were
// when they last changed; see Run. A *Rules is a dnsd.Rules.
type Rules struct {
	cfg   *Config
	log   *slog.Logger
	turns atomic.Uint32 // rotates addresses
	table atomic.Pointer[table]

	mu         sync.Mutex
	generation int          // guarded by mu
	seen       string       // guarded by mu; what the files were like when they were read
	servers    []DomainRule // guarded by mu; of the servers-files
}

// New returns the rules of a configuration, its hosts and resolv files read
// once. A nil log discards.
func New(cfg *Config, log *slog.Logger) *Rules {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Rules{cfg: cfg, log: log}
	for _, d := range cfg.Domains {
		if d.File {
			r.servers = append(r.servers, d)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loadLocked(true)
	return r
}

// loadLocked reads hosts and resolv files. forget makes new routes, so that
// nothing that was kept is served again.
func (r *Rules) loadLocked(forget bool) {
	if forget {
		r.generation++
	}
	r.seen = r.stamps()
	lines, errs := r.cfg.readHosts()
	for _, err := range errs {
		r.log.Warn("hosts file cannot be read", "err", err)
	}
	c := *r.cfg
	c.Domains = append(slices.DeleteFunc(slices.Clone(c.Domains), func(d DomainRule) bool { return d.File }), r.servers...)
	r.table.Store(newTable(&c, lines, r.cfg.usualServers(), fmt.Sprintf("%d ", r.generation), &r.turns))
}

// Reload does what SIGHUP does: it reads hosts files, resolv files and
// servers-files again and forgets what upstream servers said. The
// configuration itself is not read again. Files that cannot be understood
// leave their old contents in force.
func (r *Rules) Reload() error {
	p := newParser()
	for _, path := range r.cfg.ServersFiles {
		if err := p.serversFile(path); err != nil {
			p.errs = append(p.errs, err)
		}
	}
	err := errors.Join(p.errs...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.servers = p.Domains
	}
	r.loadLocked(true)
	return err
}

// Answer answers from local data; see dnsd.Rules.
func (r *Rules) Answer(q dns.Question) *dnsd.Answer { return r.table.Load().answer(q) }

// Route returns the servers to ask; see dnsd.Rules.
func (r *Rules) Route(q dns.Question) dnsd.Route {
	return r.table.Load().domains.find(q, false).route
}

// Upstreams yields every route; see dnsd.Rules.
func (r *Rules) Upstreams(yield func(domain string, to dnsd.Route)) {
	r.table.Load().domains.upstreams(yield)
}

// Amend changes what upstream servers said; see dnsd.Rules.
func (r *Rules) Amend(q dns.Question, m *dns.Msg) { r.table.Load().amend(q, m) }

// At returns the same rules for a listener at an address of networks: with
// localise-queries, names with an address in one of them are given only those.
func (r *Rules) At(networks ...netip.Prefix) dnsd.Rules {
	if !r.cfg.Localise {
		return r
	}
	return &localised{r, networks}
}

// A localised is rules for one listener.
type localised struct {
	*Rules
	networks []netip.Prefix
}

func (l *localised) Answer(q dns.Question) *dnsd.Answer {
	a := l.Rules.Answer(q)
	if a == nil || q.Qtype != dns.TypeA {
		return a
	}
	near := slices.DeleteFunc(slices.Clone(a.Records), func(rr dns.RR) bool { return !isInPrefixes(rr, l.networks) })
	if len(near) == 0 {
		return a
	}
	return &dnsd.Answer{Rcode: a.Rcode, Records: near, Target: a.Target}
}

// pollEvery is how often files are looked at that the system does not report
// changes of.
const pollEvery = time.Second

// jitter keeps many sidecars of one machine from looking at the same moment.
func jitter() time.Duration { return rand.N(pollEvery / 4) }

// Run follows hosts files and resolv files until ctx ends.
func (r *Rules) Run(ctx context.Context) error {
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w := r.watch(); w != nil {
		defer w.Close()
		events, errs = w.Events, w.Errors
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case err := <-errs:
			r.log.Warn("changes of hosts directories may be seen a second late", "err", err)
		case <-time.After(pollEvery + jitter()):
		}
		r.followFiles()
	}
}

// followFiles reads files again if they changed.
func (r *Rules) followFiles() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stamps() != r.seen {
		r.loadLocked(true)
		r.log.Info("hosts and resolv files are read again", "names", len(r.table.Load().nodes))
	}
}
