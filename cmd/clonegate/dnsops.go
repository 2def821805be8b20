package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/dnsd"
	dnsapi "github.com/clonegate/clonegate/dnsd/api"
	"github.com/clonegate/clonegate/registry/client"
)

// addDNSOperations adds to a command what operators ask of the daemon's DNS.
func addDNSOperations(cmd *cobra.Command, a *app) {
	cmd.AddCommand(newDNSExplain(a), newDNSFlush(a), newDNSLog(a), newDNSTop(a))
}

func newDNSExplain(a *app) *cobra.Command {
	var view string
	cmd := &cobra.Command{
		Use:   "explain NAME [TYPE]",
		Short: "Say what the daemon's DNS answers to a question, and why",
		Example: `  clonegate dns explain www-1234.test_envs.internal.example.com
  clonegate dns explain db AAAA --view 1234`,
		Args: wantArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"name": {args[0]}}
			if len(args) > 1 {
				query.Set("type", args[1])
			}
			if view != "" {
				query.Set("view", view)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var e dnsd.Explanation
			if _, err := c.Do(cmd.Context(), client.Request{Method: http.MethodGet, Path: "/v1/dns/explain", Query: query}, &e); err != nil {
				return err
			}
			return a.result(&e, func(w io.Writer) { printExplanation(w, &e) })
		},
	}
	cmd.Flags().StringVar(&view, "view", "", "the listener: its address, or the clone of a resolver (`VIEW`); default: the first one")
	return cmd
}

func printExplanation(w io.Writer, e *dnsd.Explanation) {
	fmt.Fprintf(w, "%s %s at %s %s: %s\n", e.Name, e.Type, e.Kind, e.Listener, strings.TrimSpace(e.Rcode+" "+e.EDE))
	for _, fault := range e.Faults {
		fmt.Fprintf(w, "  %s\n", fault)
	}
	for _, n := range e.Steps {
		fmt.Fprintf(w, "  %s: from %s", n.Name, n.From)
		if n.Owner != "" {
			fmt.Fprintf(w, ", clone %s", n.Owner)
		}
		if n.Upstreams != "" {
			fmt.Fprintf(w, ", of %s", n.Upstreams)
		}
		if n.Age != "" {
			fmt.Fprintf(w, ", %s ago, asked again in %s", n.Age, n.Ends)
		}
		fmt.Fprintln(w)
		for _, rr := range n.Records {
			fmt.Fprintf(w, "    %s\n", rr)
		}
	}
}

func newDNSFlush(a *app) *cobra.Command {
	var suffix, all bool
	cmd := &cobra.Command{
		Use:   "flush NAME | --all",
		Short: "Forget what upstream servers said about a name",
		Example: `  clonegate dns flush ldap.corp.example.com
  clonegate dns flush --suffix corp.example.com
  clonegate dns flush --all`,
		Args: wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) || all && suffix {
				return usagef(cmd, "name either what to forget or --all")
			}
			body := dnsapi.Flush{Name: ".", Suffix: true}
			if !all {
				body = dnsapi.Flush{Name: args[0], Suffix: suffix}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var done dnsapi.Flushed
			if _, err := c.Do(cmd.Context(), client.Request{Method: http.MethodPost, Path: "/v1/dns/flush", Body: &body, Repeatable: true}, &done); err != nil {
				return err
			}
			return a.result(&done, func(w io.Writer) { fmt.Fprintf(w, "%d answers forgotten\n", done.Answers) })
		},
	}
	cmd.Flags().BoolVar(&suffix, "suffix", false, "also all names beneath NAME")
	cmd.Flags().BoolVar(&all, "all", false, "everything")
	return cmd
}

func newDNSLog(a *app) *cobra.Command {
	query := url.Values{}
	filters := []struct{ name, usage string }{
		{"clone", "only questions to the resolver of the clone with this `ID`"},
		{"suffix", "only this `NAME` and those beneath it"},
		{"client", "only questions from this `NETWORK` or address"},
		{"rcode", "only answers with this `CODE`, as in NXDOMAIN"},
	}
	cmd := &cobra.Command{
		Use:     "log",
		Short:   "Follow the DNS query log until interrupted",
		Example: `  clonegate dns log --clone 1234 --rcode NXDOMAIN`,
		Args:    wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, f := range filters {
				if v, _ := cmd.Flags().GetString(f.name); v != "" {
					query.Set(f.name, v)
				}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			resp, err := c.Send(cmd.Context(), client.Request{Method: http.MethodGet, Path: "/v1/dns/log", Query: query}, "", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if err := a.printLog(resp.Body); cmd.Context().Err() == nil {
				return err
			}
			return nil
		},
	}
	for _, f := range filters {
		cmd.Flags().String(f.name, "", f.usage)
	}
	return cmd
}

// printLog prints the entries of a query log, one a line.
func (a *app) printLog(r io.Reader) error {
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("dns log: %w", err)
		}
		if a.json {
			if _, err := a.stdout.Write(line); err != nil {
				return err
			}
			continue
		}
		var e dnsd.LogEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("dns log: %w", err)
		}
		fmt.Fprintf(a.stdout, "%s %s %s %s %s %s %s\n", e.Time.Local().Format("15:04:05.000"), e.Client, e.Name, e.Type, e.Rcode, e.From,
			time.Duration(e.Micros)*time.Microsecond)
	}
}
