package proxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/clonegate/clonegate/registry"
)

// A tenant is what the gateway holds for one life of one clone: its pools, the
// requests and tunnels at work, and what was counted. All of it goes with the
// clone, and when it is suspended.
type tenant struct {
	id          registry.ID
	incarnation uint64
	life        string // in cookies
	prober      *prober

	atWork   atomic.Int64 // requests
	pools    atomic.Pointer[map[string]*pool]
	faults   atomic.Pointer[[]*trouble] // nil: none
	turned   atomic.Uint64              // requests and tunnels refused as too many
	failures quota                      // of lines in the log
	journal  atomic.Pointer[journal]    // of this life; nil before its first request

	production atomic.Pointer[production] // nil if the clone does not know of any
	escapes    escapes

	mu       sync.Mutex
	revision uint64               // guarded by mu; of the record the pools show
	tunnels  map[*tunnel]struct{} // guarded by mu
	leaving  bool                 // guarded by mu; no tunnel may begin
	closed   bool                 // guarded by mu; no pool may change
}

func newTenant(c *registry.Clone, p *prober) *tenant {
	t := &tenant{id: c.ID, incarnation: c.Incarnation, life: lifeTag(c), prober: p, tunnels: map[*tunnel]struct{}{}}
	t.pools.Store(new(map[string]*pool))
	t.update(c)
	return t
}

// update makes the pools what a newer record of the same life says.
func (t *tenant) update(c *registry.Clone) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || c.Revision <= t.revision {
		return
	}
	t.revision = c.Revision
	t.setFaultsLocked(c)
	named := newProduction(c)
	if was := t.production.Swap(named); !named.sameNames(was) {
		t.escapes.forget()
	}
	old := *t.pools.Load()
	now := make(map[string]*pool, len(c.Services))
	for name, service := range c.Services {
		p := old[name]
		if p == nil {
			p = newPool(c, name, t.prober)
		}
		p.host.Store(named.hostOf(name))
		p.update(service)
		now[name] = p
	}
	t.pools.Store(&now)
	for name, p := range old {
		if now[name] == nil {
			p.update(nil)
		}
	}
}

// setFaultsLocked makes the faults those of a record.
func (t *tenant) setFaultsLocked(c *registry.Clone) {
	if t.leaving {
		return // nothing is to wait any more
	}
	var old []*trouble
	if all := t.faults.Load(); all != nil {
		old = *all
	}
	if now := troublesOf(c, old); now != nil {
		t.faults.Store(&now)
	} else {
		t.faults.Store(nil)
	}
}

// isBehind reports whether a record is newer than what the pools show.
func (t *tenant) isBehind(c *registry.Clone) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return c.Revision > t.revision
}

// pool returns the pool of a service, or nil.
func (t *tenant) pool(service string) *pool { return (*t.pools.Load())[service] }

// addTunnel counts a tunnel, or says why it may not begin.
func (t *tenant) addTunnel(tun *tunnel, most int) Reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.leaving:
		return Stopping
	case len(t.tunnels) >= most:
		return Overloaded
	}
	t.tunnels[tun] = struct{}{}
	return ""
}

func (t *tenant) removeTunnel(tun *tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tunnels, tun)
}

// openTunnels returns how many tunnels are open.
func (t *tenant) openTunnels() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.tunnels)
}

// load returns how many connections to endpoints are open, and how many requests
// wait for one.
func (t *tenant) load() (conns, waiting int) {
	for _, p := range *t.pools.Load() {
		for _, m := range *p.members.Load() {
			c, w := m.load()
			conns, waiting = conns+c, waiting+w
		}
	}
	return conns, waiting
}

// shutTunnels tells both ends of every tunnel that the other is going away, and
// ends what faults make wait.
func (t *tenant) shutTunnels() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = true
	if faults := t.faults.Swap(nil); faults != nil {
		for _, f := range *faults {
			close(f.over)
		}
	}
	for tun := range t.tunnels {
		tun.shut()
	}
}

