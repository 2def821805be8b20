package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/certs"
	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
)

// openACME has an authority issue the gateway's certificates. The internal CA,
// which is there already, stands in for what it has not issued, and for zones
// for which it cannot.
func (d *Daemon) openACME() error {
	cfg := d.cfg.Certificates.ACME
	key := ""
	if cfg.Account.KeyFile != "" {
		text, err := os.ReadFile(cfg.Account.KeyFile)
		if err != nil {
			return fmt.Errorf("key of the ACME account: %w", err)
		}
		key = strings.TrimSpace(string(text))
	}
	challenges := new(dnsd.Challenges)
	acme, err := certs.NewACME(certs.ACMEConfig{
		Directory:    cfg.Directory,
		Root:         cfg.Root,
		Email:        cfg.Email,
		AccountKeyID: cfg.Account.KeyID,
		AccountKey:   key,
		Dir:          filepath.Join(d.cfg.Data, "acme"),
		Zones:        d.zones,
		Challenges:   sharedChallenges{challenges, func(why string) { d.noteZone(context.Background(), why) }},
		DNSServer:    nearest(addrOf(d.sockets.dns.stream)).String(),
		Fallback:     d.certificates.gateway,
		Log:          d.log.With("room", "certs"),
		Metrics:      d.metrics,
	})
	if err != nil {
		return err
	}
	d.certificates.gateway, d.certificates.challenges = acme.GetCertificate, challenges
	d.parts = append(d.parts, part{"acme", acme.Run})
	if cfg.Nested {
		d.parts = append(d.parts, part{"nested certificates", func(ctx context.Context) error {
			return follow(ctx, d.registry.View(), func(c *registry.Clone) { acme.Keep(string(c.ID), nestedNames(c)) })
		}})
	}
	return nil
}

// nearest returns how this machine itself reaches a listener.
func nearest(listen netip.AddrPort) netip.AddrPort {
	switch {
	case !listen.Addr().IsUnspecified():
		return listen
	case listen.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), listen.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), listen.Port())
}

// nestedNames returns the wildcards for what stands below a clone's ID and its
// aliases, and below the services that stand for tenants of production; none if
// its life is over.
func nestedNames(c *registry.Clone) []string {
	if c.State.Over() {
		return nil
	}
	var names []string
	for _, base := range append([]string{string(c.ID)}, c.Aliases...) {
		names = append(names, "*."+base)
		for name, service := range c.Production {
			if strings.HasPrefix(name, "*.") {
				names = append(names, "*."+service+"-"+base, "*."+service+"."+base)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
