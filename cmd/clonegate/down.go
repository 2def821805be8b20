package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

func newDown(a *app) *cobra.Command {
	var wait waitFlags
	cmd := &cobra.Command{
		Use:   "down ID...",
		Short: "Stop clones for good",
		Long: `Stop clones: their names go first, then their processes, then their data. An ID
is never used again. A clone that nobody here started is only forgotten.`,
		Args: wantArgs(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			ctx, cancel := wait.bound(cmd.Context())
			defer cancel()
			ended := []*api.Clone{}
			var failed error
			for _, name := range args {
				clone, err := a.endClone(ctx, c, name, !wait.not)
				if err != nil {
					failed = errors.Join(failed, err)
					continue
				}
				ended = append(ended, clone)
			}
			return errors.Join(a.result(ended, func(io.Writer) {}), failed)
		},
	}
	wait.add(cmd, "ended")
	return cmd
}

// endClone ends the life of a clone and waits, if asked to, until nothing of
// it runs.
func (a *app) endClone(ctx context.Context, c *client.Client, name string, wait bool) (*api.Clone, error) {
	clone, err := findClone(ctx, c, name)
	if err != nil {
		return nil, err
	}
	clone, gone, err := c.Unregister(ctx, clone.ID, "")
	if err != nil {
		return nil, err
	}
	if gone || !wait {
		a.say("clone %s is %s", clone.ID, clone.State)
		return clone, nil
	}
	return waitFor(ctx, c, clone, func(c *api.Clone) { a.say("clone %s is %s", c.ID, c.State) }, func(c *api.Clone) (bool, error) {
		if c.State == registry.Failed {
			return true, fmt.Errorf("clone %s could not be stopped: %s", c.ID, c.Reason)
		}
		return c.State == registry.Gone, nil
	})
}
