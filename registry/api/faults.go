package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// A FaultList is faults of a clone.
type FaultList struct {
	Faults []*registry.Fault `json:"faults" nullable:"false"`
}

type faultListOutput struct{ Body FaultList }

func faultList(faults []*registry.Fault) *faultListOutput {
	if faults == nil {
		faults = []*registry.Fault{}
	}
	return &faultListOutput{FaultList{faults}}
}

func (a *API) listFaults(_ context.Context, in *CloneID) (*faultListOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	c, ok := a.view.Clone(id)
	if !ok {
		return nil, fmt.Errorf("clone %s: %w", id, registry.ErrNotFound)
	}
	return faultList(c.FaultsAt(time.Now())), nil
}

type addFaultInput struct {
	CloneID
	Body registry.FaultRequest
}

type faultOutput struct {
	Status int
	Body   *registry.Fault
}

func (a *API) addFault(ctx context.Context, in *addFaultInput) (*faultOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	f, err := a.registry.AddFault(ctx, Actor(ctx), id, in.Body)
	if err != nil {
		return nil, err
	}
	return &faultOutput{http.StatusCreated, f}, nil
}

func (a *API) removeFaults(ctx context.Context, in *CloneID) (*faultListOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	ended, err := a.registry.RemoveFault(ctx, Actor(ctx), id, 0)
	if err != nil {
		return nil, err
	}
	return faultList(ended), nil
}

type faultInput struct {
	CloneID
	Fault string `path:"fault" doc:"The number of the fault." example:"17"`
}

func (a *API) removeFault(ctx context.Context, in *faultInput) (*faultListOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	fault, err := strconv.ParseUint(in.Fault, 10, 64)
	if err != nil || fault == 0 {
		return nil, invalidParam("path.fault", "fault", errors.New("want the number of a fault, as in 17"))
	}
	ended, err := a.registry.RemoveFault(ctx, Actor(ctx), id, fault)
	if err != nil {
		return nil, err
	}
	return faultList(ended), nil
}
