package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/clonegate/clonegate/registry"
)

const dnsHelp = `Run the DNS server of one clone in the place of dnsmasq, from dnsmasq's own
configuration. Options of dnsmasq may follow after --, in their long form.

With --clone, the hosts, records and forward rules of that clone are taken from
the registry and come first; the last ones are served while the registry cannot
be reached.

SIGHUP reads hosts files, resolv files and servers-files again and forgets what
was kept; SIGUSR1 writes statistics to the log; SIGTERM ends it.`

// dnsFlags is what the dns command was told.
type dnsFlags struct {
	conf   string
	check  bool
	strict bool
	clone  string
	zone   string
}

func newDNS(a *app) *cobra.Command {
	var f dnsFlags
	cmd := &cobra.Command{
		Use:   "dns --conf FILE [-- --OPTION...]",
		Short: "Serve DNS inside a clone, from a dnsmasq configuration",
		Long:  dnsHelp,
		Example: `  clonegate dns --conf /etc/dnsmasq.conf
  clonegate dns --conf /etc/dnsmasq.conf --check
  clonegate dns --clone 1234 --api https://clones.example.com --token-file token -- --server=192.0.2.1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.conf == "" && f.clone == "" && len(args) == 0 {
				return usagef(cmd, "name the configuration with --conf, the clone with --clone, or options of dnsmasq after --")
			}
			if cmd.ArgsLenAtDash() < 0 && len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			cfg, err := dnsmasq.Parse(f.conf, args)
			if err != nil {
				return &confError{err}
			}
			cfg.Strict = f.strict
			if f.check {
				return a.result(cfg.Notes, func(w io.Writer) { printNotes(w, cfg.Notes) })
			}
			return a.runSidecar(cmd, cfg, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.conf, "conf", "", "dnsmasq configuration `FILE`")
	fl.BoolVar(&f.check, "check", false, "print what becomes of every option, by file and line, and exit")
	fl.BoolVar(&f.strict, "strict", false, "ask upstream servers for the types that a local host does not have, as dnsmasq does")
	fl.StringVar(&f.clone, "clone", "", "take the names of the clone with this `ID` from the registry as well")
	fl.StringVar(&f.zone, "zone", "", "`ZONE` of the clone's public names; default: that of its URLs")
	addDNSOperations(cmd, a)
	return cmd
}

// runSidecar serves until the command is interrupted.
func (a *app) runSidecar(cmd *cobra.Command, cfg *dnsmasq.Config, f dnsFlags) error {
	level := slog.LevelInfo
	if cfg.LogQueries {
		level = slog.LevelDebug
	}
	log := daemon.NewLog(a.stderr, config.Log{Level: level, Format: config.LogAuto})
	for _, n := range cfg.Notes {
		if !n.Applied {
			log.Info("option is not applied", "at", n.Origin.String(), "option", n.Option, "why", n.Why)
		}
	}
	s := &sidecar{cfg: cfg, log: log}
	if f.clone != "" {
		id, err := registry.ParseID(f.clone)
		if err != nil {
			return usagef(cmd, "--clone: %w", err)
		}
		if f.zone != "" {
			if s.zones, err = registry.NewZones(f.zone); err != nil {
				return usagef(cmd, "--zone: %w", err)
			}
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		s.id, s.watch = id, c.Watch
	}
	return s.run(cmd.Context())
}

// printNotes prints what becomes of every option.
func printNotes(w io.Writer, notes []dnsmasq.Note) {
	var rows [][]string
	for _, n := range notes {
		what := "applied"
		if !n.Applied {
			what = "not applied"
		}
		rows = append(rows, []string{what, n.Origin.String(), n.Option, n.Why})
	}
	table(w, []string{"RESULT", "AT", "OPTION", "WHY"}, rows)
}

// A confError is a dnsmasq configuration that cannot be understood.
type confError struct{ err error }

func (e *confError) Error() string {
	return fmt.Sprintf("the configuration cannot be served:\n%v", e.err)
}

func (e *confError) Unwrap() error { return e.err }

// Is makes it an invalid input to whoever asks for the exit status.
func (e *confError) Is(target error) bool { return target == registry.ErrInvalid }
