package dnsd

import (
	"cmp"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// Top is what a listener is asked for most, and by whom.
type Top struct {
	Listener string       `json:"listener" doc:"Address of the listener."`
	Clone    registry.ID  `json:"clone,omitempty" doc:"Whose resolver it is."`
	Names    []TopCounter `json:"names" doc:"At most 100, the most frequent first."`
	Clients  []TopCounter `json:"clients" doc:"At most 100 addresses, the busiest first."`
}

// A TopCounter is how often something came up. What is rare may have taken
// over the count of something else, so the true one lies between Count-Excess
// and Count. Every ten minutes, counts are halved.
type TopCounter struct {
	Key    string `json:"key"`
	Count  uint64 `json:"count"`
	Excess uint64 `json:"excess,omitempty"`
}

// Bounds of what is counted, per listener. A worker counts each of the first
// questions of a second, and of more one in so many, for as many.
const (
	maxTop      = 100
	countedEach = 64
	countedOne  = 64
	halveTop    = 10 * time.Minute
)

// tops counts the questions of one listener.
type tops struct {
	mu      sync.Mutex
	halved  time.Time // guarded by mu
	names   sketch    // guarded by mu
	clients sketch    // guarded by mu
}

// add counts a question. If somebody else is counting, it is left out: nobody
// waits for this.
func (t *tops) add(name string, client netip.Addr, weight uint64, now time.Time) {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	t.halveLocked(now)
	t.names.add(name, weight)
	addr := client.As16()
	t.clients.add(string(addr[:]), weight)
}

func (t *tops) halveLocked(now time.Time) {
	if t.halved.IsZero() {
		t.halved = now
	}
	for ; now.Sub(t.halved) >= halveTop && t.names.len()+t.clients.len() > 0; t.halved = t.halved.Add(halveTop) {
		t.names.halve()
		t.clients.halve()
	}
	if now.Sub(t.halved) >= halveTop {
		t.halved = now
	}
}

// A sketch counts the most frequent of any number of keys in bounded memory
// (Metwally et al., space-saving): a key it does not know takes the place, and
// the count, of the rarest.
type sketch struct {
	seed  maphash.Seed
	items []sketched
}

type sketched struct {
	hash          uint64
	key           []byte
	count, excess uint64
}

// add allocates only while the sketch grows. It does not keep key.
func (s *sketch) add(key string, weight uint64) {
	if len(s.items) == 0 {
		s.seed = maphash.MakeSeed()
	}
	hash := maphash.String(s.seed, key)
	rarest := 0
	for i := range s.items {
		it := &s.items[i]
		if it.hash == hash && string(it.key) == key {
			it.count += weight
			return
		}
		if it.count < s.items[rarest].count {
			rarest = i
		}
	}
	if len(s.items) < maxTop {
		s.items = append(s.items, sketched{hash, []byte(key), weight, 0})
		return
	}
	it := &s.items[rarest]
	it.hash, it.key = hash, append(it.key[:0], key...)
	it.excess = it.count
	it.count += weight
}

func (s *sketch) len() int { return len(s.items) }

// halve lets the past count less, and in the end not at all.
func (s *sketch) halve() {
	for i := range s.items {
		s.items[i].count /= 2
		s.items[i].excess /= 2
	}
	s.items = slices.DeleteFunc(s.items, func(it sketched) bool { return it.count == 0 })
}

// counters returns the counts, the greatest first.
func (s *sketch) counters(text func(key []byte) string) []TopCounter {
	out := make([]TopCounter, len(s.items))
	for i, it := range s.items {
		out[i] = TopCounter{text(it.key), it.count, it.excess}
	}
	slices.SortFunc(out, func(a, b TopCounter) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Key, b.Key))
	})
	return out
}

// countTop counts the worker's present question among the most frequent.
func (w *worker) countTop(client netip.Addr) {
	if second := w.query.start.Unix(); second != w.second {
		w.second, w.counted = second, 0
	}
	weight := uint64(1)
	if w.counted++; w.counted > countedEach {
		if rand.Uint32()%countedOne != 0 {
			return
		}
		weight = countedOne
	}
	w.tops.add(w.query.name, client, weight, w.query.start)
}

// Top returns what a listener is asked for most; view names it as for Explain.
func (s *Server) Top(view string) (*Top, error) {
	f, err := s.listener(view)
	if err != nil {
		return nil, err
	}
	out := &Top{Listener: f.addr.String()}
	if f.view != nil {
		out.Clone = f.view.clone
	}
	t := &f.tops
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halveLocked(s.now())
	out.Names = t.names.counters(func(key []byte) string { return string(key) })
	out.Clients = t.clients.counters(func(key []byte) string {
		a, _ := netip.AddrFromSlice(key)
		return a.Unmap().String()
	})
	return out, nil
}
