package dnsd

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/miekg/dns"
)

// Bounds of the cache.
const (
	maxCacheEntries = 20_000
	maxCacheBytes   = 32 << 20
	entryOverhead   = 640 // octets an entry costs beside its name and message
)

// How long answers of upstreams are kept.
const (
	maxPositive   = time.Hour
	maxNegative   = time.Minute
	failureTTL    = time.Second // RFC 9520 §3.2
	maxStale      = time.Hour   // how long past its end an answer may stand in for silent upstreams, unless habits differ
	staleReplyTTL = 30          // seconds (RFC 8767 §4)
)

// cacheKey is all that an answer depends on. The group is part of it, so that
// nothing of other upstreams is served after a forward rule has changed.
type cacheKey struct {
	view   int
	group  string
	name   string
	qtype  uint16 // the class is always IN
	do, cd bool
}

func (k cacheKey) String() string {
	return fmt.Sprintf("%d %q %q %d %t %t", k.view, k.group, k.name, k.qtype, k.do, k.cd)
}

// An entry is what upstreams said. It is never changed, but for its count.
type entry struct {
	key      cacheKey
	ready    *result // the answer; nil: there was none
	failure  string  // why there was none, for people
	positive bool    // the name has data of that type
	stored   time.Time
	expires  time.Time
	retry    time.Time // when expired: until then upstreams need not be asked again

	hits atomic.Uint32 // how often it was given away, until it is renewed
}

// copy returns an entry like e that may be changed.
func (e *entry) copy() *entry {
	return &entry{key: e.key, ready: e.ready, failure: e.failure, positive: e.positive, stored: e.stored, expires: e.expires, retry: e.retry}
}

// due reports whether a fresh entry should be renewed before it ends: at a
// tenth of its life, if anybody has asked for it twice.
func (e *entry) due(now time.Time) bool {
	return e.hits.Load() >= 2 && e.expires.Sub(now) < e.expires.Sub(e.stored)/10
}

func (e *entry) size() int {
	size := entryOverhead + len(e.key.name) + len(e.key.group) + len(e.failure)
	if e.ready != nil {
		size += len(e.ready.packed.body) + 2*len(e.ready.packed.ttls)
	}
	return size
}

// fresh reports whether the entry answers without a word of upstreams.
func (e *entry) fresh(now time.Time) bool { return now.Before(e.expires) }

// stale reports whether an entry that has expired may stand in, for so long,
// for upstreams that do not answer. What says that a name is missing never does.
func (e *entry) stale(now time.Time, most time.Duration) bool {
	return e.positive && now.Before(e.expires.Add(most))
}

// result returns the entry as the answer to q. What had expired gets a short
// TTL and says that it is stale.
func (e *entry) result(q question, now time.Time) *result {
	if e.ready == nil {
		return failed(dns.ExtendedErrorCodeNoReachableAuthority, e.failure)
	}
	if e.fresh(now) || e.stored.Equal(e.expires) {
		return e.ready
	}
	r := *e.ready
	r.answer, r.ns = r.packed.unpack(q, now)
	for _, rrs := range [][]dns.RR{r.answer, r.ns} {
		for _, rr := range rrs {
			rr.Header().Ttl = staleReplyTTL
		}
	}
	r.kept, r.packed = false, nil
	r.ede = &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeStaleAnswer}
	return &r
}

// cacheParts is how many parts a large cache is in, so that those who read at
// the same time rarely meet.
const cacheParts = 64

// A cache holds entries, bounded by their number and by the memory they take.
type cache struct {
	seed  maphash.Seed
	parts []cachePart
}

type cachePart struct {
	mu       sync.Mutex
	lru      *simplelru.LRU[cacheKey, *entry] // guarded by mu
	bytes    int                              // guarded by mu
	maxBytes int
	_        [32]byte // keeps neighbours off one cache line
}

// newCache returns a cache within bounds; one with fewer than 0 entries keeps
// nothing.
func newCache(entries, bytes int) *cache {
	if entries < 0 {
		bytes = 0
	}
	n := cacheParts
	for n > 1 && entries/n < 64 {
		n /= 2
	}
	c := &cache{seed: maphash.MakeSeed(), parts: make([]cachePart, n)}
	for i := range c.parts {
		part := &c.parts[i]
		part.maxBytes = bytes / n
		lru, err := simplelru.NewLRU(max(1, entries/n), func(_ cacheKey, e *entry) { part.bytes -= e.size() })
		if err != nil {
			panic(err) // only for a size below one
		}
		part.lru = lru
	}
	return c
}

func (c *cache) part(k cacheKey) *cachePart {
	return &c.parts[maphash.String(c.seed, k.name)%uint64(len(c.parts))]
}

// get returns what is kept for a key, expired or not, nil if nothing is.
func (c *cache) get(k cacheKey) *entry {
	part := c.part(k)
	part.mu.Lock()
	defer part.mu.Unlock()
	e, _ := part.lru.Get(k)
	return e
}

func (c *cache) put(e *entry) {
	part := c.part(e.key)
	part.mu.Lock()
	defer part.mu.Unlock()
	part.lru.Remove(e.key) // replacing would not tell the old one's size
	part.bytes += e.size()
	part.lru.Add(e.key, e)
	for part.bytes > part.maxBytes {
		part.lru.RemoveOldest()
	}
}
