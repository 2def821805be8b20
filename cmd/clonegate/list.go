package main

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

func newList(a *app) *cobra.Command {
	var f api.CloneFilter
	var states []string
	cmd := &cobra.Command{
		Use:   "list [TEXT]",
		Short: "List clones",
		Long: `List clones: those that live, or with --all those that are over as well. TEXT
selects those with it in their ID, alias, owner, template or reason.`,
		Example: `  clonegate list --owner ada
  clonegate list --state failed,lost --all --json`,
		Args: wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.Q = args[0]
			}
			for _, s := range states {
				f.State = append(f.State, registry.State(s))
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			clones := []*api.Clone{}
			for clone, err := range c.Clones(cmd.Context(), f) {
				if err != nil {
					return err
				}
				clones = append(clones, clone)
			}
			if len(clones) == 0 && !a.json {
				a.say("no clones; start one with  clonegate up TEMPLATE")
				return nil
			}
			return a.result(clones, func(w io.Writer) { printClones(w, clones, time.Now()) })
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&states, "state", nil, "only those in one of these `STATES`, such as ready,failed")
	fl.StringVar(&f.Owner, "owner", "", "only those of this `OWNER`")
	fl.StringVar(&f.Template, "template", "", "only those of this `TEMPLATE`, or name@version")
	fl.StringArrayVar(&f.Label, "label", nil, "only those with this label (`KEY=VALUE`); may be repeated")
	fl.BoolVar(&f.All, "all", false, "also those that are over")
	return cmd
}

func printClones(w io.Writer, clones []*api.Clone, now time.Time) {
	var rows [][]string
	for _, c := range clones {
		rows = append(rows, []string{
			string(c.ID), strings.Join(c.Aliases, ","), string(c.State), c.Template, c.Owner,
			short(now.Sub(c.Created)), c.URLs[defaultService(c)],
		})
	}
	table(w, []string{"ID", "ALIAS", "STATE", "TEMPLATE", "OWNER", "AGE", "URL"}, rows)
}
