package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/proxy"
	proxyapi "github.com/clonegate/clonegate/proxy/api"
	"github.com/clonegate/clonegate/proxy/har"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

func newRequests(a *app) *cobra.Command {
	var follow bool
	var archive string
	query := url.Values{}
	filters := []struct{ name, usage string }{
		{"service", "only those to this `SERVICE`"},
		{"status", "only those with this `STATUS`, as in 404, or class of status, as in 5xx"},
		{"reason", "only those for which this is the gateway's `REASON`, as in unreachable"},
	}
	var limit int
	cmd := &cobra.Command{
		Use:   "requests ID",
		Short: "Show the last requests of a clone",
		Long: `Show the last requests of a clone that are over: when, the status, how long they
took and how long the clone let them wait, the octets of the answer, the endpoint,
and the gateway's reason if it answered itself or the answer did not end well.
The values of query parameters are not recorded. ID is the configuration ID of
the clone or an alias.`,
		Example: `  clonegate requests 1234 --follow
  clonegate requests pr-87 --status 5xx --service api
  clonegate requests 1234 --har 1234.har`,
		Args: wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if follow && archive != "" {
				return usagef(cmd, "--har takes what there is; it cannot --follow")
			}
			for _, f := range filters {
				if v, _ := cmd.Flags().GetString(f.name); v != "" {
					query.Set(f.name, v)
				}
			}
			query.Set("limit", strconv.Itoa(limit))
			c, err := a.client()
			if err != nil {
				return err
			}
			clone, err := findClone(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if follow {
				return a.followRequests(cmd.Context(), c, clone, query)
			}
			return a.listRequests(cmd.Context(), c, clone, query, archive)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&follow, "follow", false, "go on until interrupted, or the clone's life is over")
	f.StringVar(&archive, "har", "", "write them to this `FILE` as an HTTP Archive 1.2, which browsers' developer tools read; -: standard output")
	f.IntVar(&limit, "limit", 256, "the newest `N`")
	for _, fl := range filters {
		f.String(fl.name, "", fl.usage)
	}
	return cmd
}

func requestsPath(clone *api.Clone) string {
	return client.Path("v1", "clones", string(clone.ID), "requests")
}

// listRequests shows a clone's requests, or writes them to an archive unless its
// name is empty.
func (a *app) listRequests(ctx context.Context, c *client.Client, clone *api.Clone, query url.Values, archive string) error {
	var list proxyapi.RequestList
	if _, err := c.Do(ctx, client.Request{Method: http.MethodGet, Path: requestsPath(clone), Query: query}, &list); err != nil {
		return err
	}
	if archive != "" {
		return a.writeArchive(archive, clone, list.Requests)
	}
	return a.result(&list, func(w io.Writer) { printRequests(w, list.Requests) })
}

// printRequests prints records in columns.
func printRequests(w io.Writer, records []proxy.RequestRecord) {
	rows := make([][]string, len(records))
	for i := range records {
		r := &records[i]
		rows[i] = []string{
			clock(r), strconv.Itoa(r.Status), r.Method, r.Service, took(r.Duration), waited(r),
			strconv.FormatUint(r.Sent, 10), endpointText(r), string(r.Reason), pathText(r),
		}
	}
	table(w, []string{"TIME", "STATUS", "METHOD", "SERVICE", "TOOK", "WAITED", "BYTES", "ENDPOINT", "REASON", "PATH"}, rows)
}

// printRequest prints one record, in the columns of printRequests but for their
// width.
func printRequest(w io.Writer, r *proxy.RequestRecord) {
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	fmt.Fprintf(w, "%s  %d  %-6s  %-8s  %8s  %8s  %8d  %-21s  %-12s  %s\n", clock(r), r.Status, r.Method, dash(r.Service),
		took(r.Duration), dash(waited(r)), r.Sent, dash(endpointText(r)), dash(string(r.Reason)), pathText(r))
}

func clock(r *proxy.RequestRecord) string { return r.Time.Local().Format("15:04:05.000") }

func waited(r *proxy.RequestRecord) string {
	if r.Waited == 0 {
		return ""
	}
	return took(r.Waited)
}

func endpointText(r *proxy.RequestRecord) string {
	if !r.Endpoint.IsValid() {
		return ""
	}
	return r.Endpoint.String()
}

func pathText(r *proxy.RequestRecord) string {
	if r.Cut {
		return r.Path + "…"
	}
	return r.Path
}

// took returns a duration with three digits or so: "0.4ms", "12ms", "3.2s", "5m10s".
func took(m proxy.Micros) string {
	switch d := m.Duration(); {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// followRequests prints records as they come.
func (a *app) followRequests(ctx context.Context, c *client.Client, clone *api.Clone, query url.Values) error {
	over := errors.New("the clone's life is over")
	err := c.Stream(ctx, requestsPath(clone), query, "", func(m client.Message) error {
		switch m.Event {
		case proxyapi.KindMissed:
			var missed proxyapi.Missed
			if err := json.Unmarshal(m.Data, &missed); err != nil {
				return fmt.Errorf("requests: %w", err)
			}
			a.say("%d requests came too fast to be shown", missed.Requests)
		case proxyapi.KindEnd:
			return over
		case proxyapi.KindRequest:
			if a.json {
				_, err := fmt.Fprintf(a.stdout, "%s\n", m.Data)
				return err
			}
			var r proxy.RequestRecord
			if err := json.Unmarshal(m.Data, &r); err != nil {
				return fmt.Errorf("requests: %w", err)
			}
			printRequest(a.stdout, &r)
		}
		return nil
	})
	switch {
	case errors.Is(err, over):
		a.say("%v", over)
		return nil
	case ctx.Err() != nil:
		return nil
	}
	return err
}

// writeArchive writes records to a file, as a whole or not at all.
func (a *app) writeArchive(name string, clone *api.Clone, records []proxy.RequestRecord) error {
	o := har.Origin{Version: buildVersion()}
	for _, public := range clone.URLs {
		if u, err := url.Parse(public); err == nil {
			o.Port = u.Port()
		}
	}
	if name == "-" {
		return har.Write(a.stdout, o, records)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".har-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // which is gone if all went well
	err = har.Write(f, o, records)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	a.say("%d requests are in %s", len(records), name)
	return nil
}