// close ends everything but the requests at work, which end by themselves.
func (t *tenant) close() {
	t.mu.Lock()
	t.closed = true
	pools := *t.pools.Load()
	t.mu.Unlock()
	for _, p := range pools {
		p.update(nil)
	}
	t.shutTunnels()
}

// tenants holds the tenant of each clone that was asked for and still lives.
type tenants struct {
	routes   Routes
	prober   *prober
	journals *journals
	log      *slog.Logger

	mu     sync.RWMutex
	byID   map[registry.ID]*tenant // guarded by mu
	closed bool                    // guarded by mu
}

func newTenants(routes Routes, p *prober, js *journals, log *slog.Logger) *tenants {
	return &tenants{routes: routes, prober: p, journals: js, log: log, byID: map[registry.ID]*tenant{}}
}

// of returns the tenant of a clone that requests may be sent to, no older than
// the given record; nil if the clone has just left.
func (ts *tenants) of(c *registry.Clone) *tenant {
	ts.mu.RLock()
	t := ts.byID[c.ID]
	ts.mu.RUnlock()
	if t != nil && t.incarnation == c.Incarnation && !t.isBehind(c) {
		return t
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	// The clone may have left since c was read, and then its change may have
	// been followed already: only the present record may make a tenant.
	if present, ok := ts.routes.Clone(c.ID); ok {
		ts.applyLocked(present)
		if t = ts.byID[c.ID]; t == nil && present.State.Routable() && !ts.closed {
			t = newTenant(present, ts.prober)
			ts.byID[c.ID] = t
		}
		return t
	}
	return nil
}

// find returns the tenant of a clone if there is one.
func (ts *tenants) find(id registry.ID) *tenant {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return ts.byID[id]
}

// applyLocked brings the tenant of a clone, if there is one, to a record. An
// older record than it has changes nothing.
func (ts *tenants) applyLocked(c *registry.Clone) {
	t := ts.byID[c.ID]
	switch {
	case t == nil || !t.isBehind(c):
	case c.Incarnation > t.incarnation || !c.State.Routable():
		delete(ts.byID, c.ID)
		t.close()
	default:
		t.update(c)
	}
}

// follow keeps every tenant, and every journal, as the registry has its clone,
// until ctx ends.
func (ts *tenants) follow(ctx context.Context) {
	after := ts.routes.Revision()
	ts.reread()
	for {
		changes, err := ts.routes.Changes(ctx, after)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, registry.ErrLagged):
			ts.log.Warn("fell behind the registry, reading it again", "revision", after)
			after = ts.routes.Revision()
			ts.reread()
		case err != nil:
			ts.log.Error("routes are no longer followed", "err", err)
			return
		}
		for _, ch := range changes {
			after = ch.Revision
			if ch.Clone != nil {
				ts.mu.Lock()
				ts.applyLocked(ch.Clone)
				ts.mu.Unlock()
				ts.journals.apply(ch.Clone)
			}
		}
	}
}

// reread brings every tenant and journal to the present record of its clone.
func (ts *tenants) reread() {
	ts.journals.reread()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for id, t := range ts.byID {
		if c, ok := ts.routes.Clone(id); ok {
			ts.applyLocked(c)
		} else {
			delete(ts.byID, id)
			t.close()
		}
	}
}

// shutTunnels tells both ends of every tunnel that the gateway is going away.
func (ts *tenants) shutTunnels() {
	for _, t := range ts.all() {
		t.shutTunnels()
	}
}

// close closes every tenant and journal and makes no new ones.
func (ts *tenants) close() {
	ts.journals.close()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.closed = true
	for _, t := range ts.byID {
		t.close()
	}
	clear(ts.byID)
}

// all returns the tenants in no order.
func (ts *tenants) all() []*tenant {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	out := make([]*tenant, 0, len(ts.byID))
	for _, t := range ts.byID {
		out = append(out, t)
	}
	return out
}
