// Command serve is clonegate's DNS server alone, over a registry in memory
// that holds as many clones as asked for, for measuring it beside others.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	_ "net/http/pprof" // for -pprof
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	zone := flag.String("zone", "test_envs.internal.example.com", "zone of the clones")
	clones := flag.Int("clones", 10_000, "number of clones; each has www-N")
	listen := flag.String("listen", "127.0.0.1:5310", "resolver listener")
	authoritative := flag.String("authoritative", "127.0.0.1:5311", "authoritative listener")
	upstream := flag.String("upstream", "127.0.0.1:5300", "server that everything else is asked of")
	churn := flag.Int("churn", 0, "changes of the registry per second")
	debug := flag.String("pprof", "", "address of net/http/pprof; empty: none")
	flag.Parse()

	up, err := netip.ParseAddrPort(*upstream)
	if err != nil {
		return err
	}
	r, err := openRegistry(ctx, *zone, *clones)
	if err != nil {
		return err
	}
	server, err := dnsd.New(dnsd.Config{Directory: r.View(), Gateway: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		return err
	}
	var listeners []dnsd.Listener
	for _, l := range []struct {
		addr     string
		resolver *dnsd.Resolver
	}{{*listen, &dnsd.Resolver{Upstreams: []netip.AddrPort{up}}}, {*authoritative, nil}} {
		udp, tcp, err := dnsd.Listen(l.addr)
		if err != nil {
			return err
		}
		listeners = append(listeners, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: l.resolver})
	}
	if *debug != "" {
		go http.ListenAndServe(*debug, nil)
	}
	if *churn > 0 {
		go change(ctx, r, *churn, *clones)
	}
	return server.Run(ctx, listeners...)
}

// openRegistry returns a registry of n clones with a service each.
func openRegistry(ctx context.Context, zone string, n int) (*registry.Registry, error) {
	zones, err := registry.NewZones(zone)
	if err != nil {
		return nil, err
	}
	batch := &registry.Batch{Events: []registry.Event{{Seq: 1}}}
	for i := range n {
		batch.Clones = append(batch.Clones, newClone(i))
	}
	store := registrytest.NewStore()
	if err := store.Commit(ctx, batch); err != nil {
		return nil, err
	}
	return registry.Open(ctx, registry.Config{Store: store, Zones: zones})
}

func newClone(i int) *registry.Clone {
	return &registry.Clone{
		ID: registry.ID(fmt.Sprint(i)), State: registry.Ready, Incarnation: 1, Revision: 1,
		Services: map[string]*registry.Service{"www": {Default: true, Protocol: registry.HTTP}},
	}
}

// change moves clones between two states, so many times a second, until ctx ends.
func change(ctx context.Context, r *registry.Registry, perSecond, clones int) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		<-tick.C
		state := registry.Degraded
		if i/clones%2 == 1 {
			state = registry.Ready
		}
		if err := r.SetState(ctx, registry.Actor{}, registry.ID(fmt.Sprint(i%clones)), 1, state, "churn"); err != nil {
			fmt.Fprintln(os.Stderr, "serve: change:", err)
			return
		}
	}
}
