package daemon

import (
	"context"

	"github.com/clonegate/clonegate/dnsd"
)

// openDNS prepares the DNS server, if anything is to be answered.
func (d *Daemon) openDNS(context.Context) error {
	var listeners []dnsd.Listener
	if s := d.sockets.dns; s.stream != nil {
		listeners = append(listeners, dnsd.Listener{UDP: s.packet, TCP: s.stream})
	}
	for i, r := range d.cfg.DNS.Resolvers {
		s := d.sockets.resolvers[i]
		listeners = append(listeners, dnsd.Listener{UDP: s.packet, TCP: s.stream, Resolver: &dnsd.Resolver{
			Clone: r.Clone, Upstreams: r.Upstreams, Clients: r.Clients,
		}})
	}
	if len(listeners) == 0 {
		return nil
	}
	gateway, err := publicAddresses(d.cfg.Gateway.Addresses, addrOf(d.sockets.gateway).Addr())
	if err != nil {
		return err
	}
	server, err := dnsd.New(dnsd.Config{
		Directory:   d.registry.View(),
		Gateway:     gateway,
		NameServers: d.cfg.DNS.Nameservers,
		Challenges:  d.certificates.challenges,
		Log:         d.log.With("room", "dnsd"),
		Metrics:     d.metrics,
	})
	if err != nil {
		return err
	}
	d.dns = server
	d.parts = append(d.parts, part{"dns", func(ctx context.Context) error { return server.Run(ctx, listeners...) }})
	return nil
}
