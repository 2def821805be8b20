package proxy

import (
	"context"
	"iter"

	"github.com/clonegate/clonegate/registry"
)

// Routes is what names lead to. A *registry.View is one.
type Routes interface {
	// Lookup finds what stands before a zone, such as "www-1234".
	Lookup(sub string) (registry.Target, bool)
	// Clone returns the present record of a clone.
	Clone(id registry.ID) (*registry.Clone, bool)
	// Clones returns every clone behind an ID.
	Clones(after registry.ID) iter.Seq[*registry.Clone]
	// Changes waits for changes after a revision; see registry.View.Changes.
	Changes(ctx context.Context, after uint64) ([]registry.Change, error)
	// Revision is the newest revision that the other methods show.
	Revision() uint64
}

// A target is the service of a clone that a request is for, and the name that
// led there.
type target struct {
	host    string        // as parseAuthority made it
	sub     string        // what stands before the zone
	zone    registry.Host // under which the name was asked; "" outside every zone
	clone   *registry.Clone
	service string
	member  int    // of the service, from 1; 0 if the name asks for none
	base    string // the clone's ID or alias in the name
	below   string // labels before the service's, of a tenant
	nested  bool   // service and base are labels of their own

	production string // the name by which the clone is asked; "": the public one
	cookies    *ownCookies
}

// resolve finds the target of a host, which parseAuthority made. The returned
// reason is "" if requests may go there, and otherwise why they may not; the
// target then holds what is known all the same.
//
//  1. outside every zone, or the zone itself
//  2. the whole name under the zone, by one lookup
//  3. the state of the clone
//  4. the service of the clone
//
// The order of 3 and 4 lets a clone that is over or not yet up say so, whatever
// service is asked for.
func (g *Gateway) resolve(host string) (target, Reason) {
	t := target{host: host}
	var ok bool
	if t.sub, t.zone, ok = g.cfg.Zones.Split(host); !ok {
		return t, UnknownZone
	}
	if t.sub == "" {
		return t, NoName
	}
	found, ok := g.cfg.Routes.Lookup(t.sub)
	if !ok {
		return t, UnknownClone
	}
	t.clone, t.service, t.member = found.Clone, found.Service, found.Member
	t.base, t.below, t.nested = found.Base, found.Below, found.Nested
	switch s := t.clone.State; {
	case s == registry.Registered, s == registry.Starting, s == registry.Resuming:
		return t, Starting
	case s == registry.Suspending, s == registry.Suspended:
		return t, Asleep
	case s == registry.Stopping:
		return t, Stopping
	case s == registry.Gone:
		return t, Gone
	case s == registry.Lost:
		return t, Lost
	case s == registry.Failed:
		return t, Failed
	case t.service == "":
		return t, UnknownService
	}
	return t, ""
}

// A way is what a host led to at a revision of the routes. While neither is
// another, nothing need be looked up again. The zero value leads nowhere.
type way struct {
	gateway  *Gateway
	host     string
	revision uint64
	target   target
	tenant   *tenant
	pool     *pool
}

// find makes w the way that a host leads. The returned reason says why it leads
// to no pool, and then only the target is of use. The revision was read before.
func (g *Gateway) find(w *way, host string, revision uint64) Reason {
	*w = way{gateway: g, host: host, revision: revision}
	var reason Reason
	if w.target, reason = g.resolve(host); reason != "" {
		return reason
	}
	if w.tenant = g.tenants.of(w.target.clone); w.tenant == nil {
		return Stopping // it left this instant
	}
	if w.pool = w.tenant.pool(w.target.service); w.pool == nil {
		return UnknownService
	}
	w.target.cookies = g.cookies[w.target.zone]
	w.target.production = w.tenant.production.Load().host(w.target.service, w.target.below)
	return ""
}
