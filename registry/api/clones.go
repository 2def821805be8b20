package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// A Clone is a record of the registry as the API shows it: with its public
// URLs and its lease, and without the instances that fence its messages.
type Clone struct {
	ID          registry.ID                    `json:"id"`
	Incarnation uint64                         `json:"incarnation" doc:"Counts the lives of this ID, from 1; 0 before the first."`
	Revision    uint64                         `json:"revision" doc:"Of the change that made this value."`
	Provider    string                         `json:"provider,omitempty" doc:"What made it; empty if it registered by itself."`
	Template    string                         `json:"template,omitempty" doc:"name@version"`
	DeployTag   string                         `json:"deploy_tag,omitempty"`
	Owner       string                         `json:"owner,omitempty"`
	Labels      map[string]string              `json:"labels,omitempty"`
	Aliases     []string                       `json:"aliases,omitempty"`
	Params      map[string]string              `json:"params,omitempty"`
	State       registry.State                 `json:"state" doc:"What it is."`
	Desired     registry.Desired               `json:"desired" enum:"ready,gone" doc:"What its owner wants it to be."`
	Reason      string                         `json:"reason,omitempty" doc:"Why it is in this state."`
	Services    map[string]*registry.Service   `json:"services,omitempty"`
	Hosts       map[registry.Host][]netip.Addr `json:"hosts,omitempty"`
	Records     []registry.Record              `json:"records,omitempty"`
	Forward     []registry.Forward             `json:"forward,omitempty"`
	Faults      []*registry.Fault              `json:"faults,omitempty" doc:"Troubles that it has on purpose, for a while."`

	Production   map[string]string `json:"production,omitempty" doc:"The service that stands for each name of production."`
	StripCookies []string          `json:"strip_cookies,omitempty" doc:"Cookies of production that the clone never sees."`

	URLs    map[string]string `json:"urls,omitempty" doc:"Public URL of each service."`
	Lease   *Lease            `json:"lease,omitempty" doc:"Absent if nothing is waited for, and in streams."`
	Created time.Time         `json:"created"`
	Changed time.Time         `json:"changed"`
	Since   time.Time         `json:"since" doc:"When it got its state."`
	Ended   time.Time         `json:"ended,omitzero"`
	EndedBy string            `json:"ended_by,omitempty"`
}

// A Lease is how long a clone may stay silent.
type Lease struct {
	TTL       registry.Seconds `json:"ttl" doc:"Seconds it lives without renewal."`
	Left      registry.Seconds `json:"left" doc:"Seconds left of it."`
	Renewed   time.Time        `json:"renewed,omitzero" doc:"When the clone was last heard of."`
	Confirmed bool             `json:"confirmed" doc:"Whether it was heard of since the daemon started."`
}

// show returns c as the API shows it, without its lease.
func (a *API) show(c *registry.Clone) *Clone {
	shown := &Clone{
		ID: c.ID, Incarnation: c.Incarnation, Revision: c.Revision,
		Provider: c.Provider, Template: c.Template, DeployTag: c.DeployTag,
		Owner: c.Owner, Labels: c.Labels, Aliases: c.Aliases, Params: c.Params,
		State: c.State, Desired: c.Desired, Reason: c.Reason,
		Services: c.Services, Hosts: c.Hosts, Records: c.Records, Forward: c.Forward, Faults: c.FaultsAt(time.Now()),
		Production: c.Production, StripCookies: c.StripCookies,
		Created: c.Created, Changed: c.Changed, Since: c.Since, Ended: c.Ended, EndedBy: c.EndedBy,
	}
	if len(c.Services) > 0 {
		shown.URLs = a.view.URLs(c)
	}
	return shown
}

// showLease returns c as the API shows it, with its lease as of now.
func (a *API) showLease(c *registry.Clone) *Clone {
	shown := a.show(c)
	if l, ok := a.registry.Lease(c.ID); ok && !c.State.Over() {
		shown.Lease = &Lease{
			TTL:     c.TTL,
			Left:    registry.Seconds(l.Left.Round(time.Second) / time.Second),
			Renewed: l.Renewed, Confirmed: l.Confirmed,
		}
	}
	return shown
}

// A CloneID is the ID of a clone in a path.
type CloneID struct {
	ID string `path:"id" doc:"The configuration ID." example:"1234"`
}

// Parse returns the ID, or the problem that it is none.
func (in CloneID) Parse() (registry.ID, error) {
	id, err := registry.ParseID(in.ID)
	if err != nil {
		return "", invalidParam("path.id", "id", err)
	}
	return id, nil
}

// A Grant answers a registration.
type Grant struct {
	ID          registry.ID       `json:"id"`
	Incarnation uint64            `json:"incarnation" doc:"Counts the lives of this ID, from 1."`
	Revision    uint64            `json:"revision" doc:"Of the change that made this registration."`
	State       registry.State    `json:"state"`
	URLs        map[string]string `json:"urls" doc:"Public URL of each service."`
	Lease       GrantedLease      `json:"lease"`
}

// A GrantedLease says how long a registration lives and when to renew it.
type GrantedLease struct {
	TTL        registry.Seconds `json:"ttl" doc:"Seconds it lives without renewal."`
	RenewEvery registry.Seconds `json:"renew_every" doc:"Seconds between renewals."`
}

type grantOutput struct {
	Status int
	Body   *Grant
}

