package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	pipelineclient "github.com/clonegate/clonegate/pipeline/client"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

func newTemplatePublish(a *app) *cobra.Command {
	var version, channel string
	var p registry.Publication
	var inputs []string
	cmd := &cobra.Command{
		Use:   "publish DIR",
		Short: "Publish a directory as a version of a template",
		Long: `Publish a directory that has a template.yaml as a version of the template it
names. A version never changes: the same content may be published again, other
content may not.`,
		Example: `  clonegate template publish build/shop
  clonegate template publish build/shop --version 2026.11.21-1 --promote candidate`,
		Args: wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if p.Inputs, err = parsePairs("input", inputs); err != nil {
				return usagef(cmd, "%w", err)
			}
			if version == "" {
				version = time.Now().UTC().Format("2006.01.02-150405")
			}
			if version, err = registry.ParseVersion(version); err != nil {
				return usagef(cmd, "%w", err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			t, err := a.publish(cmd.Context(), c, args[0], version, p)
			if err != nil {
				return err
			}
			if channel != "" {
				if _, err := c.Promote(cmd.Context(), t.Name, channel, t.Version, "published"); err != nil {
					return err
				}
				a.say("%s@%s is %s now", t.Name, channel, t.Version)
			}
			return a.result(t, func(w io.Writer) { fmt.Fprintln(w, t.Ref()) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&version, "version", "", "`VERSION` to publish; default: the time, as in 2026.11.21-093000")
	f.StringVar(&p.DeployTag, "deploy-tag", "", "`TAG` that every part of the version has; default: the version")
	f.StringArrayVar(&inputs, "input", nil, "a version it was built from (`NAME=VERSION`), for people; may be repeated")
	f.StringVar(&channel, "promote", "", "also let this `CHANNEL` point to it")
	return cmd
}

// publish uploads a template's directory and publishes it as a version.
func (a *app) publish(ctx context.Context, c *client.Client, dir, version string, p registry.Publication) (*registry.Template, error) {
	if err := askFirst(ctx, c, dir, version, p); err != nil {
		return nil, err
	}
	m, content, err := pipelineclient.New(c).Upload(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	p.Digest, p.Manifest = content.Digest, content.Manifest
	t, isNew, err := c.Publish(ctx, m.Name, version, p)
	if err != nil {
		return nil, err
	}
	switch {
	case t.State == registry.Revoked:
		return nil, fmt.Errorf("%s was published with the same content, and revoked: %s; publish it under a new version", t.Ref(), t.Reason)
	case !isNew:
		a.say("%s is published already, with the same content", t.Ref())
	}
	return t, nil
}

// askFirst lets the daemon refuse other content under a version that is there
// already before that content is sent. Equal content is sent again: it repairs
// what is stored.
func askFirst(ctx context.Context, c *client.Client, dir, version string, p registry.Publication) error {
	m, err := oci.Read(dir)
	if err != nil {
		return err
	}
	held, err := c.Version(ctx, m.Name, version)
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p.Digest, err = oci.Digest(ctx, dir)
	if err != nil || p.Digest == held.Digest {
		return err
	}
	p.Manifest = m.JSON()
	_, _, err = c.Publish(ctx, m.Name, version, p)
	return err
}
