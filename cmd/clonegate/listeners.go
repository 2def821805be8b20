package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/clonegate/clonegate/registry"
)

// listeners are those of a sidecar: one at each address that its configuration
// names. Unless that says bind-interfaces, addresses may come and go.
type listeners struct {
	cfg    *dnsmasq.Config
	server *dnsd.Server
	log    *slog.Logger
	rules  func(dnsmasq.Address) dnsd.Rules // of one listener

	identity func(name string) string // of the sidecar; nil: none

	first  []bound                               // opened at the start
	open   map[netip.AddrPort]context.CancelFunc // what is listened on
	failed map[netip.AddrPort]bool               // what could not be, and was told
	ended  sync.WaitGroup
}

// A bound is a listener and its address.
type bound struct {
	at netip.AddrPort
	dnsd.Listener
}

// lookEvery is how often the addresses of this machine are compared with what
// is listened on.
const lookEvery = time.Second

// listen opens the sockets of the addresses that are there now. It fails if one
// cannot be opened, but for an address that may still come.
func (l *listeners) listen() error {
	l.open, l.failed = map[netip.AddrPort]context.CancelFunc{}, map[netip.AddrPort]bool{}
	addrs, err := l.cfg.Addresses()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		opened, err := l.listenAt(a)
		if errors.Is(err, syscall.EADDRNOTAVAIL) && !l.cfg.BindInterfaces {
			l.report(a, err)
			continue
		}
		if err != nil {
			for _, o := range l.first {
				o.UDP.Close()
				o.TCP.Close()
			}
			return err
		}
		l.first = append(l.first, bound{a.AddrPort, opened})
	}
	for _, name := range l.cfg.Listeners {
		if _, err := net.InterfaceByName(name); err != nil {
			l.log.Warn("interface does not exist yet; it is listened on when it does", "interface", name)
		}
	}
	return nil
}

// listenAt opens the sockets of one address.
func (l *listeners) listenAt(a dnsmasq.Address) (dnsd.Listener, error) {
	udp, tcp, err := dnsd.Listen(a.String())
	if err != nil {
		return dnsd.Listener{}, err
	}
	r := &dnsd.Resolver{Rules: l.rules(a), Clients: clientsOf(a), Authoritative: a.World}
	if !a.World {
		r.Identity = l.identity
	}
	return dnsd.Listener{UDP: udp, TCP: tcp, Resolver: r}, nil
}

// clientsOf returns the networks that may ask at an address: private ones and
// those of its interface.
func clientsOf(a dnsmasq.Address) []netip.Prefix {
	clients := slices.Concat(registry.PrivateNetworks, []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
	})
	for _, p := range a.Networks {
		clients = append(clients, p.Masked())
	}
	return clients
}

// run serves until ctx ends. With bind-interfaces it ends with the first
// listener that does.
func (l *listeners) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.server.Run(ctx) })
	if l.cfg.BindInterfaces {
		for _, o := range l.first {
			g.Go(func() error { return l.server.Serve(ctx, o.Listener) })
		}
		return g.Wait()
	}
	g.Go(func() error { l.follow(ctx); return nil })
	return g.Wait()
}

// follow keeps what is listened on equal to the addresses that are there.
func (l *listeners) follow(ctx context.Context) {
	defer l.ended.Wait()
	gone := make(chan netip.AddrPort)
	for _, o := range l.first {
		l.serve(ctx, o, gone)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-gone:
			delete(l.open, a)
		case <-tick.C:
			l.look(ctx, gone)
		}
	}
}

// look listens on addresses that have come, and leaves those that have gone.
func (l *listeners) look(ctx context.Context, gone chan<- netip.AddrPort) {
	addrs, err := l.cfg.Addresses()
	if err != nil {
		l.log.Error("addresses of this machine are not known; listeners stay as they are", "err", err)
		return
	}
	for _, a := range addrs {
		if _, ok := l.open[a.AddrPort]; ok {
			continue
		}
		o, err := l.listenAt(a)
		if err != nil {
			l.report(a, err)
			continue
		}
		delete(l.failed, a.AddrPort)
		l.serve(ctx, bound{a.AddrPort, o}, gone)
	}
	for a, stop := range l.open {
		if !slices.ContainsFunc(addrs, func(have dnsmasq.Address) bool { return have.AddrPort == a }) {
			l.log.Info("address is gone and no longer listened on", "addr", a)
			stop()
		}
	}
}

// serve serves one listener until ctx ends or its address goes.
func (l *listeners) serve(ctx context.Context, o bound, gone chan<- netip.AddrPort) {
	own, stop := context.WithCancel(ctx)
	l.open[o.at] = stop
	l.ended.Go(func() {
		defer stop()
		if err := l.server.Serve(own, o.Listener); err != nil {
			l.log.Error("listener has ended and is opened again", "addr", o.at, "err", err)
		}
		select {
		case gone <- o.at:
		case <-ctx.Done():
		}
	})
}

// report tells once that an address cannot be listened on.
func (l *listeners) report(a dnsmasq.Address, err error) {
	if !l.failed[a.AddrPort] {
		l.failed[a.AddrPort] = true
		l.log.Warn("address cannot be listened on and is tried again", "addr", a.AddrPort, "err", err)
	}
}
