package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Grant is what a registration is answered with.
type Grant struct {
	Clone      *Clone
	New        bool              // a life began
	URLs       map[string]string // service → public URL
	TTL        Seconds
	RenewEvery Seconds
}

func (r *Registry) grant(c *Clone, isNew bool) *Grant {
	every := min(r.cfg.RenewEvery, c.TTL.Duration()/3)
	return &Grant{
		Clone: c, New: isNew, URLs: r.view.URLs(c), TTL: c.TTL,
		RenewEvery: max(1, Seconds(every/time.Second)),
	}
}

// URLs returns the public URL of each service of c.
func (v *View) URLs(c *Clone) map[string]string {
	urls := make(map[string]string, len(c.Services))
	for name := range c.Services {
		urls[name] = v.zones.URL(name + "-" + string(c.ID))
	}
	return urls
}

// keptInstances bounds how many earlier lives of a clone are remembered to
// fence their late messages.
const keptInstances = 8

// Register begins a life under id, or changes the living one, and starts its
// lease anew. In order:
//
//  1. the living instance may repeat or change its registration at any time
//  2. a lost instance comes back to life
//  3. an instance that was ended on purpose is ErrEnded, one that was replaced
//     is ErrFenced
//  4. another instance begins a new life if the last one is over, or if it has
//     the right to take over and asks to; otherwise it is ErrHeld
//
// Faults of reg are FieldErrors; a name that belongs to another living clone
// is ErrLabelTaken.
func (r *Registry) Register(ctx context.Context, by Actor, id ID, reg Registration, takeover bool) (*Grant, error) {
	if err := by.mayRegister(id); err != nil {
		return nil, err
	}
	if takeover && !by.mayTakeOver() {
		return nil, fmt.Errorf("%w: taking over a living clone needs an admin token or one made with takeover", ErrForbidden)
	}
	want, err := r.read(&reg, by)
	if err != nil {
		return nil, err
	}
	var now *Clone
	var isNew bool
	err = r.write(ctx, func(t *tx) (err error) {
		now, isNew, err = t.register(id, want, by, takeover)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.grant(now, isNew), nil
}

// register makes now the record of id, unless nothing would change. It is made
// for this purpose, and holds nothing of what id was cut from: a request's line.
func (t *tx) register(id ID, now *Clone, by Actor, takeover bool) (_ *Clone, isNew bool, err error) {
	old, err := t.clone(id)
	if err != nil {
		return nil, false, err
	}
	isNew, err = t.beginsLife(old, now.Instance, takeover)
	if err != nil {
		return nil, false, err
	}
	now.ID, now.Created, now.Incarnation = ID(strings.Clone(string(id))), t.now, 1
	if old != nil {
		now.ID = old.ID
		if old.Provider != "" && now.Owner != "" && now.Owner != old.Owner {
			return nil, false, &FieldError{Field: "owner", Rule: "owner-kept", Detail: fmt.Sprintf("the clone was created for %s and stays theirs; leave owner out", orNobody(old.Owner))}
		}
		inherit(now, old, isNew)
	}
	if err := t.claim(now); err != nil {
		return nil, false, err
	}
	if !isNew && sameRegistration(old, now) {
		t.r.leases.renew(id)
		return old, false, nil
	}
	if isNew {
		t.put(now, by, EventCloneRegistered, "")
	} else {
		t.put(now, by, EventCloneChanged, "")
	}
	return now, isNew, nil
}

// beginsLife decides whether instance begins a new life of old, which may be nil.
func (t *tx) beginsLife(old *Clone, instance string, takeover bool) (bool, error) {
	switch {
	case old == nil:
		return true, nil
	case old.Incarnation > 0 && old.Instance == instance:
		if old.State == Lost {
			return false, nil
		}
		return false, checkLiving(old, instance)
	case slices.Contains(old.Past, instance):
		return false, fmt.Errorf("clone %s: instance %q is %w: incarnation %d took its place", old.ID, instance, ErrFenced, old.Incarnation)
	case old.State.Over():
		return true, nil
	case old.Desired == WantGone || old.State == Failed:
		return false, fmt.Errorf("clone %s: %w: it is %s%s", old.ID, ErrEnded, old.State, endedBy(old))
	case old.Incarnation == 0 || takeover:
		return true, nil
	}
	age := "it has not been heard of since the daemon started"
	if l, ok := t.r.leases.get(old.ID); ok && l.Confirmed {
		age = fmt.Sprintf("last heard of %s ago", time.Since(l.Renewed).Round(time.Second))
	}
	return false, fmt.Errorf("clone %s is %w: incarnation %d registered at %s, %s; wait for its lease to end, end it with DELETE, or ask to take over",
		old.ID, ErrHeld, old.Incarnation, old.Created.UTC().Format(time.RFC3339), age)
}

// inherit carries over what a registration does not say: what the clone was
// created with, and its earlier lives.
func inherit(now, old *Clone, isNew bool) {
	now.Provider, now.Params = old.Provider, old.Params
	now.Past = old.Past
	now.Incarnation = old.Incarnation
	if !isNew || old.Provider != "" {
		now.Created = old.Created
	}
	if !isNew || old.Incarnation == 0 { // a life that a provider is beginning
		now.Faults = old.Faults
	}
	if isNew {
		now.Incarnation++
		if old.Instance != "" {
			now.Past = append([]string{old.Instance}, old.Past...)
			now.Past = now.Past[:min(len(now.Past), keptInstances)]
		}
	}
	if old.Provider == "" {
		return
	}
	if now.Template == "" {
		now.Template, now.DeployTag = old.Template, old.DeployTag
	}
	if now.Owner == "" {
		now.Owner = old.Owner
	}
	if now.Labels == nil {
		now.Labels = old.Labels
	}
	if now.Aliases == nil {
		now.Aliases = old.Aliases
	}
}

// sameRegistration reports whether a registration changes nothing.
func sameRegistration(old, now *Clone) bool {
	n := now.clone()
	n.Revision, n.Changed, n.Since = old.Revision, old.Changed, old.Since
	a, errA := json.Marshal(old)
	b, errB := json.Marshal(n)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// claim checks that every public label of c is a DNS label and belongs to
// nobody else. The ID's own labels are kept for ever; an alias may be claimed
// once the life of the clone that had it is over.
func (t *tx) claim(c *Clone) error {
	var faults FieldErrors
	for _, label := range c.PublicLabels() {
		if len(label) > MaxLabelLen {
			faults.add("services", "label-length", "the public name %q would be %d octets long; a DNS label holds at most %d: shorten the service or the alias", label, len(label), MaxLabelLen)
			continue
		}
		id := t.owner(label)
		if id == "" || id == c.ID {
			continue
		}
		owner, err := t.clone(id)
		if err != nil {
			return err
		}
		if owner == nil || owner.State.Over() && !ownLabel(id, label) {
			continue
		}
		return fmt.Errorf("public name %q: %w: clone %s of %s has it", label, ErrLabelTaken, id, orNobody(owner.Owner))
	}
	return faults.err()
}

// ownLabel reports whether label is one that id has by itself, without alias.
func ownLabel(id ID, label string) bool {
	return label == string(id) || len(label) > len(id) && label[len(label)-len(id)-1:] == "-"+string(id)
}

func orNobody(owner string) string {
	if owner == "" {
		return "no named owner"
	}
	return owner
}