func answer(g *registry.Grant) *grantOutput {
	out := &grantOutput{Status: http.StatusOK, Body: &Grant{
		ID: g.Clone.ID, Incarnation: g.Clone.Incarnation, Revision: g.Clone.Revision,
		State: g.Clone.State, URLs: g.URLs,
		Lease: GrantedLease{TTL: g.TTL, RenewEvery: g.RenewEvery},
	}}
	if g.New {
		out.Status = http.StatusCreated
	}
	return out
}

type registerInput struct {
	CloneID
	Takeover bool `query:"takeover" doc:"Take the ID over from another living instance; the token needs the right."`
	Body     registry.Registration
}

func (a *API) registerClone(ctx context.Context, in *registerInput) (*grantOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	g, err := a.registry.Register(ctx, Actor(ctx), id, in.Body, in.Takeover)
	if err != nil {
		return nil, err
	}
	return answer(g), nil
}

// A RenewRequest names the instance that renews.
type RenewRequest struct {
	Instance string `json:"instance" doc:"As it registered."`
}

type renewInput struct {
	CloneID
	Body RenewRequest
}

func (a *API) renewClone(ctx context.Context, in *renewInput) (*grantOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	g, err := a.registry.Renew(ctx, Actor(ctx), id, in.Body.Instance)
	if err != nil {
		return nil, err
	}
	return answer(g), nil
}

type endInput struct {
	CloneID
	Instance string `query:"instance" minLength:"1" doc:"The life to end; clones must name theirs. Without it, whichever life there is."`
}

type cloneOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     *Clone
}

func (a *API) endClone(ctx context.Context, in *endInput) (*cloneOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	c, err := a.registry.Unregister(ctx, Actor(ctx), id, in.Instance)
	if err != nil {
		return nil, err
	}
	out := &cloneOutput{Status: http.StatusOK, Body: a.show(c)}
	if c.State != registry.Gone {
		out.Status = http.StatusAccepted
	}
	return out, nil
}

type createInput struct {
	Body registry.CreateRequest
}

func (a *API) createClone(ctx context.Context, in *createInput) (*cloneOutput, error) {
	c, err := a.registry.Create(ctx, Actor(ctx), in.Body)
	if err != nil {
		return nil, err
	}
	return &cloneOutput{Status: http.StatusCreated, Location: "/v1/clones/" + string(c.ID), Body: a.show(c)}, nil
}

func (a *API) getClone(_ context.Context, in *CloneID) (*cloneOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	c, ok := a.view.Clone(id)
	if !ok {
		return nil, fmt.Errorf("clone %s: %w", id, registry.ErrNotFound)
	}
	return &cloneOutput{Status: http.StatusOK, Body: a.showLease(c)}, nil
}

// A CloneFilter selects clones. Its zero value selects those whose lives are
// not over.
type CloneFilter struct {
	State    []registry.State `query:"state,explode" enum:"registered,starting,ready,degraded,suspending,suspended,resuming,stopping,gone,failed,lost" doc:"In one of these states."`
	Owner    string           `query:"owner" doc:"Belonging to this owner."`
	Template string           `query:"template" doc:"Made from this template, or from this name@version."`
	Label    []string         `query:"label,explode" doc:"With this label, as key=value; all of them if repeated."`
	Q        string           `query:"q" doc:"With this text in ID, alias, owner, template or reason."`
	All      bool             `query:"all" doc:"Those whose lives are over, too."`
}

// Page bounds a list. Cursor is what the list before gave as next.
type Page struct {
	Cursor string `query:"cursor" doc:"Where to go on: next of the list before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
}

// A CloneList is one page of clones.
type CloneList struct {
	Clones []*Clone `json:"clones" nullable:"false"`
	Next   string   `json:"next,omitempty" doc:"Cursor of the next page; absent on the last."`
}

type listClonesInput struct {
	CloneFilter
	Page
}

type cloneListOutput struct {
	Body CloneList
}

func (a *API) listClones(_ context.Context, in *listClonesInput) (*cloneListOutput, error) {
	matches, err := in.matcher()
	if err != nil {
		return nil, err
	}
	out := &cloneListOutput{Body: CloneList{Clones: []*Clone{}}}
	for c := range a.view.Clones(registry.ID(in.Cursor)) {
		if !matches(c) {
			continue
		}
		if len(out.Body.Clones) == in.Limit {
			out.Body.Next = string(out.Body.Clones[in.Limit-1].ID)
			break
		}
		out.Body.Clones = append(out.Body.Clones, a.showLease(c))
	}
	return out, nil
}

// matcher returns whether a clone is selected by f.
func (f *CloneFilter) matcher() (func(*registry.Clone) bool, error) {
	labels := map[string]string{}
	for _, l := range f.Label {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return nil, invalidParam("query.label", "label", errors.New("want key=value, as in label=team=web"))
		}
		labels[k] = v
	}
	q := strings.ToLower(f.Q)
	return func(c *registry.Clone) bool {
		if len(f.State) > 0 && !slices.Contains(f.State, c.State) ||
			len(f.State) == 0 && !f.All && c.State.Over() ||
			f.Owner != "" && f.Owner != c.Owner ||
			f.Template != "" && f.Template != c.Template && !strings.HasPrefix(c.Template, f.Template+"@") {
			return false
		}
		for k, v := range labels {
			if have, ok := c.Labels[k]; !ok || have != v {
				return false
			}
		}
		return q == "" || mentions(c, q)
	}, nil
}

// mentions reports whether q, in lower case, stands somewhere in c.
func mentions(c *registry.Clone, q string) bool {
	for _, s := range append([]string{string(c.ID), c.Owner, c.Template, c.Reason}, c.Aliases...) {
		if strings.Contains(strings.ToLower(s), q) {
			return true
		}
	}
	return false
}
