package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/pipeline"
	pipelineclient "github.com/clonegate/clonegate/pipeline/client"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

const upHelp = `Start a clone of a template and print its addresses.

TEMPLATE is name, name@version or name@channel; a name alone means its stable
channel or, without one, its newest version. The command waits until the clone
is ready and then prints one line for each of its services on standard output:
the service and its URL. What goes on meanwhile is told on standard error.`

func newUp(a *app) *cobra.Command {
	var req registry.CreateRequest
	var wait waitFlags
	var params, labels []string
	cmd := &cobra.Command{
		Use:   "up TEMPLATE",
		Short: "Start a clone of a template and print its addresses",
		Long:  upHelp,
		Example: `  clonegate up shop
  clonegate up shop@candidate --param greeting=Hello --alias pr-87 --owner ada`,
		Args: wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Template = args[0]
			if req.Params, err = parsePairs("param", params); err != nil {
				return usagef(cmd, "%w", err)
			}
			if req.Labels, err = parsePairs("label", labels); err != nil {
				return usagef(cmd, "%w", err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			ctx, cancel := wait.bound(cmd.Context())
			defer cancel()
			clone, err := a.startClone(ctx, c, req, !wait.not)
			if err != nil {
				return err
			}
			return a.result(clone, func(w io.Writer) { printURLs(w, clone) })
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&params, "param", nil, "set a parameter of the template (`KEY=VALUE`); may be repeated")
	f.StringSliceVar(&req.Aliases, "alias", nil, "also call the clone `NAME`, as in pr-87; may be repeated")
	f.StringArrayVar(&labels, "label", nil, "label the clone (`KEY=VALUE`); may be repeated")
	f.StringVar(&req.Owner, "owner", "", "`NAME` of the clone's owner; default: the token's")
	f.StringVar(&req.Provider, "provider", "process", "`NAME` of what makes the clone; process is the only one")
	wait.add(cmd, "ready")
	return cmd
}

// startClone asks for a clone and waits, if asked to, until it is ready.
func (a *app) startClone(ctx context.Context, c *client.Client, req registry.CreateRequest, wait bool) (*api.Clone, error) {
	clone, err := c.Create(ctx, req)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("a clone may have been started, see  clonegate list: %w", context.Cause(ctx))
	}
	if err != nil {
		return nil, err
	}
	a.say("clone %s of %s is %s", clone.ID, clone.Template, clone.State)
	if !wait {
		return clone, nil
	}
	return a.waitReady(ctx, c, clone)
}

// waitReady tells what becomes of a clone until it is ready, or will not be.
func (a *app) waitReady(ctx context.Context, c *client.Client, clone *api.Clone) (*api.Clone, error) {
	tell := func(c *api.Clone) {
		switch {
		case c.State == registry.Ready:
			a.say("clone %s is ready after %.1f s", c.ID, time.Since(c.Created).Seconds())
		case c.Reason != "" && c.State != registry.Failed:
			a.say("clone %s is %s: %s", c.ID, c.State, c.Reason)
		}
	}
	id := clone.ID
	clone, err := waitFor(ctx, c, clone, tell, func(clone *api.Clone) (bool, error) {
		switch clone.State {
		case registry.Failed, registry.Lost, registry.Gone, registry.Stopping:
			return true, notReady(ctx, c, clone)
		}
		return clone.State == registry.Ready, nil
	})
	if ctx.Err() != nil {
		return nil, fmt.Errorf("clone %s goes on without us, see  clonegate show %s: %w", id, id, context.Cause(ctx))
	}
	return clone, err
}

// notReady says why a clone will not be ready, and where to look on.
func notReady(ctx context.Context, c *client.Client, clone *api.Clone) error {
	err := fmt.Errorf("clone %s is %s: %s", clone.ID, clone.State, clone.Reason)
	if pipelineclient.New(c).Logs(ctx, clone.ID, pipeline.LogQuery{}, io.Discard) != nil {
		return err // nothing was started
	}
	return fmt.Errorf("%w\nsee  clonegate logs %s", err, clone.ID)
}

func printURLs(w io.Writer, clone *api.Clone) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range serviceNames(clone) {
		fmt.Fprintf(tw, "%s\t%s\n", name, clone.URLs[name])
	}
	tw.Flush()
}
