package proxy

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/clonegate/clonegate/registry"
)

// A journal is the last requests of one life of one clone: a ring that grows
// from one slot to as many as are kept, as far as there is memory for it.
type journal struct {
	all         *journals
	incarnation uint64
	used        atomic.Int64 // Unix nanoseconds of the last use

	mu        sync.Mutex
	slots     []slot        // guarded by mu
	begun     uint64        // the sequence number of the first request of all
	next      uint64        // guarded by mu; that of the next request
	first     uint64        // guarded by mu; that of the oldest that is kept
	closed    bool          // guarded by mu; the life is over, or others need the memory
	followers int           // guarded by mu
	news      chan struct{} // guarded by mu; closed at the next request; nil if nobody waits
}

// note keeps an exchange that is over. It returns false if the journal is
// closed.
func (j *journal) note(x *exchange, took time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	if kept := j.next - j.first; kept == uint64(len(j.slots)) {
		if !j.growLocked() {
			j.first++
		}
	}
	j.slots[j.next%uint64(len(j.slots))].note(x, took)
	j.next++
	j.used.Store(x.start.UnixNano())
	if j.news != nil {
		close(j.news)
		j.news = nil
	}
	return true
}

// growLocked makes room for more requests if that may be.
func (j *journal) growLocked() bool {
	old := uint64(len(j.slots))
	n := min(2*old, uint64(j.all.perClone))
	if n <= old || !j.all.take(int64(n-old)*slotBytes) {
		return false
	}
	slots := make([]slot, n)
	for seq := j.first; seq < j.next; seq++ {
		slots[seq%n] = j.slots[seq%old]
	}
	j.slots = slots
	return true
}

// close forgets everything and ends those who follow. It returns how many
// octets that frees.
func (j *journal) close() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return 0
	}
	freed := int64(len(j.slots)) * slotBytes
	j.closed, j.slots, j.first = true, nil, j.next
	if j.news != nil {
		close(j.news)
		j.news = nil
	}
	return freed
}

// after returns the records behind a sequence number that pass the filter,
// oldest first and of those the newest most, and how far it looked. missed is
// how many were lost in between: they were forgotten before anybody asked.
func (j *journal) after(seq uint64, f *RequestFilter, most int) (out []RequestRecord, last, missed uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	from := max(seq+1, j.first)
	if seq+1 >= j.begun { // else it is that of another journal
		missed = from - (seq + 1)
	}
	for at := j.next; at > from && len(out) < most; {
		at--
		if r := j.slots[at%uint64(len(j.slots))].record(at); f.takes(&r) {
			out = append(out, r)
		}
	}
	slices.Reverse(out)
	return out, j.next - 1, missed
}

// await returns a channel that is closed when there are requests behind a
// sequence number, or over: then the journal holds nothing any more.
func (j *journal) await(seq uint64) (news <-chan struct{}, over bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.news == nil {
		j.news = make(chan struct{})
	}
	news = j.news
	if j.next-1 > seq {
		close(j.news)
		j.news = nil
	}
	return news, j.closed
}

// follow counts those who follow: what is followed is not given up for others.
func (j *journal) follow(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.followers += n
}

func (j *journal) isFollowed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.followers > 0
}

const (
	slotBytes = int64(unsafe.Sizeof(slot{}))

	// firstSlots is how many slots a journal begins with.
	firstSlots = 1
	// quietFor is for how long nobody has asked for a clone whose journal is
	// given up for another's.
	quietFor = time.Minute
	// roomEvery is how often room is looked for where there is none.
	roomEvery = time.Second
)

// journals holds the journal of each clone that was asked for and whose life is
// not over, within a number of octets for all.
type journals struct {
	routes   Routes
	perClone int   // slots of one
	most     int64 // octets of all
	bytes    atomic.Int64
	full     atomic.Int64 // Unix nanoseconds until which no room is looked for

	mu     sync.Mutex
	byID   map[registry.ID]*journal // guarded by mu
	closed bool                     // guarded by mu
}

func newJournals(routes Routes, perClone, most int) *journals {
	return &journals{routes: routes, perClone: perClone, most: int64(most), byID: map[registry.ID]*journal{}}
}

