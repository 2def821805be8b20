package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/proxy"
	proxyapi "github.com/clonegate/clonegate/proxy/api"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

func newShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show everything about a clone",
		Long:  "Show everything that is known about a clone. ID is its configuration ID or an alias.",
		Args:  wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			clone, err := findClone(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			shown, err := withEscapes(cmd.Context(), c, clone)
			if err != nil {
				return err
			}
			return a.result(shown, func(w io.Writer) { printClone(w, shown, time.Now()) })
		},
	}
}

// A shownClone is a clone and what the gateway has noted of it.
type shownClone struct {
	*api.Clone
	Escapes []proxy.Escape `json:"escapes,omitempty"`
}

// withEscapes adds the names of production that escaped from a clone, if it
// knows of any.
func withEscapes(ctx context.Context, c *client.Client, clone *api.Clone) (*shownClone, error) {
	shown := &shownClone{Clone: clone}
	if len(clone.Production) == 0 {
		return shown, nil
	}
	var list proxyapi.EscapeList
	_, err := c.Do(ctx, client.Request{Method: http.MethodGet, Path: "/v1/clones/" + string(clone.ID) + "/escapes"}, &list)
	shown.Escapes = list.Escapes
	return shown, err
}

func printClone(w io.Writer, shown *shownClone, now time.Time) {
	c := shown.Clone

	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, text string) {
		if text != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, text)
		}
	}
	row("clone", title(c))
	state := fmt.Sprintf("%s since %s", c.State, short(now.Sub(c.Since)))
	if c.Reason != "" {
		state += ": " + c.Reason
	}
	row("state", state)
	if c.EndedBy != "" {
		row("ended", fmt.Sprintf("%s by %s", ago(c.Ended, now), c.EndedBy))
	}
	row("template", c.Template)
	row("deploy tag", c.DeployTag)
	row("provider", c.Provider)
	row("owner", c.Owner)
	row("labels", pairs(c.Labels))
	row("params", pairs(c.Params))
	row("created", ago(c.Created, now))
	if l := c.Lease; l != nil {
		row("lease", fmt.Sprintf("%d s left of %d s", l.Left, l.TTL))
	}
	for _, f := range c.Faults {
		row(fmt.Sprintf("fault %d", f.ID), fmt.Sprintf("%s, for another %s, by %s", f, f.Until.Sub(now).Round(time.Second), f.By))
	}
	for _, name := range serviceNames(c) {
		row("service "+name, c.URLs[name])
		if eps := c.Services[name].Endpoints; len(eps) > 0 {
			row("", "at "+joinText(eps))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Production)) {
		row("production "+name, "service "+c.Production[name])
	}
	for _, e := range shown.Escapes {
		row("escape "+e.Name, fmt.Sprintf("%s, last %s; first in %s of %s %s", times(e.Count), ago(e.Last, now), e.Field, e.Service, e.Path))
	}
	row("strip cookies", strings.Join(c.StripCookies, ", "))
	for _, name := range slices.Sorted(maps.Keys(c.Hosts)) {
		row("host "+string(name), joinText(c.Hosts[name]))
	}
	tw.Flush()
}

// times writes a number of times.
func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// pairs writes a map as "a=1 b=2".
func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, " ")
}

func joinText[T netip.Addr | netip.AddrPort](list []T) string {
	texts := make([]string, len(list))
	for i, x := range list {
		texts[i] = fmt.Sprint(x)
	}
	return strings.Join(texts, ", ")
}
