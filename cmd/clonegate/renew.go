package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

func newRenew(a *app) *cobra.Command {
	return a.ofInstance("renew ID", "Keep the lease of a registered clone",
		func(ctx context.Context, c *client.Client, id registry.ID, instance string) error {
			grant, err := c.Renew(ctx, id, instance)
			if err != nil {
				return err
			}
			return a.result(grant, func(w io.Writer) {
				fmt.Fprintf(w, "clone %s lives on for %d s; renew every %d s\n", id, grant.Lease.TTL, grant.Lease.RenewEvery)
			})
		})
}

func newUnregister(a *app) *cobra.Command {
	return a.ofInstance("unregister ID", "Take a registered clone's addresses and names away",
		func(ctx context.Context, c *client.Client, id registry.ID, instance string) error {
			clone, _, err := c.Unregister(ctx, id, instance)
			if err != nil {
				return err
			}
			return a.result(clone, func(w io.Writer) { fmt.Fprintf(w, "clone %s is %s\n", clone.ID, clone.State) })
		})
}

// ofInstance returns a command of the instance that registered a clone.
func (a *app) ofInstance(use, short string, run func(ctx context.Context, c *client.Client, id registry.ID, instance string) error) *cobra.Command {
	instance := instanceFlag{app: a}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := registry.ParseID(args[0])
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			name, err := instance.get()
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return run(cmd.Context(), c, id, name)
		},
	}
	instance.add(cmd)
	return cmd
}