// take takes so many octets if they are free.
func (js *journals) take(n int64) bool {
	for {
		old := js.bytes.Load()
		if old+n > js.most {
			return false
		}
		if js.bytes.CompareAndSwap(old, old+n) {
			return true
		}
	}
}

// keep notes an exchange in the journal of its clone, if it is for one whose life
// goes on.
func (js *journals) keep(x *exchange, took time.Duration) {
	t, c := x.tenant, x.target.clone
	if c == nil {
		return
	}
	if t != nil {
		if j := t.journal.Load(); j != nil && j.note(x, took) {
			return
		}
	}
	j := js.of(c, x.start)
	if j != nil && j.note(x, took) && t != nil {
		t.journal.Store(j)
	}
}

// find returns the journal of a clone if there is one.
func (js *journals) find(id registry.ID) *journal {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.byID[id]
}

// of returns the journal of this life of a clone; nil if the life is over or
// there is no room for one.
func (js *journals) of(c *registry.Clone, now time.Time) *journal {
	if js.full.Load() > now.UnixNano() {
		return js.find(c.ID)
	}
	js.mu.Lock()
	defer js.mu.Unlock()
	// The life may have ended since c was read, and that change may have been
	// followed already: only the present record may make a journal.
	present, ok := js.routes.Clone(c.ID)
	if !ok || js.closed || present.State.Over() || present.Incarnation != c.Incarnation {
		return nil
	}
	js.applyLocked(present)
	if j := js.byID[c.ID]; j != nil {
		return j
	}
	slots := min(firstSlots, js.perClone)
	size := int64(slots) * slotBytes
	if !js.take(size) {
		js.makeRoomLocked(now)
		if !js.take(size) {
			js.full.Store(now.Add(roomEvery).UnixNano())
			return nil
		}
	}
	// No journal of the clone, before or after, has the same numbers: a life has
	// fewer than a million requests a second.
	begun := uint64(now.UnixMicro())
	j := &journal{all: js, incarnation: c.Incarnation, slots: make([]slot, slots), begun: begun, first: begun, next: begun}
	j.used.Store(now.UnixNano())
	js.byID[c.ID] = j
	return j
}

// apply forgets the journal of a life that is over.
func (js *journals) apply(c *registry.Clone) {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.applyLocked(c)
}

func (js *journals) applyLocked(c *registry.Clone) {
	if j := js.byID[c.ID]; j != nil && (c.Incarnation > j.incarnation || c.Incarnation == j.incarnation && c.State.Over()) {
		js.dropLocked(c.ID, j)
	}
}

func (js *journals) dropLocked(id registry.ID, j *journal) {
	delete(js.byID, id)
	js.bytes.Add(-j.close())
}

// makeRoomLocked forgets the journals of the clones that were asked for least
// recently, until an eighth of the memory is free; but none that somebody
// follows, and none that was used just now: its clone would want it back at once.
func (js *journals) makeRoomLocked(now time.Time) {
	type quiet struct {
		id   registry.ID
		j    *journal
		used int64
	}
	var all []quiet
	for id, j := range js.byID {
		if used := j.used.Load(); now.UnixNano()-used > int64(quietFor) && !j.isFollowed() {
			all = append(all, quiet{id, j, used})
		}
	}
	slices.SortFunc(all, func(a, b quiet) int { return cmp.Compare(a.used, b.used) })
	for _, q := range all {
		if js.bytes.Load() <= js.most-js.most/8 {
			return
		}
		js.dropLocked(q.id, q.j)
	}
}

// reread forgets the journals of all lives that are over.
func (js *journals) reread() {
	js.mu.Lock()
	defer js.mu.Unlock()
	for id, j := range js.byID {
		if c, ok := js.routes.Clone(id); ok {
			js.applyLocked(c)
		} else {
			js.dropLocked(id, j)
		}
	}
}

// close forgets all journals and makes no new ones.
func (js *journals) close() {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.closed = true
	for id, j := range js.byID {
		js.dropLocked(id, j)
	}
}
