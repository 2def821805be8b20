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
	old     *entry    // what was kept when it started, nil if nothing was
	attempt attempt   // the first of them
	waiters []waiter  // guarded by flights.mu
	room    [1]waiter // for most waiters
}

// A waiter gets what a flight brings: land is called once, and must not block.
// Replies that go into out are sent along with others; it may be nil.
type waiter interface {
	land(ctx context.Context, e *entry, out *outbox)
}

// flights are the questions that are on their way.
type flights struct {
	mu sync.Mutex
	m  map[cacheKey]*flight // guarded by mu
}

// fly asks upstreams without waiting for them; w gets what they said, which
// may be at once. What has not ended yet is asked for again only to renew it.
func (v *view) fly(ctx context.Context, q question, g group, renew bool, w waiter) {
	k := v.key(q, g)
	v.flights.mu.Lock()
	if f := v.flights.m[k]; f != nil {
		f.waiters = append(f.waiters, w)
		v.flights.mu.Unlock()
		return
	}
	f := &flight{view: v, key: k, q: q, group: g}
	f.waiters = append(f.room[:0], w)
	if v.flights.m == nil {
		v.flights.m = map[cacheKey]*flight{}
	}
	v.flights.m[k] = f
	v.flights.mu.Unlock()
	f.old = v.cache.get(k)
	if f.old != nil && f.old.fresh(v.now()) && !renew {
		f.land(ctx, f.old, nil) // another flight has just landed
		return
	}
	if !v.carry(f) {
		v.tasks.Go(func() { f.finish(ctx, nil) })
	}
}

// finish asks upstreams and waits for them; first is a question to the first
// of them that is already on its way, nil if there is none.
func (f *flight) finish(ctx context.Context, first *attempt) {
	defer f.guard(ctx)
	m, err := f.view.exchange(ctx, f.q, f.group, first)
	if err != nil {
		f.land(ctx, f.failed(ctx, err), nil)
		return
	}
	f.arrive(ctx, m, nil)
}

// guard ends the flight though what was brought could not be handled.
func (f *flight) guard(ctx context.Context) {
	if p := recover(); p != nil {
		f.land(ctx, &entry{key: f.key, failure: f.view.panicked(p).Error()}, nil)
	}
}

// arrive keeps what upstreams said and gives it to those who wait. m is clean.
func (f *flight) arrive(ctx context.Context, m *dns.Msg, out *outbox) {
	v := f.view
	isRefused := v.refusePrivate(f.q, m)
	v.amend(f.q, m)
	e := v.newEntry(f.key, m, v.now())
	if isRefused && e.ready != nil {
		e.ready.ede = blocked
	}
	f.keep(ctx, e, out)
}

// keep keeps an entry, unless it ends at once, and gives it to those who wait.
func (f *flight) keep(ctx context.Context, e *entry, out *outbox) {
	if e.fresh(e.stored) {
		f.view.cache.put(e)
	}
	f.land(ctx, e, out)
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
func (f *flight) land(ctx context.Context, e *entry, out *outbox) {
	v := f.view
	v.flights.mu.Lock()
	if v.flights.m[f.key] != f {
		v.flights.mu.Unlock()
		return
	}
	delete(v.flights.m, f.key)
	waiters := f.waiters
	v.flights.mu.Unlock()
	for _, w := range waiters {
		w.land(ctx, e, out)
	}
}

// A landing is a waiter that goes on elsewhere. It has room for one entry.
type landing chan *entry

func (l landing) land(_ context.Context, e *entry, _ *outbox) { l <- e }

// ask asks upstreams, waiting for them. If they stay silent for too long and
// there is an answer that has expired, that is given, and the question goes on
// by itself.
func (v *view) ask(ctx context.Context, q question, g group, old *entry) *result {
	if !v.busy.enter(g.key, v.habits.MaxWaiting) {
		return v.tooBusy(g)
	}
	defer v.busy.leave(g.key)
	v.metrics.cacheMisses.Inc()
	landed := make(landing, 1)
	var patience <-chan time.Time
	if old != nil && old.stale(v.now(), v.habits.StaleFor) {
		timer := time.NewTimer(v.timing.stale)
		defer timer.Stop()
		patience = timer.C
	}
	v.fly(ctx, q, g, false, landed)
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
	old   *entry // the answer that has expired, nil if there is none
}

// later has a job answered once upstreams have, or refused if too many wait.
func (f *front) later(ctx context.Context, j *job) {
	select {
	case f.waiting <- struct{}{}:
	default:
		j.deliver(j.refuse())
		return
	}
	if j.delay > 0 {
		f.tasks.Go(func() {
			select {
			case <-time.After(j.delay):
			case <-ctx.Done():
			}
			j.complete(ctx)
		})
		return
	}
	v, g := f.view, j.miss.group
	if j.miss.old != nil && j.miss.old.stale(f.now(), f.habits.StaleFor) {
		f.tasks.Go(func() { j.complete(ctx) })
		return
	}
	if !v.busy.enter(g.key, v.habits.MaxWaiting) {
		<-f.waiting
		j.deliver(j.pack(nil, v.tooBusy(g)))
		return
	}
	v.metrics.cacheMisses.Inc()
	v.fly(ctx, j.miss.q, g, false, j)
}

// complete waits for all that the job needs, and gives its place back.
func (j *job) complete(ctx context.Context) {
	defer func() { <-j.waiting }()
	j.deliver(j.finish(ctx))
}

// deliver sends the reply, nil if there is none.
func (j *job) deliver(reply []byte) {
	switch {
	case j.socket == nil:
		j.send(reply)
	case reply != nil:
		j.front.send(j.socket, reply, j.to)
	}
}

// land answers the job with what upstreams said to the question it waited for.
// Another question may have to be asked first.
func (j *job) land(ctx context.Context, e *entry, out *outbox) {
	j.view.busy.leave(j.miss.group.key)
	if j.socket == nil {
		out = nil
	}
	reply, more := j.landed(e, out.room())
	if more {
		j.tasks.Go(func() { j.complete(ctx) })
		return
	}
	<-j.waiting
	if out == nil || reply == nil {
		j.deliver(reply)
		return
	}
	out.add(j.front, j.socket, reply, j.to)
}

// landed returns the reply, in room if there is enough. more is true if
// another question has to be asked first.
func (j *job) landed(e *entry, room []byte) (reply []byte, more bool) {
	defer func() {
		if p := recover(); p != nil {
			j.panicked(p)
			reply, more = nil, false
		}
	}()
	j.query.now, j.query.brought = j.now(), e
	if at := j.miss.q; at.name == j.query.name {
		if r := e.result(at, j.query.now); r.target == "" { // all that there is to say
			said := *r
			said.from = "upstream"
			return j.pack(room, &said), false
		}
	}
	r := j.answer(&j.query, j.client.Addr(), func(question, group, *entry) *result { return waits })
	if r.wait {
		return nil, true
	}
	return j.pack(room, r), false
}
