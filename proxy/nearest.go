package proxy

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/spelling"
)

// Bounds of what one page about an unknown name costs.
const (
	listedClones   = 50     // shown on the page
	comparedNames  = 1000   // looked at for the nearest
	nearestNames   = 5      // shown on the page
	scannedClones  = 20_000 // looked at for the newest
	directoryAge   = time.Second
	farthestName   = 3 // edits
	editsPerLetter = 4 // one edit is allowed for so many letters, and one more
)

// A directory knows the newest living clones and their names, for pages that
// help people who got a name wrong. It is made anew at most once a second, so
// that scanners of names cost little.
type directory struct {
	routes Routes

	mu     sync.Mutex
	made   time.Time         // guarded by mu
	clones []*registry.Clone // guarded by mu; newest first
	names  []string          // guarded by mu
}

// newest returns up to listedClones living clones, newest first, and up to
// comparedNames of their names.
func (d *directory) newest() ([]*registry.Clone, []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.made) >= directoryAge {
		d.made = now
		d.makeLocked()
	}
	return d.clones, d.names
}

func (d *directory) makeLocked() {
	var living []*registry.Clone
	scanned := 0
	for c := range d.routes.Clones("") {
		if c.State.Named() {
			living = append(living, c)
		}
		if scanned++; scanned == scannedClones {
			break
		}
	}
	slices.SortFunc(living, func(a, b *registry.Clone) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
	var names []string
	for _, c := range living {
		names = append(names, c.PublicLabels()...)
		if len(names) >= comparedNames {
			names = names[:comparedNames]
			break
		}
	}
	d.clones, d.names = living[:min(len(living), listedClones)], names
}

// nearest returns the names that differ from one in the fewest letters.
func nearest(name string, names []string) []string {
	limit := min(farthestName, 1+len(name)/editsPerLetter)
	type candidate struct {
		name string
		far  int
	}
	var close []candidate
	for _, n := range names {
		if far := spelling.Distance(name, n, limit); far <= limit {
			close = append(close, candidate{n, far})
		}
	}
	slices.SortStableFunc(close, func(a, b candidate) int { return cmp.Compare(a.far, b.far) })
	var out []string
	for _, c := range close[:min(len(close), nearestNames)] {
		out = append(out, c.name)
	}
	return out
}
