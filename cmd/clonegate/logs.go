package main

import (
	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/pipeline"
	pipelineclient "github.com/clonegate/clonegate/pipeline/client"
)

func newLogs(a *app) *cobra.Command {
	var q pipeline.LogQuery
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Show what the processes of a clone have written",
		Long: `Show what the processes of a clone have written, each line behind the name of
its host; startup is the startup command. The output of a clone that is gone is
kept for a day.`,
		Example: `  clonegate logs 1234 --follow
  clonegate logs pr-87 --host api1,api2 --tail 20`,
		Args: wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			clone, err := findClone(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return pipelineclient.New(c).Logs(cmd.Context(), clone.ID, q, a.stdout)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&q.Names, "host", nil, "only what these `HOSTS` wrote; default: all")
	f.IntVar(&q.Tail, "tail", 100, "so many of the last `LINES` of each; -1: all that is kept")
	f.BoolVar(&q.Follow, "follow", false, "go on until the clone is gone")
	return cmd
}
