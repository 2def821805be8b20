package dnsd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// A LogEntry is one question and what was answered.
type LogEntry struct {
	Time     time.Time   `json:"time"`
	Listener string      `json:"listener"`
	Clone    registry.ID `json:"clone,omitempty" doc:"Whose resolver was asked."`
	Client   netip.Addr  `json:"client"`
	Name     string      `json:"name"`
	Type     string      `json:"type"`
	Rcode    string      `json:"rcode"`
	From     string      `json:"from,omitempty"`
	Micros   int64       `json:"micros" doc:"From question to answer, in microseconds."`
}

// A LogFilter chooses questions; its zero value takes all.
type LogFilter struct {
	Clone  registry.ID // of the resolver
	Suffix string      // the name or the domain it lies in
	Client netip.Prefix
	Rcode  string // as in NXDOMAIN
}

func (f *LogFilter) takes(e *LogEntry) bool {
	return (f.Clone == "" || f.Clone == e.Clone) &&
		(f.Suffix == "" || isUnder(canonical(dns.Fqdn(f.Suffix)), canonical(e.Name))) &&
		(!f.Client.IsValid() || f.Client.Contains(e.Client)) &&
		(f.Rcode == "" || strings.EqualFold(f.Rcode, e.Rcode))
}

// Bounds of those who watch.
const (
	maxWatchers  = 16
	watchBacklog = 256 // entries that wait for a slow reader; more are left out
)

// A watcher is one reader of the query log.
type watcher struct {
	filter  LogFilter
	entries chan LogEntry
}

// Watch calls each with every question that passes the filter, until ctx ends
// or each returns an error. A reader that falls behind misses some. It fails
// if too many watch already.
func (s *Server) Watch(ctx context.Context, filter LogFilter, each func(LogEntry) error) error {
	w := &watcher{filter, make(chan LogEntry, watchBacklog)}
	if !s.changeWatchers(func(all []*watcher) []*watcher { return append(all, w) }) {
		return fmt.Errorf("%d readers follow the query log already; end one of them", maxWatchers)
	}
	defer s.changeWatchers(func(all []*watcher) []*watcher {
		return slices.DeleteFunc(all, func(other *watcher) bool { return other == w })
	})
	for {
		select {
		case e := <-w.entries:
			if err := each(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// changeWatchers replaces the list of watchers. It reports false, and changes
// nothing, if that would be too many.
func (s *Server) changeWatchers(change func([]*watcher) []*watcher) bool {
	for {
		old := s.watchers.Load()
		var all []*watcher
		if old != nil {
			all = slices.Clone(*old)
		}
		all = change(all)
		if len(all) > maxWatchers {
			return false
		}
		next := &all
		if len(all) == 0 {
			next = nil
		}
		if s.watchers.CompareAndSwap(old, next) {
			return true
		}
	}
}

// tell shows a question and its answer to those who watch.
func (f *front) tell(all []*watcher, q *query, client netip.AddrPort, r *result) {
	e := LogEntry{
		Time: q.start, Listener: f.addr.String(), Client: client.Addr().Unmap(), Name: q.asked(),
		Type: dns.Type(q.qtype).String(), Rcode: rcodeName(r.rcode), From: r.from, Micros: f.now().Sub(q.start).Microseconds(),
	}
	if f.view != nil {
		e.Clone = f.view.clone
	}
	for _, w := range all {
		if w.filter.takes(&e) {
			select {
			case w.entries <- e:
			default:
			}
		}
	}
}
