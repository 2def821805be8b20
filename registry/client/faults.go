package client

import (
	"context"
	"net/http"
	"strconv"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// AddFault gives a clone a fault. It is not repeated, lest there be two.
func (c *Client) AddFault(ctx context.Context, id registry.ID, req registry.FaultRequest) (*registry.Fault, error) {
	return get[registry.Fault](ctx, c, Request{Method: http.MethodPost, Path: clonePath(id, "faults"), Body: req})
}

// RemoveFault ends a fault of a clone, or all of them if fault is 0, and returns
// those that it ended.
func (c *Client) RemoveFault(ctx context.Context, id registry.ID, fault uint64) ([]*registry.Fault, error) {
	path := clonePath(id, "faults")
	if fault != 0 {
		path = clonePath(id, "faults", strconv.FormatUint(fault, 10))
	}
	ended, err := get[api.FaultList](ctx, c, Request{Method: http.MethodDelete, Path: path})
	if err != nil {
		return nil, err
	}
	return ended.Faults, nil
}
