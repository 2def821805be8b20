package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

const demoHelp = `Show what this is about, on this machine and without root: run a gateway, publish
a template, start two clones of it, and print their addresses. Ctrl-C stops the
clones and removes everything again.

In a checkout, make demo builds the example shop and calls this with it. Data is
kept in a temporary directory; with --data, in a directory that must be empty
and is left there.`

// The demo's configuration. The resolver is that of the first clone, whose ID
// is the first that a new registry allocates.
func demoSettings(data string) []string {
	return []string{
		"zone=test_envs.localhost", "data=" + data,
		"gateway.listen=127.0.0.1:8443", "gateway.redirect=127.0.0.1:8080",
		"api.listen=127.0.0.1:0", "dns.listen=127.0.0.1:8053",
		demoListen(demoResolver, "127.0.0.1:8054"),
		"log.level=warn", "log.format=text",
	}
}

// demoResolver is the key of where the demo's resolver listens.
const demoResolver = "dns.resolvers[0].listen"

// demoListen is the setting that lets one listener of the demo be at addr.
func demoListen(key, addr string) string {
	if key == demoResolver {
		return fmt.Sprintf("dns.resolvers=[{listen: %q, clone: \"1000\"}]", addr)
	}
	return key + "=" + addr
}

// freePorts returns settings that move those listeners of the demo to free ports
// that other programs hold the ports of.
func freePorts(ctx context.Context, settings []string) []string {
	var moved []string
	for range 4 { // listeners
		cfg, _, err := config.Load(config.Sources{Set: slices.Concat(settings, moved)})
		if err != nil {
			break
		}
		busy, ok := errors.AsType[*daemon.ListenError](daemon.TryListen(ctx, cfg))
		if !ok || !busy.Busy() {
			break
		}
		udp, tcp, err := dnsd.Listen("127.0.0.1:0")
		if err != nil {
			break
		}
		moved = append(moved, demoListen(busy.Key, tcp.Addr().String()))
		udp.Close()
		tcp.Close()
	}
	return moved
}

func newDemo(a *app) *cobra.Command {
	var dir string
	var set []string
	cmd := &cobra.Command{
		Use:     "demo --template DIR",
		Short:   "Try it: a gateway and two clones, until Ctrl-C",
		Long:    demoHelp,
		Example: "  clonegate demo --template build/shop",
		Args:    wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if dir == "" {
				return usagef(cmd, "the demo needs a template; give --template DIR, or run make demo in a checkout")
			}
			data, remove, err := a.demoData()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, remove()) }()
			settings := append(demoSettings(data), set...)
			cfg, _, err := config.Load(config.Sources{Set: settings})
			if err != nil {
				return err
			}
			err = a.demo(cmd.Context(), cfg, dir)
			if busy, ok := errors.AsType[*daemon.ListenError](err); ok && busy.Busy() {
				if free := freePorts(cmd.Context(), settings); len(free) > 0 {
					err = fmt.Errorf("%w; these are free:\n  --set '%s'", err, strings.Join(free, "'\n  --set '"))
				}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "template", "", "template `DIR` to make clones of")
	cmd.Flags().StringArrayVar(&set, "set", nil, "set one key of the configuration, as in gateway.listen=127.0.0.1:9443 (`KEY=VALUE`); may be repeated")
	return cmd
}

// demoData returns the data directory of the demo, and what removes it.
func (a *app) demoData() (dir string, remove func() error, err error) {
	if a.data == "" {
		dir, err := os.MkdirTemp("", "clonegate-demo-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	entries, err := os.ReadDir(a.data)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", nil, err
	}
	if len(entries) > 0 {
		return "", nil, fmt.Errorf("%s is not empty; the demo begins with an empty directory, or without --data", a.data)
	}
	return a.data, func() error { return nil }, nil
}

// demo runs a gateway with two clones until ctx ends.
func (a *app) demo(ctx context.Context, cfg *config.Config, dir string) error {
	d, err := daemon.Open(ctx, daemon.Options{
		Config: cfg, Version: buildVersion(), Log: daemon.NewLog(a.stderr, cfg.Log), EndClones: true,
	})
	if err != nil && ctx.Err() != nil {
		return nil // Ctrl-C came before anything was open
	}
	if err != nil {
		return err
	}
	// Neither a second Ctrl-C nor a terminal that is closed may leave clones behind.
	impatient := make(chan os.Signal, 1)
	signal.Notify(impatient, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(impatient)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()

	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return d.Run(ctx) })
	running.Go(func() error {
		select {
		case <-d.Started():
		case <-ctx.Done():
			return nil
		}
		if err := a.show(ctx, cfg, d.Addresses(), dir); err != nil && ctx.Err() == nil {
			return err
		}
		<-ctx.Done()
		a.say("\nstopping the clones")
		return nil
	})
	return running.Wait()
}

// show publishes the template, starts two clones of it, and tells what to do
// with them.
func (a *app) show(ctx context.Context, cfg *config.Config, addresses daemon.Addresses, dir string) error {
	c, err := client.New(client.Config{URL: addresses.API.URL, TokenFile: daemon.AdminTokenFile(cfg.Data)})
	if err != nil {
		return err
	}
	t, err := a.publish(ctx, c, dir, "1", registry.Publication{})
	if err != nil {
		return err
	}
	if _, err := c.Promote(ctx, t.Name, "stable", t.Version, "the demo trusts it"); err != nil {
		return err
	}
	clones, err := a.startPair(ctx, c, t.Name+"@stable")
	if err != nil {
		return err
	}
	for _, clone := range clones {
		printURLs(a.stdout, clone)
	}
	a.explainDemo(cfg.Data, addresses, clones[0])
	return nil
}

// startPair starts two clones at once.
func (a *app) startPair(ctx context.Context, c *client.Client, template string) ([2]*api.Clone, error) {
	var clones [2]*api.Clone
	starting, ctx := errgroup.WithContext(ctx)
	for i := range clones {
		req := registry.CreateRequest{Template: template, Provider: daemon.ProcessProvider, Owner: "demo"}
		clone, err := a.startClone(ctx, c, req, false)
		if err != nil {
			return clones, err
		}
		starting.Go(func() (err error) {
			clones[i], err = a.waitReady(ctx, c, clone)
			return err
		})
	}
	return clones, starting.Wait()
}

// explainDemo tells what to do with a demo that runs.
func (a *app) explainDemo(data string, addresses daemon.Addresses, first *api.Clone) {
	ca, service := daemon.CAFile(data), defaultService(first)
	a.say(`
These are two clones at once, each with its own data. Look at them with

  curl --cacert %s %s
  clonegate list --data %s

or in a browser, after  clonegate trust %s
(and  clonegate trust --uninstall  of the same file when you are done).`,
		ca, first.URLs[service], data, ca)
	if dns := addresses.DNS; dns.Listen != "" {
		a.say("\nNames are answered, too:\n\n  dig @127.0.0.1 -p %s %s-%s.%s", portText(dns.Listen), service, first.ID, addresses.Zone)
	}
	for _, r := range addresses.DNS.Resolvers {
		a.say("  dig @127.0.0.1 -p %s db      as the hosts inside clone %s see it", portText(r.Listen), first.ID)
	}
	a.say("\nCtrl-C stops the clones and the gateway.")
}
