package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

func newFault(a *app) *cobra.Command {
	return newGroup("fault", "Make the network of a clone bad on purpose, for a while",
		`A fault is a trouble that a clone has on purpose, so that you see how the
software takes it: requests that wait, fail, break or trickle, and names that
do not resolve. It ends by itself, at the end of its time or of the clone's
life, and is shown by  clonegate show.`,
		newFaultAdd(a), newFaultList(a), newFaultRemove(a))
}

// faultFlags are what  clonegate fault add  is asked for.
type faultFlags struct {
	latency, jitter, life    time.Duration
	abort, percent           int
	reset                    bool
	bandwidth, direction     string
	dns, name, service, path string
}

func newFaultAdd(a *app) *cobra.Command {
	var flags faultFlags
	cmd := &cobra.Command{
		Use:   "add ID (--latency TIME | --abort STATUS | --reset | --bandwidth RATE | --dns WHAT)",
		Short: "Give a clone a fault",
		Long: `Give a clone a fault, and print its number. Requests and WebSockets that begin
while it lasts may meet it; several faults of one clone add up.

  --latency     requests wait before they are sent to the clone
  --abort       the gateway answers in the place of the clone
  --reset       the connection breaks, of a WebSocket within ten seconds
  --bandwidth   requests share so many bytes a second
  --dns         questions to the clone's resolver fail (servfail), find nothing
                (nxdomain), get no answer (drop), or wait (delay, by --latency)`,
		Example: `  clonegate fault add 1234 --latency 200ms --jitter 50ms --percent 30 --service api
  clonegate fault add 1234 --abort 503 --path /api/ --for 1h
  clonegate fault add 1234 --bandwidth 64KiB --direction down
  clonegate fault add 1234 --dns servfail --name db`,
		Args: wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := flags.request(cmd)
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			clone, err := findClone(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			f, err := c.AddFault(cmd.Context(), clone.ID, *req)
			if err != nil {
				return err
			}
			a.say("clone %s has fault %d until %s: %s", clone.ID, f.ID, f.Until.Local().Format(time.TimeOnly), f)
			return a.result(f, func(w io.Writer) { fmt.Fprintln(w, f.ID) })
		},
	}
	flags.add(cmd)
	return cmd
}

func (f *faultFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.DurationVar(&f.latency, "latency", 0, "make requests wait for this `TIME`, at most 1m")
	fl.DurationVar(&f.jitter, "jitter", 0, "vary the latency by up to this `TIME`, both ways")
	fl.IntVar(&f.abort, "abort", 0, "answer requests with this `STATUS`, 400 to 599")
	fl.BoolVar(&f.reset, "reset", false, "break the connections of requests")
	fl.StringVar(&f.bandwidth, "bandwidth", "", "limit requests to this `RATE`: bytes a second, as in 64KiB")
	fl.StringVar(&f.direction, "direction", "", "limit only what clients send (up) or receive (down); default: both (`WAY`)")
	fl.StringVar(&f.dns, "dns", "", "let names fail: `WHAT` is servfail, nxdomain, drop or delay")
	fl.StringVar(&f.name, "name", "", "only this DNS `NAME`, or *.NAME for all beneath it; default: every name")
	fl.StringVar(&f.service, "service", "", "only requests to this `SERVICE`; default: to every one")
	fl.StringVar(&f.path, "path", "", "only requests whose path begins with this `PREFIX`")
	fl.IntVar(&f.percent, "percent", 100, "how many of a hundred requests or questions, at random (`N`)")
	fl.DurationVar(&f.life, "for", 10*time.Minute, "end the fault after this `TIME`, at most 24h")
}

