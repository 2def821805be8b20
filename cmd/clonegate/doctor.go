package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

const doctorHelp = `Look at everything a gateway on this machine needs, and say what is missing and
what to do about it: configuration, data directory, daemon, ports, DNS, trust,
clock and disk. Give the configuration of the daemon, as to clonegate serve;
without one, only what can be seen from the data directory is looked at.`

// A finding is the outcome of one check.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warn or fail
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // what to do
}

// The statuses of a finding.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

func newDoctor(a *app) *cobra.Command {
	var file string
	var set []string
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE]",
		Short: "Check this machine and say what to do",
		Long:  doctorHelp,
		Args:  wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := (&doctor{app: a}).examine(cmd.Context(), file, set)
			if err := a.result(findings, func(w io.Writer) { printFindings(w, findings) }); err != nil {
				return err
			}
			for _, f := range findings {
				if f.Status == statusFail {
					return errors.New("something is wrong; what to do stands beside it")
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE` of the daemon")
	cmd.Flags().StringArrayVar(&set, "set", nil, "set one key of the configuration (`KEY=VALUE`); may be repeated")
	return cmd
}

func printFindings(w io.Writer, findings []finding) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Status, f.Check, f.Detail)
		if f.Fix != "" {
			fmt.Fprintf(tw, "\t\t→ %s\n", f.Fix)
		}
	}
	tw.Flush()
}
