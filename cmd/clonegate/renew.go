package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/registry"
)

func newRenew(a *app) *cobra.Command {
	instance := instanceFlag{app: a}
	cmd := &cobra.Command{
		Use:   "renew ID",
		Short: "Keep the lease of a registered clone",
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
			grant, err := c.Renew(cmd.Context(), id, name)
			if err != nil {
				return err
			}
			return a.result(grant, func(w io.Writer) {
				fmt.Fprintf(w, "clone %s lives on for %d s; renew every %d s\n", id, grant.Lease.TTL, grant.Lease.RenewEvery)
			})
		},
	}
	instance.add(cmd)
	return cmd
}

func newUnregister(a *app) *cobra.Command {
	instance := instanceFlag{app: a}
	cmd := &cobra.Command{
		Use:   "unregister ID",
		Short: "Take a registered clone's addresses and names away",
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
			clone, _, err := c.Unregister(cmd.Context(), id, name)
			if err != nil {
				return err
			}
			return a.result(clone, func(w io.Writer) { fmt.Fprintf(w, "clone %s is %s\n", clone.ID, clone.State) })
		},
	}
	instance.add(cmd)
	return cmd
}
