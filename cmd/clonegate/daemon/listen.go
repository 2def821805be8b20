package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/clonegate/clonegate/registry"
)

// openSockets binds every listener before anything is opened or served, so
// that a busy port is reported at once and changes nothing.
func (d *Daemon) openSockets(ctx context.Context) (err error) {
	if d.sockets, err = newSockets(); err != nil {
		return err
	}
	if err := d.sockets.open(ctx, d.cfg); err != nil {
		return err
	}
	aliases := make([]string, len(d.cfg.ZoneAliases))
	for i, alias := range d.cfg.ZoneAliases {
		aliases[i] = string(alias)
	}
	if d.zones, err = registry.NewZones(string(d.cfg.Zone), aliases...); err != nil {
		return err
	}
	d.zones.SetPort(cmp.Or(d.cfg.Gateway.PublicPort, portOf(d.sockets.gateway)))
	d.addresses = d.describe()
	return nil
}

// describe returns what the sockets really listen on.
func (d *Daemon) describe() Addresses {
	a := Addresses{
		PID: os.Getpid(), Version: d.version, Zone: string(d.cfg.Zone),
		Gateway: GatewayAddresses{Listen: addrOf(d.sockets.gateway).String()},
		API:     APIAddresses{Listen: addrOf(d.sockets.api).String(), URL: d.apiURL()},
	}
	if d.sockets.redirect != nil {
		a.Gateway.Redirect = addrOf(d.sockets.redirect).String()
	}
	if d.sockets.dns.stream != nil {
		a.DNS.Listen = addrOf(d.sockets.dns.stream).String()
	}
	for i, r := range d.cfg.DNS.Resolvers {
		at := ResolverAddresses{Listen: r.Listen.String(), Netns: r.Netns}
		if s := d.sockets.resolvers[i]; s.stream != nil {
			at.Listen = addrOf(s.stream).String()
		}
		a.DNS.Resolvers = append(a.DNS.Resolvers, at)
	}
	return a
}

// apiURL returns the base URL by which this machine calls the API. With
// certificate files it has the name that the certificate is for.
func (d *Daemon) apiURL() string {
	addr := addrOf(d.sockets.api)
	switch {
	case addr.Addr().IsLoopback():
		return "http://" + addr.String()
	case len(d.cfg.Certificates.Files) > 0 && len(d.cfg.API.Hosts) > 0:
		return fmt.Sprintf("https://%s:%d", d.cfg.API.Hosts[0], addr.Port())
	case addr.Addr().IsUnspecified(): // IPv4 is among what it takes
		return fmt.Sprintf("https://127.0.0.1:%d", addr.Port())
	}
	return "https://" + addr.String()
}
