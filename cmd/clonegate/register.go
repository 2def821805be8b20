package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

const registerHelp = `Register a clone that something else started: from then on its services have
addresses and its hosts have names, for as long as its lease is renewed.

What it serves is given by flags, or as the JSON of the API in a file (- is
standard input). The instance names this life of the clone; the same one may
register again at any time, another only after the lease has ended. It defaults
to $CLONEGATE_INSTANCE or, without that, to this machine's boot.

With --keep the command stays, renews the lease, and unregisters the clone when
it is interrupted; without it, renew within the lease it tells.`

// registerFlags is a registration as the command line gives it.
type registerFlags struct {
	file, template, owner, standard string
	services, health, hosts, labels []string
	aliases, production, cookies    []string
	takeover, keep                  bool
	ttl                             time.Duration
	instance                        instanceFlag
}

func newRegister(a *app) *cobra.Command {
	f := &registerFlags{instance: instanceFlag{app: a}}
	cmd := &cobra.Command{
		Use:   "register ID (--service NAME=ADDRESS:PORT... | --file FILE)",
		Short: "Give a running clone its addresses and names",
		Long:  registerHelp,
		Example: `  clonegate register 1234 --service www=10.0.4.10:8080 --health www=/healthz
  clonegate register 1234 --service api=10.0.4.20:8080,10.0.4.21:8080 --host db=10.80.0.30 --keep
  clonegate register 1234 --file registration.json`,
		Args: wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := registry.ParseID(args[0])
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			reg, err := f.registration(a)
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			grant, isNew, err := c.Register(cmd.Context(), id, *reg, f.takeover)
			if err != nil {
				return err
			}
			a.say("clone %s is registered, life %d; renew within %d s, at best every %d s", id, grant.Incarnation, grant.Lease.TTL, grant.Lease.RenewEvery)
			if !isNew {
				a.say("the same instance was registered already; what it serves was brought up to date")
			}
			if err := a.result(grant, func(w io.Writer) { printGrant(w, grant) }); err != nil {
				return err
			}
			if f.keep {
				return a.keep(cmd.Context(), c, reg.Instance, grant)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func (f *registerFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.services, "service", nil, "serve `NAME=ADDRESS:PORT[,ADDRESS:PORT...]`; may be repeated")
	fl.StringVar(&f.standard, "default", "", "`SERVICE` behind the clone's bare name; a single service is that anyway")
	fl.StringArrayVar(&f.health, "health", nil, "probe a service at `SERVICE=/PATH`; may be repeated")
	fl.StringArrayVar(&f.hosts, "host", nil, "a machine of the clone and its addresses (`NAME=IP[,IP...]`), for DNS; may be repeated")
	fl.StringSliceVar(&f.aliases, "alias", nil, "also call the clone `NAME`, as in pr-87; may be repeated")
	fl.StringArrayVar(&f.labels, "label", nil, "label the clone (`KEY=VALUE`); may be repeated")
	fl.StringArrayVar(&f.production, "production", nil, "let a service stand for a name of production (`HOST=SERVICE`, or *.HOST=SERVICE for all below); may be repeated")
	fl.StringArrayVar(&f.cookies, "strip-cookie", nil, "never send the clone production's cookie `NAME`; may be repeated")
	fl.StringVar(&f.owner, "owner", "", "`NAME` of the clone's owner")
	fl.StringVar(&f.template, "template", "", "the published `NAME@VERSION` the clone was made from")
	fl.DurationVar(&f.ttl, "lease", 0, "a shorter lease (`TIME`) than the gateway's")
	fl.StringVar(&f.file, "file", "", "take the registration from a JSON `FILE`; - is standard input")
	fl.BoolVar(&f.takeover, "takeover", false, "take the ID from another living instance; the token needs the right")
	fl.BoolVar(&f.keep, "keep", false, "stay, renew the lease, and unregister at the end")
	f.instance.add(cmd)
}

// registration returns what the flags, or the file, say.
func (f *registerFlags) registration(a *app) (*registry.Registration, error) {
	if f.file != "" {
		return f.readFile(a)
	}
	if len(f.services) == 0 {
		return nil, errors.New("nothing to serve: give --service NAME=ADDRESS:PORT, or --file FILE")
	}
	reg := &registry.Registration{Template: f.template, Owner: f.owner, Aliases: f.aliases}
	var err error
	if reg.Lease.TTL, err = wholeSeconds("lease", f.ttl); err != nil {
		return nil, err
	}
	services, err := parsePairs("service", f.services)
	if err != nil {
		return nil, err
	}
	health, err := parsePairs("health", f.health)
	if err != nil {
		return nil, err
	}
	hosts, err := parsePairs("host", f.hosts)
	if err != nil {
		return nil, err
	}
	if reg.Labels, err = parsePairs("label", f.labels); err != nil {
		return nil, err
	}
	if reg.Production, err = parsePairs("production", f.production); err != nil {
		return nil, err
	}
	reg.StripCookies = f.cookies
	reg.Services = map[string]registry.ServiceRegistration{}
	for name, endpoints := range services {
		s := registry.ServiceRegistration{Endpoints: strings.Split(endpoints, ","), Default: name == f.standard}
		if path, ok := health[name]; ok {
			s.Health = &registry.HealthRegistration{Path: path}
			delete(health, name)
		}
		reg.Services[name] = s
	}
	for name := range health {
		return nil, fmt.Errorf("--health %s: there is no --service %s", name, name)
	}
	if _, ok := reg.Services[f.standard]; f.standard != "" && !ok {
		return nil, fmt.Errorf("--default %s: there is no --service %s", f.standard, f.standard)
	}
	reg.Hosts = map[string][]string{}
	for name, addrs := range hosts {
		reg.Hosts[name] = strings.Split(addrs, ",")
	}
	reg.Instance, err = f.instance.get()
	return reg, err
}

// readFile reads a registration as the API takes it. Only an instance that it
// does not name is filled in.
func (f *registerFlags) readFile(a *app) (*registry.Registration, error) {
	if len(f.services)+len(f.health)+len(f.hosts)+len(f.aliases)+len(f.labels)+len(f.production)+len(f.cookies) > 0 || f.owner+f.template+f.standard != "" || f.ttl != 0 {
		return nil, errors.New("--file holds the whole registration; give the other values in it")
	}
	text, err := readInput(a, f.file)
	if err != nil {
		return nil, err
	}
	reg := new(registry.Registration)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(reg); err != nil {
		return nil, fmt.Errorf("%s: %w", f.file, err)
	}
	if reg.Instance == "" || f.instance.value != "" {
		reg.Instance, err = f.instance.get()
	}
	return reg, err
}

// readInput returns the content of a file, or standard input for "-".
func readInput(a *app, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.stdin)
	}
	return os.ReadFile(file)
}

// keep renews a lease until ctx ends or the life does, and then ends it.
func (a *app) keep(ctx context.Context, c *client.Client, instance string, grant *api.Grant) error {
	tick := time.NewTicker(grant.Lease.RenewEvery.Duration())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			out, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if _, _, err := c.Unregister(out, grant.ID, instance); err != nil {
				return err
			}
			a.say("clone %s is unregistered", grant.ID)
			return nil
		case <-tick.C:
		}
		_, err := c.Renew(ctx, grant.ID, instance)
		switch {
		case ctx.Err() != nil, err == nil:
		case isOneOf(err, registry.ErrEnded, registry.ErrFenced, registry.ErrNotFound, registry.ErrForbidden, registry.ErrNoToken):
			return err
		default:
			a.say("clone %s could not be renewed, trying again: %v", grant.ID, err)
		}
	}
}

func printGrant(w io.Writer, g *api.Grant) {
	printURLs(w, &api.Clone{URLs: g.URLs})
}
