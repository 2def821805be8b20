package sqlite_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/sqlite"
)

// sizes are how many clones a registry holds in benchmarks.
var sizes = []int{10, 100_000}

// BenchmarkCommit writes one changed clone, on disk when it returns.
func BenchmarkCommit(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint("clones=", size), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "registry.db"))
			seq := seed(b, s, size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				seq++
				c := clone(i*7919%size, seq)
				if err := s.Commit(b.Context(), batch(seq, c)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad opens a file and loads what it holds, as a start does.
func BenchmarkLoad(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint("clones=", size), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "registry.db")
			s := open(b, path)
			seed(b, s, size)
			for b.Loop() {
				s.Close()
				s = open(b, path)
				c, err := s.Load(b.Context(), 0)
				if err != nil || len(c.Clones) != size {
					b.Fatalf("loaded %d clones, %v; want %d", len(c.Clones), err, size)
				}
			}
		})
	}
}

// BenchmarkTouch writes the renewals of every clone.
func BenchmarkTouch(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint("clones=", size), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "registry.db"))
			seed(b, s, size)
			renewed := map[registry.ID]time.Time{}
			for i := range size {
				renewed[clone(i, 0).ID] = time.Time{}
			}
			for i := int64(0); b.Loop(); i++ {
				for id := range renewed {
					renewed[id] = time.UnixMilli(i)
				}
				if err := s.Touch(b.Context(), registry.Touches{Renewed: renewed}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// seed commits size clones, many with one event, and returns the number of the
// newest event.
func seed(t testing.TB, s *sqlite.Store, size int) (seq uint64) {
	t.Helper()
	return seedWith(t, s, size, clone)
}

func seedWith(t testing.TB, s *sqlite.Store, size int, ith func(i int, revision uint64) *registry.Clone) (seq uint64) {
	t.Helper()
	for next := 0; next < size; {
		seq++
		b := registry.Batch{Events: []registry.Event{{Seq: seq}}}
		for range min(5000, size-next) {
			b.Clones = append(b.Clones, ith(next, seq))
			next++
		}
		if err := s.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	return seq
}

// batch returns a batch that makes c its clone's record.
func batch(seq uint64, c *registry.Clone) *registry.Batch {
	return &registry.Batch{
		NextID: 1000 + seq,
		Clones: []*registry.Clone{c},
		Events: []registry.Event{{
			Seq: seq, Time: c.Changed, Type: registry.EventCloneRegistered, Clone: c.ID, Incarnation: 1, State: c.State,
			Template: c.Template, DeployTag: c.DeployTag, By: "ci (k7wq2m4x)", From: "10.0.0.7",
		}},
	}
}

// clone returns the i-th clone as a startup script of a usual size makes it.
func clone(i int, revision uint64) *registry.Clone {
	at := func(host byte, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), host}), port)
	}
	health := &registry.Health{Path: "/healthz", Interval: 10, Timeout: 2}
	now := time.Now().UTC()
	return &registry.Clone{
		ID: registry.ID(fmt.Sprint(1000 + i)), Incarnation: 1, Revision: revision,
		Instance: "6f1cd37e-2a53-4f0e-9a56-0d7b4f5f3a10", Provider: "process", Template: "shop@2026.11.21-1",
		DeployTag: "2026.11.21-1", Owner: "ada", Aliases: []string{fmt.Sprint("pr-", i)},
		Labels: map[string]string{"team": "shop", "branch": fmt.Sprint("feature-", i)},
		State:  registry.Ready, Desired: registry.WantReady, TTL: 120, Created: now, Changed: now,
		Services: map[string]*registry.Service{
			"www": {Endpoints: []netip.AddrPort{at(10, 8080)}, Protocol: registry.HTTP, Default: true, Health: health},
			"api": {Endpoints: []netip.AddrPort{at(20, 8080), at(21, 8080)}, Protocol: registry.HTTP, Health: health},
		},
		Hosts: map[registry.Host][]netip.Addr{
			"db": {at(30, 0).Addr()}, "api1": {at(20, 0).Addr()}, "api2": {at(21, 0).Addr()}, "web": {at(10, 0).Addr()},
		},
	}
}
