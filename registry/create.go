package registry

import (
	"cmp"
	"context"
	"slices"
	"strconv"
)

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
	err = r.write(ctx, func(t *tx) (err error) {
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
