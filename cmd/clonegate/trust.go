package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/certs"
)

const trustHelp = `Make this machine trust the gateway's own CA: the system's store, the databases
of Chromium and Firefox, and Java's. The CA can sign for the gateway's zones and
for nothing else.

Without FILE, the CA of the daemon of this machine is meant. On another machine,
fetch it first and compare the fingerprint that is printed on both:

  curl -o clonegate-ca.pem http://GATEWAY/ca.pem
  clonegate trust clonegate-ca.pem`

func newTrust(a *app) *cobra.Command {
	var uninstall bool
	cmd := &cobra.Command{
		Use:   "trust [FILE]",
		Short: "Make this machine's browsers and programs trust the gateway's CA",
		Long:  trustHelp,
		Args:  wantArgs(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := filepath.Join(a.dataDir(), "ca.pem")
			if len(args) == 1 {
				file = args[0]
			}
			work := certs.Install
			if uninstall {
				work = certs.Uninstall
			}
			steps, err := work(file, func(s string) { a.say("%s", s) })
			if err != nil {
				return err
			}
			if err := a.result(steps, func(w io.Writer) { printTrust(w, steps) }); err != nil {
				return err
			}
			for _, s := range steps {
				if s.Outcome == certs.TrustFailed {
					return errors.New("not every store could be changed; the commands above do the rest by hand")
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&uninstall, "uninstall", false, "take the CA out of every store again")
	return cmd
}

func printTrust(w io.Writer, steps []certs.TrustStep) {
	var rows [][]string
	for _, s := range steps {
		rows = append(rows, []string{s.Store, string(s.Outcome), s.Detail})
	}
	table(w, []string{"STORE", "OUTCOME", "WHY"}, rows)
	for _, s := range steps {
		if len(s.ByHand) > 0 {
			fmt.Fprintf(w, "\n%s, by hand:\n  %s\n", s.Store, strings.Join(s.ByHand, "\n  "))
		}
	}
}
