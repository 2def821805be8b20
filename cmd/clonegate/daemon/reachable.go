package daemon

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/clonegate/clonegate/dnsd"
)

// resolvConf is the file in which a machine names its DNS servers.
const resolvConf = "/etc/resolv.conf"

// zoneCheckTime bounds how long the daemon looks for its zones at its start.
const zoneCheckTime = 30 * time.Second

// FoundByItself reports whether clients find a zone without any DNS: they take
// names below localhost for their own machine (RFC 6761 §6.3).
func FoundByItself(zone string) bool {
	return zone == "localhost" || strings.HasSuffix(zone, ".localhost")
}

// CheckZone asks this machine's resolvers for a zone, and says what is wrong
// between them and the gateway, which answers for it at listen.
func CheckZone(ctx context.Context, zone string, listen netip.AddrPort) dnsd.ZoneFinding {
	return dnsd.ZoneCheck{Zone: zone, Resolvers: dnsd.ResolversOf(resolvConf), Own: nearest(listen)}.Run(ctx)
}

// checkZones writes to the log whether this machine finds the zones at this
// gateway. Nothing waits for it.
func (d *Daemon) checkZones(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, zoneCheckTime)
	defer cancel()
	select {
	case <-d.started:
	case <-ctx.Done():
		return
	}
	for _, zone := range d.zones.Hosts() {
		if FoundByItself(string(zone)) {
			continue
		}
		f := CheckZone(ctx, string(zone), addrOf(d.sockets.dns.stream))
		switch {
		case ctx.Err() != nil:
			return
		case f.Found:
			d.log.Info("zone is found", "zone", zone, "detail", f.Detail)
		default:
			d.log.Warn("zone is not found by this machine", "zone", zone, "detail", f.Detail, "fix", f.Fix)
		}
	}
}
