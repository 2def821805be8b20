package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry/client"
)

const dnsTopHelp = `Print the names that a listener is asked for most, and the clients that ask most.
Counts are halved every ten minutes, and of many questions a second only some
are counted; what is rare may have taken over the count of something else, which
EXCESS says.`

func newDNSTop(a *app) *cobra.Command {
	var view string
	var rows int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Print what the daemon's DNS is asked for most, and by whom",
		Long:  dnsTopHelp,
		Example: `  clonegate dns top
  clonegate dns top --view 1234 --rows 5`,
		Args: wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rows < 1 {
				return usagef(cmd, "--rows: want a number above 0")
			}
			query := url.Values{}
			if view != "" {
				query.Set("view", view)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var top dnsd.Top
			if _, err := c.Do(cmd.Context(), client.Request{Method: http.MethodGet, Path: "/v1/dns/top", Query: query}, &top); err != nil {
				return err
			}
			top.Names, top.Clients = top.Names[:min(rows, len(top.Names))], top.Clients[:min(rows, len(top.Clients))]
			return a.result(&top, func(w io.Writer) {
				printTop(w, "NAME", top.Names)
				fmt.Fprintln(w)
				printTop(w, "CLIENT", top.Clients)
			})
		},
	}
	cmd.Flags().StringVar(&view, "view", "", "the listener: its address, or the clone of a resolver (`VIEW`); default: the first one")
	cmd.Flags().IntVar(&rows, "rows", 20, "print at most so many names and clients (`N`); at most 100 are known")
	return cmd
}

func printTop(w io.Writer, title string, counters []dnsd.TopCounter) {
	rows := make([][]string, len(counters))
	for i, c := range counters {
		rows[i] = []string{strconv.FormatUint(c.Count, 10), strconv.FormatUint(c.Excess, 10), c.Key}
	}
	table(w, []string{"COUNT", "EXCESS", title}, rows)
}
