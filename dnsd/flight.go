package dnsd

import (
	"context"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A flight is one question on its way to upstreams, and those who wait for
// what comes back. Identical questions share it.
type flight struct {
	view    *view
	key     cacheKey
	q       question
	group   group
	old     *entry         // what was kept when it started, nil if nothing was
	waiters []func(*entry) // guarded by flights.mu
}

// flights are the questions that are on their way.
type flights struct {
	mu sync.Mutex
	m  map[cacheKey]*flight // guarded by mu
}

// fly asks upstreams without waiting for them; landed is called once with what
// they said. It may run at once, and must not block. What has not ended yet is
// asked for again only to renew it.
func (v *view) fly(ctx context.Context, q question, g group, renew bool, landed func(*entry)) {
	k := v.key(q, g)
	v.flights.mu.Lock()
	if f := v.flights.m[k]; f != nil {
		f.waiters = append(f.waiters, landed)
		v.flights.mu.Unlock()
		return
	}
	f := &flight{view: v, key: k, q: q, group: g, waiters: []func(*entry){landed}}
	if v.flights.m == nil {
		v.flights.m = map[cacheKey]*flight{}
	}
	v.flights.m[k] = f
	v.flights.mu.Unlock()
	f.old = v.cache.get(k)
	if f.old != nil && f.old.fresh(v.now()) && !renew {
		f.land(f.old) // another flight has just landed
		return
	}
	if !v.carry(f) {
		v.tasks.Go(func() { f.finish(ctx, nil) })
	}
}

// finish asks upstreams and waits for them; first is a question to the first
// of them that is already on its way, nil if there is none.
func (f *flight) finish(ctx context.Context, first *attempt) {
	defer func() {
		if p := recover(); p != nil {
			f.land(&entry{key: f.key, failure: f.view.panicked(p).Error()})
		}
	}()
	m, err := f.view.exchange(ctx, f.q, f.group, first)
	if err != nil {
		f.land(f.failed(ctx, err))
		return
	}
	f.arrive(m)
}

// arrive keeps what upstreams said and gives it to those who wait. m is clean.
func (f *flight) arrive(m *dns.Msg) {
	v := f.view
	isRefused := v.refusePrivate(f.q, m)
	v.amend(f.q, m)
	e := v.newEntry(f.key, m, v.now())
	if isRefused && e.ready != nil {
		e.ready.ede = blocked
	}
	if e.fresh(e.stored) {
		v.cache.put(e)
	}
	f.land(e)
}

// failed returns what stands in for an answer that did not come: the one that
// has expired, if it may, or the failure itself.
func (f *flight) failed(ctx context.Context, err error) *entry {
	v, now := f.view, f.view.now()
	v.log.Debug("upstreams gave no answer", "name", f.q.name, "type", dns.Type(f.q.qtype), "upstreams", f.group.key, "err", err)
	e := &entry{key: f.key, failure: err.Error(), stored: now, expires: now.Add(failureTTL)}
	if f.old != nil && f.old.fresh(now) {
		return f.old // it was to be renewed before its end
	}
	if f.old != nil && f.old.stale(now, v.habits.StaleFor) {
		again := f.old.copy()
		again.retry = now.Add(failureTTL)
		e = again
	}
	if ctx.Err() == nil {
		v.cache.put(e)
	}
	return e
}

// land ends the flight. Only the first call does: when the server stops, its
// courier and the one it was handed over to may both want to.
func (f *flight) land(e *entry) {
	v := f.view
	v.flights.mu.Lock()
	if v.flights.m[f.key] != f {
		v.flights.mu.Unlock()
		return
	}
	delete(v.flights.m, f.key)
	waiters := f.waiters
	v.flights.mu.Unlock()
	for _, landed := range waiters {
		landed(e)
	}
}

// ask asks upstreams, waiting for them. If they stay silent for too long and
// there is an answer that has expired, that is given, and the question goes on
// by itself.
func (v *view) ask(ctx context.Context, q question, g group) *result {
	if !v.busy.enter(g.key, v.habits.MaxWaiting) {
		return v.tooBusy(g)
	}
	defer v.busy.leave(g.key)
	v.metrics.cacheMisses.Inc()
	landed := make(chan *entry, 1)
	var patience <-chan time.Time
	old := v.cache.get(v.key(q, g))
	if old != nil && old.stale(v.now(), v.habits.StaleFor) {
		timer := time.NewTimer(v.timing.stale)
		defer timer.Stop()
		patience = timer.C
	}
	v.fly(ctx, q, g, false, func(e *entry) { landed <- e })
	select {
	case e := <-landed:
		return v.from(e, q, "upstream")
	case <-patience:
		return v.from(old, q, "stale")
	}
}

func (v *view) tooBusy(g group) *result {
	v.metrics.dropped("group_busy")
	return failed(dns.ExtendedErrorCodeOther, "too many questions wait for upstream "+g.key)
}

// A miss is the question that keeps a job from being answered.
type miss struct {
	q     question
	group group
}

// later finishes a job once upstreams have answered, or refuses it if too many
// wait. send is called once, with the reply or, if there is none, with nil; it
// must not block.
func (f *front) later(ctx context.Context, j *job, send func([]byte)) {
	select {
	case f.waiting <- struct{}{}:
	default:
		send(j.refuse())
		return
	}
	if j.delay > 0 {
		f.tasks.Go(func() {
			select {
			case <-time.After(j.delay):
			case <-ctx.Done():
			}
			f.finish(ctx, j, send)
		})
		return
	}
	v, g := f.view, j.miss.group
	old := v.cache.get(v.key(j.miss.q, g))
	if old != nil && old.stale(f.now(), f.habits.StaleFor) {
		f.tasks.Go(func() { f.finish(ctx, j, send) })
		return
	}
	if !v.busy.enter(g.key, v.habits.MaxWaiting) {
		<-f.waiting
		send(j.pack(v.tooBusy(g)))
		return
	}
	v.metrics.cacheMisses.Inc()
	v.fly(ctx, j.miss.q, g, false, func(e *entry) {
		v.busy.leave(g.key)
		reply, more := j.landed(e)
		if more {
			f.tasks.Go(func() { f.finish(ctx, j, send) })
			return
		}
		<-f.waiting
		send(reply)
	})
}

// finish waits for all that a job needs, and gives its place back.
func (f *front) finish(ctx context.Context, j *job, send func([]byte)) {
	defer func() { <-f.waiting }()
	send(j.finish(ctx))
}

// landed answers the job with what upstreams said to the question it waited
// for. more is true if another question has to be asked first.
func (j *job) landed(e *entry) (reply []byte, more bool) {
	defer func() {
		if p := recover(); p != nil {
			j.panicked(p)
			reply, more = nil, false
		}
	}()
	j.query.now, j.query.brought = j.now(), e
	r := j.answer(j.query, j.client.Addr(), func(question, group) *result { return waits })
	if r.wait {
		return nil, true
	}
	return j.pack(r), false
}
