package sqlite_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// TestChangeCostIndependentOfSize registers changes with a registry of 10 and
// one of 100,000 clones, by turns so that both have the same machine, and
// compares how long one takes until it is on disk and visible.
func TestChangeCostIndependentOfSize(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100,000 clones")
	}
	const changes = 300
	small, large := newSized(t, 10), newSized(t, 100_000)
	for i := range 50 { // both warm
		small.change(i)
		large.change(i)
	}
	for i := 50; i < 50+changes; i++ {
		small.took = append(small.took, small.change(i))
		large.took = append(large.took, large.change(i))
	}
	ratio := float64(median(large.took)) / float64(median(small.took))
	t.Logf("median of %d changes: %v among %d clones, %v among %d; ratio %.2f",
		changes, median(small.took), small.size, median(large.took), large.size, ratio)
	if ratio > 2 {
		t.Errorf("a change among %d clones costs %.2f times what it costs among %d; want at most 2", large.size, ratio, small.size)
	}
}

// BenchmarkRegister changes one clone of a registry, on disk and visible when
// it returns.
func BenchmarkRegister(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint("clones=", size), func(b *testing.B) {
			r := newSized(b, size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.change(i)
			}
		})
	}
}

// A sized is a running registry of so many clones.
type sized struct {
	t    testing.TB
	r    *registry.Registry
	size int
	took []time.Duration
}

func newSized(t testing.TB, size int) *sized {
	t.Helper()
	s := open(t, filepath.Join(t.TempDir(), "registry.db"))
	seedWith(t, s, size, plainClone)
	start := time.Now()
	r := registrytest.New(t, func(cfg *registry.Config) { cfg.Store = s })
	t.Logf("opened a registry of %d clones in %v", size, time.Since(start).Round(time.Millisecond))
	if got := r.View().Len(); got != size {
		t.Fatalf("registry has %d clones, want %d", got, size)
	}
	return &sized{t: t, r: r, size: size}
}

// plainClone returns a clone without services, which is quick to write and to
// load; it gets them with its first change.
func plainClone(i int, revision uint64) *registry.Clone {
	c := clone(i, revision)
	c.Services, c.Hosts, c.Labels, c.Template, c.DeployTag = nil, nil, nil, "", ""
	return c
}

// change has one of the clones, spread over all, change its registration.
func (s *sized) change(i int) time.Duration {
	s.t.Helper()
	c := plainClone(i*7919%s.size, 0)
	reg := registry.Registration{
		Instance: c.Instance,
		Owner:    c.Owner,
		Aliases:  c.Aliases,
		Labels:   map[string]string{"change": fmt.Sprint(i)},
		Services: map[string]registry.ServiceRegistration{
			"www": {Endpoints: []string{fmt.Sprintf("10.0.4.10:%d", 1024+i%60_000)}, Default: true},
		},
	}
	before := s.r.View().Revision()
	start := time.Now()
	if _, err := s.r.Register(s.t.Context(), registry.System, c.ID, reg, false); err != nil {
		s.t.Fatal(err)
	}
	took := time.Since(start)
	if now := s.r.View().Revision(); now != before+1 {
		s.t.Fatalf("a change moved the revision from %d to %d", before, now)
	}
	return took
}

func median(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}
