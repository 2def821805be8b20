package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

func newTemplate(a *app) *cobra.Command {
	return newGroup("template", "Publish, promote and revoke what clones are made from",
		`A template is a directory with a template.yaml, published as one immutable
version. A channel (candidate, validated, stable) points to a version; clones
are made of a channel, or of a version by its name.`,
		newTemplatePublish(a), newTemplateList(a), newTemplateShow(a), newTemplatePromote(a), newTemplateRevoke(a))
}

func newTemplateList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List templates and where their channels point",
		Args:  wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			templates := []*api.TemplateSummary{}
			for t, err := range c.Templates(cmd.Context()) {
				if err != nil {
					return err
				}
				templates = append(templates, t)
			}
			if len(templates) == 0 && !a.json {
				a.say("no templates; publish one with  clonegate template publish DIR")
				return nil
			}
			return a.result(templates, func(w io.Writer) { printTemplates(w, templates) })
		},
	}
}

func printTemplates(w io.Writer, templates []*api.TemplateSummary) {
	var rows [][]string
	for _, t := range templates {
		row := []string{t.Name, fmt.Sprint(t.Versions), t.Newest}
		for _, channel := range registry.Channels {
			row = append(row, t.Channels[channel])
		}
		rows = append(rows, row)
	}
	head := []string{"NAME", "VERSIONS", "NEWEST"}
	for _, channel := range registry.Channels {
		head = append(head, strings.ToUpper(channel))
	}
	table(w, head, rows)
}

func newTemplateShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME[@VERSION|@CHANNEL]",
		Short: "Show the versions of a template, or one of them with its manifest",
		Args:  wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, which, err := registry.SplitRef(args[0])
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			detail, err := c.Template(cmd.Context(), name)
			if err != nil {
				return err
			}
			if which == "" {
				return a.result(detail, func(w io.Writer) { printTemplate(w, detail, time.Now()) })
			}
			t, err := c.Version(cmd.Context(), name, resolveVersion(detail, which))
			if err != nil {
				return err
			}
			return a.result(t, func(w io.Writer) { printVersion(w, t, time.Now()) })
		},
	}
}

// resolveVersion returns the version a channel points to, and everything else
// as it is: the daemon knows whether it exists.
func resolveVersion(t *api.TemplateDetail, which string) string {
	for _, ch := range t.Channels {
		if ch.Name == which {
			return ch.Version
		}
	}
	return which
}

func printTemplate(w io.Writer, t *api.TemplateDetail, now time.Time) {
	var rows [][]string
	for _, v := range t.Versions {
		var channels []string
		for _, ch := range t.Channels {
			if ch.Version == v.Version {
				channels = append(channels, ch.Name)
			}
		}
		rows = append(rows, []string{v.Version, string(v.State), strings.Join(channels, ","), ago(v.Created, now), v.By, v.Reason})
	}
	table(w, []string{"VERSION", "STATE", "CHANNELS", "PUBLISHED", "BY", "WHY"}, rows)
}

func printVersion(w io.Writer, t *registry.Template, now time.Time) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "template\t%s\nstate\t%s\n", t.Ref(), t.State)
	if t.Reason != "" {
		fmt.Fprintf(tw, "why\t%s\n", t.Reason)
	}
	fmt.Fprintf(tw, "digest\t%s\ndeploy tag\t%s\npublished\t%s by %s\n", t.Digest, t.DeployTag, ago(t.Created, now), t.By)
	for _, k := range slices.Sorted(maps.Keys(t.Inputs)) {
		fmt.Fprintf(tw, "input %s\t%s\n", k, t.Inputs[k])
	}
	tw.Flush()
	if len(t.Manifest) > 0 {
		fmt.Fprintf(w, "\n%s\n", indented(t.Manifest))
	}
}

func newTemplatePromote(a *app) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "promote NAME@VERSION CHANNEL",
		Short: "Let a channel point to a version",
		Example: `  clonegate template promote shop@2026.11.21-1 stable --why "tests passed"
  clonegate template promote shop@candidate stable`,
		Args: wantArgs(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, name, version, err := a.version(cmd, args[0])
			if err != nil {
				return err
			}
			ch, err := c.Promote(cmd.Context(), name, args[1], version, why)
			if err != nil {
				return err
			}
			return a.result(ch, func(w io.Writer) { fmt.Fprintf(w, "%s@%s is %s now\n", name, ch.Name, ch.Version) })
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "`REASON`, kept in the channel's history")
	return cmd
}

// version returns the version that "name@version" or "name@channel" stands for,
// and a client to do something with it.
func (a *app) version(cmd *cobra.Command, ref string) (c *client.Client, name, version string, err error) {
	name, which, err := splitVersion(cmd, ref)
	if err != nil {
		return nil, "", "", err
	}
	c, err = a.client()
	if err != nil {
		return nil, "", "", err
	}
	version, err = findVersion(cmd.Context(), c, name, which)
	return c, name, version, err
}

// splitVersion reads "name@version" or "name@channel".
func splitVersion(cmd *cobra.Command, ref string) (name, which string, err error) {
	name, which, err = registry.SplitRef(ref)
	if err != nil {
		return "", "", usagef(cmd, "%w", err)
	}
	if which == "" {
		return "", "", usagef(cmd, "template %s: say which version, as in %s@VERSION; see  clonegate template show %s", name, name, name)
	}
	return name, which, nil
}

// findVersion returns the version that which, a version or a channel, stands for.
func findVersion(ctx context.Context, c *client.Client, name, which string) (string, error) {
	if !slices.Contains(registry.Channels, which) {
		return which, nil
	}
	detail, err := c.Template(ctx, name)
	if err != nil {
		return "", err
	}
	version := resolveVersion(detail, which)
	if version == which {
		return "", fmt.Errorf("template %s: %w: channel %s points to no version yet", name, registry.ErrNotFound, which)
	}
	return version, nil
}

func newTemplateRevoke(a *app) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "revoke NAME@VERSION --why REASON",
		Short: "Forbid new clones of a version; channels move back",
		Args:  wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if why == "" {
				return usagef(cmd, "say why, for everybody who uses the version: --why REASON")
			}
			c, name, version, err := a.version(cmd, args[0])
			if err != nil {
				return err
			}
			t, err := c.Revoke(cmd.Context(), name, version, why)
			if err != nil {
				return err
			}
			return a.result(t, func(w io.Writer) { fmt.Fprintf(w, "%s is revoked: %s\n", t.Ref(), t.Reason) })
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "`REASON`, shown to everybody who used the version")
	return cmd
}
