package api

import (
	"context"
	"net/http"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// An EscapeList is the names of production that escaped from a clone.
type EscapeList struct {
	Escapes []proxy.Escape `json:"escapes" nullable:"false" doc:"By name, the most frequent first; of a few dozen names at most."`
	Total   uint64         `json:"total" doc:"How often any name escaped."`
}

type escapesOutput struct{ Body EscapeList }

func (o *operations) escapes(ctx context.Context, in *api.CloneID) (*escapesOutput, error) {
	id, err := o.readable(ctx, in)
	if err != nil {
		return nil, err
	}
	names, total, err := o.gateway.Escapes(id)
	if err != nil {
		return nil, err
	}
	if names == nil {
		names = []proxy.Escape{}
	}
	return &escapesOutput{EscapeList{names, total}}, nil
}

// readable returns the clone that is asked about, if the token may read of it.
func (o *operations) readable(ctx context.Context, in *api.CloneID) (registry.ID, error) {
	id, err := in.Parse()
	if err != nil {
		return "", err
	}
	if t := api.Actor(ctx).Token; t.Role == registry.RoleClone && !t.Covers(id) {
		return "", api.Refusal(http.StatusForbidden, "forbidden", "token %s was not issued for clone %s", t.ID, id)
	}
	return id, nil
}
