package registry

import (
	"hash/maphash"
	"sync"
)

// A table is a map that many goroutines read while one writes: 256 maps, each
// behind its own lock, so that readers rarely meet and a write touches one.
type table[V any] struct {
	seed   maphash.Seed
	shards *[256]shard[V]
}

type shard[V any] struct {
	mu sync.RWMutex
	m  map[string]V // guarded by mu
	_  [32]byte     // keeps neighbours off one cache line
}

func newTable[V any]() table[V] {
	t := table[V]{seed: maphash.MakeSeed(), shards: new([256]shard[V])}
	for i := range t.shards {
		t.shards[i].m = map[string]V{}
	}
	return t
}

func (t *table[V]) shard(key string) *shard[V] {
	return &t.shards[maphash.String(t.seed, key)&255]
}

func (t *table[V]) get(key string) (V, bool) {
	s := t.shard(key)
	s.mu.RLock()
	v, ok := s.m[key]
	s.mu.RUnlock()
	return v, ok
}

func (t *table[V]) put(key string, v V) {
	s := t.shard(key)
	s.mu.Lock()
	s.m[key] = v
	s.mu.Unlock()
}

func (t *table[V]) remove(key string) {
	s := t.shard(key)
	s.mu.Lock()
	delete(s.m, key)
	s.mu.Unlock()
}

func (t *table[V]) each(fn func(string, V)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for k, v := range s.m {
			fn(k, v)
		}
		s.mu.RUnlock()
	}
}

func (t *table[V]) len() int {
	n := 0
	for i := range t.shards {
		t.shards[i].mu.RLock()
		n += len(t.shards[i].m)
		t.shards[i].mu.RUnlock()
	}
	return n
}
