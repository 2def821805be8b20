package proxy

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/clonegate/clonegate/registry"
)

// A script is routes whose changes the test hands out one by one.
type script struct {
	mu      sync.Mutex
	clones  map[registry.ID]*registry.Clone // guarded by mu
	changes chan []registry.Change
	lag     chan struct{}
}

func newScript() *script {
	return &script{clones: map[registry.ID]*registry.Clone{}, changes: make(chan []registry.Change), lag: make(chan struct{})}
}

func (s *script) set(c *registry.Clone) *registry.Clone {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clones[c.ID] = c
	return c
}

func (s *script) Clone(id registry.ID) (*registry.Clone, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clones[id]
	return c, ok
}

func (s *script) Lookup(string) (registry.Target, bool)        { return registry.Target{}, false }
func (s *script) Clones(registry.ID) iter.Seq[*registry.Clone] { return nil }
func (s *script) Revision() uint64                             { return 0 }
func (s *script) follow(c *registry.Clone) {
	s.changes <- []registry.Change{{Revision: c.Revision, Clone: c}}
}

func (s *script) Changes(ctx context.Context, _ uint64) ([]registry.Change, error) {
	select {
	case ch := <-s.changes:
		return ch, nil
	case <-s.lag:
		return nil, registry.ErrLagged
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// life returns a record of clone 1.
func life(incarnation, revision uint64, state registry.State, endpoints string) *registry.Clone {
	return &registry.Clone{
		ID: "1", Incarnation: incarnation, Revision: revision, State: state,
		Services: map[string]*registry.Service{"www": {Endpoints: addrs(endpoints)}},
	}
}

// follow runs tenants over a script in a synctest bubble.
func follow(t *testing.T, test func(*script, *tenants)) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		s := newScript()
		ts := newTenants(s, newProber(nil, log), newJournals(s, 8, 1<<20), log)
		ctx, cancel := context.WithCancel(t.Context())
		go ts.follow(ctx)
		test(s, ts)
		cancel()
	})
}

func wantEndpoints(t *testing.T, tn *tenant, n int) {
	t.Helper()
	if got := len(*tn.pool("www").members.Load()); got != n {
		t.Errorf("the pool has %d endpoints; want %d", got, n)
	}
}

func TestTenantsFollowTheirClones(t *testing.T) {
	follow(t, func(s *script, ts *tenants) {
		first := s.set(life(1, 10, registry.Ready, "1"))
		tn := ts.of(first)
		wantEndpoints(t, tn, 1)
		second := s.set(life(1, 11, registry.Degraded, "1 2"))
		s.follow(second)
		synctest.Wait()
		wantEndpoints(t, tn, 2)
		if ts.of(first) != tn {
			t.Error("a request with an older record got another tenant")
		}
		wantEndpoints(t, tn, 2)
	})
}

// TestRequestsNeedNotWaitForTheWatch makes a request with a record that the
// watch has not seen, and has the watch bring older ones afterwards.
func TestRequestsNeedNotWaitForTheWatch(t *testing.T) {
	follow(t, func(s *script, ts *tenants) {
		tn := ts.of(s.set(life(1, 10, registry.Ready, "1")))
		if ts.of(s.set(life(1, 13, registry.Ready, "1 2 3"))) != tn {
			t.Error("a change made a new tenant")
		}
		wantEndpoints(t, tn, 3)
		s.follow(life(1, 11, registry.Suspended, ""))
		s.follow(life(1, 12, registry.Ready, "1"))
		synctest.Wait()
		wantEndpoints(t, tn, 3)
		if tn.closed {
			t.Error("an old record closed the tenant")
		}
	})
}

func TestTenantsEndWithTheLife(t *testing.T) {
	for name, leave := range map[string]*registry.Clone{
		"gone":       life(1, 11, registry.Gone, ""),
		"suspended":  life(1, 11, registry.Suspended, "1"),
		"a new life": life(2, 11, registry.Ready, "1"),
	} {
		t.Run(name, func(t *testing.T) {
			follow(t, func(s *script, ts *tenants) {
				first := s.set(life(1, 10, registry.Ready, "1"))
				tn := ts.of(first)
				s.set(leave)
				s.follow(leave)
				synctest.Wait()
				if !tn.closed {
					t.Error("the tenant stays")
				}
				switch again := ts.of(first); {
				case leave.State.Routable() && (again == nil || again.incarnation != 2):
					t.Error("a late request did not get the new life's tenant")
				case !leave.State.Routable() && again != nil:
					t.Error("a late request brought the tenant back")
				}
			})
		})
	}
}

func TestTenantsAreReadAgainAfterALag(t *testing.T) {
	follow(t, func(s *script, ts *tenants) {
		tn := ts.of(s.set(life(1, 10, registry.Ready, "1")))
		s.set(life(1, 20_000, registry.Ready, "1 2"))
		s.lag <- struct{}{}
		synctest.Wait()
		wantEndpoints(t, tn, 2)
		s.mu.Lock()
		delete(s.clones, "1")
		s.mu.Unlock()
		s.lag <- struct{}{}
		synctest.Wait()
		if !tn.closed || len(ts.all()) > 0 {
			t.Error("a clone that is no longer known has a tenant")
		}
	})
}

func TestNoTenantsAfterClose(t *testing.T) {
	follow(t, func(s *script, ts *tenants) {
		c := s.set(life(1, 10, registry.Ready, "1"))
		ts.close()
		if ts.of(c) != nil {
			t.Error("a request got a tenant after the end")
		}
	})
}
