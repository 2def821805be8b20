package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
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
	err = r.write(ctx, func(t *tx) error {
		now, isNew, err = t.register(id, want, by, takeover)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.grant(now, isNew), nil
}

func (t *tx) register(id ID, want *Clone, by Actor, takeover bool) (now *Clone, isNew bool, err error) {
	old, err := t.clone(id)
	if err != nil {
		return nil, false, err
	}
	isNew, err = t.beginsLife(old, want.Instance, takeover)
	if err != nil {
		return nil, false, err
	}
	now = want.clone()
	now.ID, now.Created, now.Incarnation = id, t.now, 1
	if old != nil {
		if old.Provider != "" && want.Owner != "" && want.Owner != old.Owner {
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

// A CreateRequest asks for a clone that a provider makes from a template.
type CreateRequest struct {
	Template string            `json:"template" doc:"name, name@version or name@channel; a bare name means its stable channel, or its newest version if it has none."`
	Provider string            `json:"provider,omitempty" doc:"What makes the clone. Default process."`
	Owner    string            `json:"owner,omitempty" doc:"Who it belongs to. Default: the name of the token; only an admin may name another."`
	Aliases  []string          `json:"aliases,omitempty" doc:"Human names beside the ID, as in pr-87."`
	Labels   map[string]string `json:"labels,omitempty" doc:"Free metadata to filter by."`
	Params   map[string]string `json:"params,omitempty" doc:"Values for the template's parameters."`
}

// Create allocates an ID and records the wish for a clone, which a provider
// then fulfils. The ID is durable before anything is started.
func (r *Registry) Create(ctx context.Context, by Actor, req CreateRequest) (*Clone, error) {
	if err := by.need(RoleEngineer); err != nil {
		return nil, err
	}
	want, err := r.readCreate(&req, by)
	if err != nil {
		return nil, err
	}
	err = r.write(ctx, func(t *tx) error {
		want = want.clone()
		if want.ID, err = t.allocate(); err != nil {
			return err
		}
		want.Created = t.now
		if err := t.claim(want); err != nil {
			return err
		}
		t.put(want, by, EventCloneCreated, "")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return want, nil
}

func (r *Registry) readCreate(req *CreateRequest, by Actor) (*Clone, error) {
	in := &reader{r: r}
	c := &Clone{
		Provider: req.Provider,
		Owner:    in.text("owner", req.Owner),
		Aliases:  in.aliases(req.Aliases),
		Labels:   in.pairs("labels", req.Labels),
		Params:   in.pairs("params", req.Params),
		State:    Registered,
		Desired:  WantReady,
	}
	if c.Provider == "" {
		c.Provider = "process"
	}
	if !slices.Contains(r.cfg.Providers, c.Provider) {
		in.faults.add("provider", "provider", "%q is not a provider of this daemon; it has %v", clip(c.Provider), r.cfg.Providers)
	}
	if by.Token != nil {
		c.Owner = cmp.Or(c.Owner, by.Token.Name)
		if c.Owner != by.Token.Name && by.Token.Role != RoleAdmin {
			in.faults.add("owner", "owner", "clones that token %s starts belong to %s; leave the owner out", by.Token.ID, by.Token.Name)
		}
	}
	t, err := r.view.ResolveTemplate(req.Template)
	switch {
	case err != nil:
		in.faults.add("template", "template-unknown", "%v", err)
	case t.State == Revoked || t.State == Collected:
		in.faults.add("template", "template-"+string(t.State), "%s is %s: %s", t.Ref(), t.State, t.Reason)
	default:
		c.Template, c.DeployTag = t.Ref(), t.DeployTag
		if check := r.cfg.CheckParams; check != nil {
			if err := check(t, c.Params); err != nil {
				in.faults.add("params", "params", "%v", err)
			}
		}
	}
	return c, in.faults.err()
}

// allocate returns an ID that no clone ever had and no label stands for.
func (t *tx) allocate() (ID, error) {
	for {
		id := ID(strconv.FormatUint(t.nextID, 10))
		t.nextID++
		if t.owner(string(id)) != "" {
			continue
		}
		c, err := t.clone(id)
		if err != nil {
			return "", err
		}
		if c == nil {
			return id, nil
		}
	}
}

// moves lists the states that SetState may move a clone to.
var moves = map[State][]State{
	Registered: {Starting, Failed, Stopping, Gone},
	Starting:   {Ready, Degraded, Failed, Stopping, Gone},
	Ready:      {Degraded, Failed, Suspending, Stopping, Gone},
	Degraded:   {Ready, Failed, Suspending, Stopping, Gone},
	Suspending: {Suspended, Failed, Stopping, Gone},
	Suspended:  {Resuming, Stopping, Gone},
	Resuming:   {Ready, Degraded, Failed, Stopping, Gone},
	Failed:     {Stopping, Gone},
	Lost:       {Stopping, Gone},
	Stopping:   {Failed, Gone},
}

// SetState moves the observed state of a clone, as whoever runs it sees it.
// Setting the present state again only replaces the reason. The error is
// ErrFenced if the clone has begun another life than incarnation meanwhile.
func (r *Registry) SetState(ctx context.Context, by Actor, id ID, incarnation uint64, state State, reason string) error {
	if err := by.need(RoleAdmin); err != nil {
		return err
	}
	return r.write(ctx, func(t *tx) error {
		c, err := t.clone(id)
		if err != nil {
			return err
		}
		if c == nil {
			return fmt.Errorf("clone %s: %w", id, ErrNotFound)
		}
		if c.Incarnation != incarnation {
			return fmt.Errorf("clone %s: incarnation %d is %w; incarnation %d is", id, incarnation, ErrFenced, c.Incarnation)
		}
		if c.State == state && c.Reason == reason {
			return nil
		}
		if c.State != state && !slices.Contains(moves[c.State], state) {
			return fmt.Errorf("clone %s: %w: it is %s and cannot become %s", id, ErrInvalid, c.State, state)
		}
		t.move(c, state, reason, by)
		return nil
	})
}

func (t *tx) move(c *Clone, state State, reason string, by Actor) {
	now := c.clone()
	now.State, now.Reason = state, reason
	typ := EventCloneState
	switch state {
	case Gone:
		typ = EventCloneGone
		now = now.tombstone()
		now.Desired = WantGone
		now.Ended = t.now
		if now.EndedBy == "" {
			now.EndedBy = by.Name()
		}
	case Failed:
		now.Ended = t.now
	case Stopping:
		typ = EventCloneStopping
	}
	t.put(now, by, typ, reason)
}

// Unregister ends the life of an instance: a clone of a provider is asked to
// stop and becomes gone when it has; any other is gone at once. Ending what has
// ended already succeeds. An empty instance ends whichever life is there, which
// takes more than a clone token.
func (r *Registry) Unregister(ctx context.Context, by Actor, id ID, instance string) (*Clone, error) {
	if instance != "" {
		if err := by.mayRegister(id); err != nil {
			return nil, err
		}
	}
	var now *Clone
	err := r.write(ctx, func(t *tx) error {
		c, err := t.clone(id)
		if err != nil {
			return err
		}
		if c == nil {
			return fmt.Errorf("clone %s: %w", id, ErrNotFound)
		}
		if instance == "" {
			if err := by.owns(c); err != nil {
				return err
			}
		} else if c.Instance != instance {
			return fmt.Errorf("clone %s: instance %q is %w; incarnation %d lives under another", id, clip(instance), ErrFenced, c.Incarnation)
		}
		t.end(c, by)
		now, err = t.clone(id)
		return err
	})
	return now, err
}

func (t *tx) end(c *Clone, by Actor) {
	if c.State == Gone || c.State == Stopping && c.Desired == WantGone {
		return
	}
	now := c.clone()
	now.Desired, now.EndedBy = WantGone, by.Name()
	if c.Provider == "" {
		t.move(now, Gone, "ended by "+by.Name(), by)
		return
	}
	t.move(now, Stopping, "ended by "+by.Name(), by)
}

// need returns nil if the actor has the role or is an admin or the daemon.
func (a Actor) need(role Role) error {
	if a.Token == nil || a.Token.Role == RoleAdmin || a.Token.Role == role {
		return nil
	}
	return fmt.Errorf("%w: this needs a token of role %s or admin; token %s has role %s", ErrForbidden, role, a.Token.ID, a.Token.Role)
}

func (a Actor) mayRegister(id ID) error {
	if a.Token == nil || a.Token.Covers(id) {
		return nil
	}
	if a.Token.Role == RoleClone {
		return fmt.Errorf("%w: token %s was issued for clone %v, not for %s", ErrForbidden, a.Token.ID, a.Token.IDs, id)
	}
	return a.need(RoleClone)
}

func (a Actor) mayTakeOver() bool {
	return a.Token == nil || a.Token.Role == RoleAdmin || a.Token.Takeover
}

// owns returns nil if the actor may end c and change what its owner may.
func (a Actor) owns(c *Clone) error {
	if err := a.need(RoleEngineer); err != nil {
		return err
	}
	if a.Token != nil && a.Token.Role == RoleEngineer && c.Owner != a.Token.Name {
		return fmt.Errorf("%w: clone %s belongs to %s; token %s is for clones of %s only", ErrForbidden, c.ID, orNobody(c.Owner), a.Token.ID, a.Token.Name)
	}
	return nil
}
