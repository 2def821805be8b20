package dnsd

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/miekg/dns"
)

// Bounds of the cache.
const (
	maxCacheEntries = 20_000
	maxCacheBytes   = 32 << 20
	entryOverhead   = 256 // octets an entry costs beside its name and message
)

// How long answers of upstreams are kept.
const (
	maxPositive   = time.Hour
	maxNegative   = time.Minute
	failureTTL    = 5 * time.Second // RFC 9520 §3.2
	maxStale      = time.Hour       // how long past its end an answer may stand in for silent upstreams
	staleReplyTTL = 30              // seconds (RFC 8767 §4)
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

// An entry is what upstreams said. It is never changed.
type entry struct {
	key      cacheKey
	wire     []byte // the answer as a packed message; nil: there was none
	failure  string // why there was none, for people
	positive bool   // the name has data of that type
	stored   time.Time
	expires  time.Time
	retry    time.Time // when expired: until then upstreams need not be asked again
}

func (e *entry) size() int {
	return entryOverhead + len(e.key.name) + len(e.key.group) + len(e.failure) + len(e.wire)
}

// fresh reports whether the entry answers without a word of upstreams.
func (e *entry) fresh(now time.Time) bool { return now.Before(e.expires) }

// stale reports whether an entry that has expired may stand in for upstreams
// that do not answer. What says that a name is missing never does.
func (e *entry) stale(now time.Time) bool {
	return e.positive && now.Before(e.expires.Add(maxStale))
}

// result returns the entry as the answer to q, its TTLs lowered by its age.
// What had expired gets a short TTL and says that it is stale.
func (e *entry) result(q question, now time.Time) *result {
	if e.wire == nil {
		return failed(dns.ExtendedErrorCodeNoReachableAuthority, e.failure)
	}
	m := new(dns.Msg)
	if err := m.Unpack(e.wire); err != nil { // we packed it ourselves
		return failed(dns.ExtendedErrorCodeOther, "cached answer cannot be read")
	}
	r := &result{rcode: m.Rcode, answer: m.Answer, ns: m.Ns}
	age := uint32(max(0, now.Sub(e.stored)/time.Second))
	isStale := !e.fresh(now) && !e.stored.Equal(e.expires)
	for _, rrs := range [][]dns.RR{r.answer, r.ns} {
		for _, rr := range rrs {
			h := rr.Header()
			if isStale {
				h.Ttl = staleReplyTTL
			} else {
				h.Ttl -= min(h.Ttl, age)
			}
			if h.Name == q.name {
				h.Name = q.asked
			}
		}
	}
	if isStale {
		r.ede = &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeStaleAnswer}
	}
	return r
}

// A cache holds entries, bounded by their number and by the memory they take.
type cache struct {
	mu       sync.Mutex
	lru      *simplelru.LRU[cacheKey, *entry] // guarded by mu
	bytes    int                              // guarded by mu
	maxBytes int
}

func newCache(entries, bytes int) *cache {
	c := &cache{maxBytes: bytes}
	lru, err := simplelru.NewLRU(entries, func(_ cacheKey, e *entry) { c.bytes -= e.size() })
	if err != nil {
		panic(err) // only for a size below one
	}
	c.lru = lru
	return c
}

// get returns what is kept for a key, expired or not, nil if nothing is.
func (c *cache) get(k cacheKey) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, _ := c.lru.Get(k)
	return e
}

func (c *cache) put(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(e.key) // replacing would not tell the old one's size
	c.bytes += e.size()
	c.lru.Add(e.key, e)
	for c.bytes > c.maxBytes {
		c.lru.RemoveOldest()
	}
}