// request returns what the flags ask for. The rest is checked by the daemon.
func (f *faultFlags) request(cmd *cobra.Command) (*registry.FaultRequest, error) {
	req := &registry.FaultRequest{FaultSpec: registry.FaultSpec{
		Percent: f.percent, Service: f.service, Path: f.path, Name: f.name, Direction: registry.Direction(f.direction), Status: f.abort,
	}}
	var kinds []string
	for _, k := range []struct {
		flag string
		kind registry.FaultKind
	}{
		{"dns", registry.FaultKind("dns-" + f.dns)},
		{"latency", registry.FaultLatency},
		{"abort", registry.FaultAbort},
		{"reset", registry.FaultReset},
		{"bandwidth", registry.FaultBandwidth},
	} {
		if cmd.Flags().Changed(k.flag) && !(k.flag == "latency" && req.Kind == registry.FaultDNSDelay) {
			kinds, req.Kind = append(kinds, "--"+k.flag), k.kind
		}
	}
	switch {
	case len(kinds) == 0:
		return nil, fmt.Errorf("say what goes wrong: --latency, --abort, --reset, --bandwidth or --dns")
	case len(kinds) > 1:
		return nil, fmt.Errorf("%s are several faults; add them one by one", strings.Join(kinds, " and "))
	case f.percent < 1: // which the API takes for the default if it is 0
		return nil, fmt.Errorf("--percent %d: want 1 to 100", f.percent)
	}
	var err error
	if req.For, err = wholeSeconds("for", f.life); err != nil {
		return nil, err
	}
	if req.For == 0 {
		return nil, fmt.Errorf("--for %s: a fault takes a second at least", f.life)
	}
	if req.Delay, err = wholeMilliseconds("latency", f.latency); err != nil {
		return nil, err
	}
	if req.Jitter, err = wholeMilliseconds("jitter", f.jitter); err != nil {
		return nil, err
	}
	if f.bandwidth != "" {
		req.Rate, err = parseBytes("bandwidth", f.bandwidth)
	}
	return req, err
}

// wholeMilliseconds reads a duration flag of which the API takes whole
// milliseconds.
func wholeMilliseconds(flag string, d time.Duration) (registry.Milliseconds, error) {
	if d < 0 || d/time.Millisecond > math.MaxUint32 || d%time.Millisecond != 0 {
		return 0, fmt.Errorf("--%s %s: want a positive time of whole milliseconds", flag, d)
	}
	return registry.Milliseconds(d / time.Millisecond), nil
}

// parseBytes reads a number of bytes, as in 65536, 64KiB or 1.5MB.
func parseBytes(flag, s string) (int64, error) {
	number, unit := s, 1.0
	for _, u := range []struct {
		suffix string
		size   float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			number, unit = n, u.size
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n > 0 && n*unit < 1<<53) {
		return 0, fmt.Errorf("--%s %q: want a number of bytes, as in 65536, 64KiB or 1MB", flag, s)
	}
	return int64(math.Round(n * unit)), nil
}

func newFaultList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [ID]",
		Short: "List the faults of a clone, or of all",
		Args:  wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			faulty := []*api.Clone{}
			if len(args) == 1 {
				clone, err := findClone(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				faulty = append(faulty, clone)
			} else {
				for clone, err := range c.Clones(cmd.Context(), api.CloneFilter{}) {
					if err != nil {
						return err
					}
					faulty = append(faulty, clone)
				}
			}
			listed := []listedFault{}
			for _, clone := range faulty {
				for _, f := range clone.Faults {
					listed = append(listed, listedFault{clone.ID, f})
				}
			}
			if len(listed) == 0 && !a.json {
				a.say("no faults; add one with  clonegate fault add")
				return nil
			}
			return a.result(listed, func(w io.Writer) { printFaults(w, listed, time.Now()) })
		},
	}
}

// A listedFault is a fault and whose it is.
type listedFault struct {
	Clone registry.ID `json:"clone"`
	*registry.Fault
}

func printFaults(w io.Writer, faults []listedFault, now time.Time) {
	var rows [][]string
	for _, f := range faults {
		rows = append(rows, []string{string(f.Clone), fmt.Sprint(f.ID), f.Until.Sub(now).Round(time.Second).String(), f.By, f.Fault.String()})
	}
	table(w, []string{"CLONE", "FAULT", "LEFT", "BY", "WHAT"}, rows)
}

func newFaultRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID [FAULT]",
		Short: "End a fault of a clone, or all of them",
		Args:  wantArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var fault uint64
			if len(args) == 2 {
				var err error
				if fault, err = strconv.ParseUint(args[1], 10, 64); err != nil || fault == 0 {
					return usagef(cmd, "%q is no fault; want its number, as  clonegate fault list  shows it", args[1])
				}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			clone, err := findClone(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			ended, err := c.RemoveFault(cmd.Context(), clone.ID, fault)
			if err != nil {
				return err
			}
			if len(ended) == 0 {
				a.say("clone %s has no faults", clone.ID)
			}
			return a.result(ended, func(w io.Writer) {
				for _, f := range ended {
					fmt.Fprintf(w, "fault %d has ended: %s\n", f.ID, f)
				}
			})
		},
	}
}
