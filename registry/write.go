package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// maxBatch bounds how many writes wait and how many become durable together.
const maxBatch = 256

// commitTimeout bounds one write to the store.
const commitTimeout = 30 * time.Second

// An op is one write. decide looks at the records as they will be once every
// earlier write is done, and either returns an error having put nothing, or
// puts what is to change. It runs on the writer and must not block on it.
type op struct {
	decide func(*tx) error
	done   chan error // takes one value without blocking
}

// write decides on the writer and returns once what was put is durable and
// visible. A context that ends stops the waiting, not the write.
func (r *Registry) write(ctx context.Context, decide func(*tx) error) error {
	o := &op{decide: decide, done: make(chan error, 1)}
	select {
	case r.ops <- o:
	case <-r.ended:
		return fmt.Errorf("%w: it is shutting down", ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-r.ended:
		select {
		case err := <-o.done:
			return err
		default:
			return fmt.Errorf("%w: it is shutting down", ErrUnavailable)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runWriter takes writes one by one and makes those that wait durable in one
// go: a storm of registrations costs few syncs.
func (r *Registry) runWriter(ctx context.Context) {
	for {
		select {
		case first := <-r.ops:
			r.writeBatch(ctx, first)
		case <-ctx.Done():
			return
		}
	}
}

func (r *Registry) writeBatch(ctx context.Context, first *op) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	t := newTx(ctx, r)
	var waiting []decided
	for o := first; o != nil; o = r.nextWaiting(len(waiting)) {
		err := o.decide(t)
		if len(t.changes) == 0 {
			o.done <- err
			continue
		}
		// Even what changes nothing, or was refused, may rest on what this
		// batch has put: a repeated registration, say. It is true only once
		// that is durable.
		waiting = append(waiting, decided{o, err})
	}
	if len(waiting) == 0 {
		return
	}
	failed := r.commit(ctx, t)
	for _, d := range waiting {
		d.op.done <- cmp.Or(failed, d.err)
	}
}

// A decided op waits for its batch to be written.
type decided struct {
	op  *op
	err error // what it was refused with
}

func (r *Registry) nextWaiting(have int) *op {
	if have >= maxBatch {
		return nil
	}
	select {
	case o := <-r.ops:
		return o
	default:
		return nil
	}
}

func (r *Registry) commit(ctx context.Context, t *tx) error {
	err := r.cfg.Store.Commit(ctx, t.batch())
	r.noteStore(err)
	if err != nil {
		t.undo()
		return fmt.Errorf("write to the registry: %w", err)
	}
	r.nextID = t.nextID
	for _, ch := range t.changes {
		r.view.apply(ch)
		if ch.Clone != nil {
			r.noteOver(ch.Clone)
			r.faultEnds.note(ch.Clone)
			r.noteLease(ch)
		}
		if ch.NoToken != "" {
			r.tokens.forget(ch.NoToken)
		}
	}
	return nil
}

// noteLease starts the lease of a clone that has just registered, and ends
// that of one which nobody waits for any more.
func (r *Registry) noteLease(ch Change) {
	switch typ := ch.Event.Type; {
	case !leased(ch.Clone):
		r.leases.drop(ch.Clone.ID)
	case typ == EventCloneRegistered || typ == EventCloneChanged:
		r.leases.grant(ch.Clone.ID, ch.Clone.TTL.Duration(), time.Now(), true)
	}
}

// noteStore remembers whether the store works. While it does not, no lease
// ends; when it comes back, every lease gets one full TTL of grace, since
// renewals and registrations may have failed for our reasons.
func (r *Registry) noteStore(err error) {
	if err != nil {
		if r.fault.Swap(&err) == nil {
			r.cfg.Log.Error("store fails; leases are frozen until it works again", "err", err)
		}
		return
	}
	if r.fault.Load() != nil {
		r.leases.grace()
		r.fault.Store(nil)
		r.cfg.Log.Info("store works again; every lease starts anew")
	}
}

// A tx is the records as the writer sees them while it decides: the view, and
// over it what this batch has put.
type tx struct {
	ctx      context.Context
	r        *Registry
	now      time.Time
	revision uint64
	nextID   uint64
	changes  []Change
	undos    []func()

	// What this batch has put, over what the view holds.
	clones    map[ID]*Clone
	labels    map[string]ID // "" for one that was given up
	templates map[string]*Template
	channels  map[string]*Channel
	tokens    map[string]*Token // nil for one that was removed
}

func newTx(ctx context.Context, r *Registry) *tx {
	return &tx{
		ctx: ctx, r: r,
		now:      time.Now().Round(time.Millisecond),
		revision: r.view.Revision(),
		nextID:   r.nextID,
		clones:   map[ID]*Clone{}, labels: map[string]ID{},
		templates: map[string]*Template{}, channels: map[string]*Channel{},
		tokens: map[string]*Token{},
	}
}

// clone returns the record of id, however long it has been over, or nil.
func (t *tx) clone(id ID) (*Clone, error) {
	if c, ok := t.clones[id]; ok {
		return c, nil
	}
	if c, ok := t.r.view.Clone(id); ok {
		return c, nil
	}
	c, err := t.r.cfg.Store.Clone(t.ctx, id)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		return nil, fmt.Errorf("look up clone %s: %w", id, err)
	}
	return c, nil
}

// owner returns the ID of the clone a public label belongs to, "" if none.
func (t *tx) owner(label string) ID {
	if id, ok := t.labels[label]; ok {
		return id
	}
	if c, ok := t.r.view.labels.get(label); ok {
		return c.ID
	}
	return ""
}

// next returns the revision of the change about to be put.
func (t *tx) next(e *Event, by Actor) uint64 {
	t.revision++
	e.Seq, e.Time = t.revision, t.now
	e.From = by.From
	e.By = by.Name()
	if by.Token != nil {
		e.By += " (" + by.Token.ID + ")"
	}
	return t.revision
}

// put makes c the record of its ID. The caller has made c for this purpose.
func (t *tx) put(c *Clone, by Actor, typ, message string) {
	e := &Event{
		Type: typ, Clone: c.ID, Incarnation: c.Incarnation, State: c.State,
		Template: c.Template, DeployTag: c.DeployTag, Message: message,
	}
	c.Revision = t.next(e, by)
	c.Changed, c.Since = t.now, t.now
	if old, _ := t.clone(c.ID); old != nil {
		if old.State == c.State && old.Incarnation == c.Incarnation {
			c.Since = old.Since
		}
		for _, label := range old.PublicLabels() {
			if t.owner(label) == c.ID {
				t.labels[label] = ""
			}
		}
	}
	for _, label := range c.PublicLabels() {
		if t.owner(label) == "" || !c.State.Over() {
			t.labels[label] = c.ID
		}
	}
	t.clones[c.ID] = c
	t.changes = append(t.changes, Change{Revision: c.Revision, Event: e, Clone: c})
}

// note puts an event that changes no record.
func (t *tx) note(typ, message string) {
	e := &Event{Type: typ, Message: message}
	t.changes = append(t.changes, Change{Revision: t.next(e, System), Event: e})
}

// onUndo registers what to do if the batch cannot be written.
func (t *tx) onUndo(fn func()) { t.undos = append(t.undos, fn) }

func (t *tx) undo() {
	for _, fn := range t.undos {
		fn()
	}
}

func (t *tx) batch() *Batch {
	b := &Batch{NextID: t.nextID}
	for _, ch := range t.changes {
		b.Events = append(b.Events, *ch.Event)
		switch {
		case ch.Clone != nil:
			b.Clones = append(b.Clones, ch.Clone)
		case ch.Template != nil:
			b.Templates = append(b.Templates, ch.Template)
		case ch.Channel != nil:
			b.Channels = append(b.Channels, ch.Channel)
		case ch.Token != nil:
			b.Tokens = append(b.Tokens, ch.Token)
		case ch.NoToken != "":
			b.NoTokens = append(b.NoTokens, ch.NoToken)
		}
	}
	return b
}
