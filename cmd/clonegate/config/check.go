package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// check reports what every key alone may say but all together may not.
func check(c *Config, d *decoder, draft bool) {
	if c.Zone != "" || !draft {
		d.checkZones(c)
	}
	d.checkListeners(c)
	d.checkGateway(c)
	d.checkFiles(c)
	d.checkACME(c)
	d.checkRateLimit(c)
	d.checkSecondaries(c)
	d.checkResolvers(c)
	d.checkLeases(c)
	d.checkTraces(c)
	if p := c.Providers.Process.Network; !p.Addr().Is4() || !p.Addr().IsLoopback() || p.Bits() < 9 || p.Bits() > 24 {
		d.wrong("providers.process.network", "%s is no part of 127.0.0.0/8 from /9 to /24", p)
	}
}

// wrong reports a problem with the key at path, where its value was written.
func (d *decoder) wrong(path, format string, args ...any) {
	pl, ok := d.places[path]
	if !ok {
		pl = place{name: path}
	}
	p := pl.problem("%s: %s", path, fmt.Sprintf(format, args...))
	d.problems = append(d.problems, p)
}

func (d *decoder) checkZones(c *Config) {
	if c.Zone == "" {
		if pl := d.places["zone"]; pl.line == 0 {
			d.places["zone"] = place{name: "configuration"} // it was written nowhere
		}
		d.wrong("zone", "is required: the domain under which clones have their names, as in test-envs.internal.example.com; set it in the file that --config names, or by --set zone=DOMAIN")
		return
	}
	hosts := []string{string(c.Zone)}
	for i, alias := range c.ZoneAliases {
		if alias == "" {
			d.wrong(fmt.Sprintf("zone_aliases[%d]", i), "is empty")
			return
		}
		hosts = append(hosts, string(alias))
		if _, err := registry.NewZones(hosts[0], hosts[1:]...); err != nil {
			d.wrong(fmt.Sprintf("zone_aliases[%d]", i), "%v", err)
			return
		}
	}
}

// checkGateway reports addresses and times that cannot be meant.
func (d *decoder) checkGateway(c *Config) {
	d.checkAddresses("gateway.addresses", c.Gateway.Addresses)
	d.checkAddresses("dns.nameservers", c.DNS.Nameservers)
	l := c.Gateway.Limits
	for _, k := range []struct {
		name string
		d    time.Duration
	}{
		{"drain", c.Gateway.Drain},
		{"limits.head", l.Head},
		{"limits.idle", l.Idle},
		{"limits.stall", l.Stall},
		{"limits.dial", l.Dial},
		{"limits.queue", l.Queue},
		{"limits.response", l.Response},
		{"limits.upstream_idle", l.UpstreamIdle},
		{"limits.websocket_idle", l.WebSocketIdle},
	} {
		if k.d <= 0 || k.d > 24*time.Hour {
			d.wrong("gateway."+k.name, "%s is not above 0s and at most 24h", k.d)
		}
	}
}

func (d *decoder) checkAddresses(path string, addrs []netip.Addr) {
	for i, a := range addrs {
		if a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			d.wrong(fmt.Sprintf("%s[%d]", path, i), "%s is no address that can be given to clients", a)
		}
	}
}

// checkListeners reports listeners that would take each other's port.
func (d *decoder) checkListeners(c *Config) {
	if !c.Gateway.Listen.On() {
		d.wrong("gateway.listen", "cannot be off")
	}
	if !c.API.Listen.On() {
		d.wrong("api.listen", "cannot be off")
	}
	type used struct {
		path string
		l    Listen
	}
	all := []used{
		{"gateway.listen", c.Gateway.Listen},
		{"gateway.redirect", c.Gateway.Redirect},
		{"api.listen", c.API.Listen},
		{"dns.listen", c.DNS.Listen},
	}
	for i, r := range c.DNS.Resolvers {
		if r.Netns != "" {
			continue // the same port is free in every namespace
		}
		all = append(all, used{fmt.Sprintf("dns.resolvers[%d].listen", i), r.Listen})
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if collide(a.l.AddrPort(), b.l.AddrPort()) {
				d.wrong(a.path, "%s is taken by %s already", a.l, b.path)
				break
			}
		}
	}
}

// collide reports whether two listeners cannot be open at once.
func collide(a, b netip.AddrPort) bool {
	if !a.IsValid() || !b.IsValid() || a.Port() == 0 || a.Port() != b.Port() {
		return false
	}
	return a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified()
}

func (d *decoder) checkFiles(c *Config) {
	for i, f := range c.Certificates.Files {
		if f.Cert == "" || f.Key == "" {
			d.wrong(fmt.Sprintf("certificates.files[%d]", i), "want both cert and key")
		}
	}
}

// checkACME reports what keeps an authority from issuing a certificate.
func (d *decoder) checkACME(c *Config) {
	const path = "certificates.acme.directory"
	a := c.Certificates.ACME
	if a.Directory == "" {
		if a != (ACME{}) {
			d.wrong("certificates.acme", "want directory, the URL of the authority; without it the other keys do nothing")
		}
		return
	}
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		d.wrong(path, "%q is not a URL such as https://acme-v02.api.letsencrypt.org/directory", a.Directory)
	}
	if len(c.Certificates.Files) > 0 {
		d.wrong(path, "certificates.files are given, too; keep one of both")
	}
	if !c.DNS.Listen.On() {
		d.wrong(path, "the authority asks this gateway for names in the zone, but dns.listen is off: set it, as in \":53\", and delegate the zone to it")
	}
	if (a.Account.KeyID == "") != (a.Account.KeyFile == "") {
		d.wrong("certificates.acme.account", "want both key_id and key_file")
	}
	zones := append([]registry.Host{c.Zone}, c.ZoneAliases...)
	if !slices.ContainsFunc(zones, func(z registry.Host) bool { return !strings.Contains(string(z), "_") }) {
		d.wrong(path, "no authority issues for a name with an underscore, as in %s; give the zone an alias with a hyphen (zone_aliases: [%s]), or leave this key out, for the internal CA",
			c.Zone, strings.ReplaceAll(string(c.Zone), "_", "-"))
	}
}

func (d *decoder) checkRateLimit(c *Config) {
	if n := c.DNS.RateLimit.PerSecond; n > 1_000_000 {
		d.wrong("dns.rate_limit.per_second", "%d is more than 1000000 answers", n)
	}
	if s := c.DNS.RateLimit.Slip; s.OneIn() > 10 {
		d.wrong("dns.rate_limit.slip", "%v is less than 1/10", s)
	}
}

func (d *decoder) checkSecondaries(c *Config) {
	if len(c.DNS.Secondaries) > 0 && !c.DNS.Listen.On() {
		d.wrong("dns.secondaries", "copy the zone from dns.listen, which is off: set it, as in \":53\"")
	}
	for i, s := range c.DNS.Secondaries {
		path := fmt.Sprintf("dns.secondaries[%d]", i)
		if len(s.Clients) == 0 {
			d.wrong(path, "want clients, the networks it asks from, as in 10.0.0.53/32")
		}
		for j, addr := range s.Notify {
			if addr.Port() == 0 || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() {
				d.wrong(fmt.Sprintf("%s.notify[%d]", path, j), "%s is no server that can be told", addr)
			}
		}
	}
}

// worldView is the resolver view that belongs to no clone.
const worldView = "world"

func (d *decoder) checkResolvers(c *Config) {
	for i, r := range c.DNS.Resolvers {
		path := fmt.Sprintf("dns.resolvers[%d]", i)
		if !r.Listen.On() {
			d.wrong(path, "want listen, the address and port of this resolver")
		}
		switch {
		case r.ForEachClone() && (r.Clone != "" || r.View != ""):
			d.wrong(path, "want neither clone nor view: the name of a namespace, %s, says whose resolver it is", r.Netns)
		case !r.ForEachClone() && (r.Clone == "") == (r.View == ""):
			d.wrong(path, "want either clone, the ID of one, or view: world")
		}
		d.checkNetns(path+".netns", r)
		if r.View != "" && r.View != worldView {
			d.wrong(path+".view", "%q is not known; the only view is world", r.View)
		}
		for j, up := range r.Upstreams {
			if up.Port() == 0 || up.Addr().IsUnspecified() || up.Addr().IsMulticast() {
				d.wrong(fmt.Sprintf("%s.upstreams[%d]", path, j), "%s is no server that can be asked", up)
			}
		}
	}
}

// checkNetns reports what is wrong with the network namespace of a resolver.
func (d *decoder) checkNetns(path string, r Resolver) {
	dir, name := filepath.Split(r.Netns)
	switch {
	case r.Netns == "":
	case !filepath.IsAbs(r.Netns):
		d.wrong(path, "%q is not the whole path of a network namespace, such as /run/netns/clone-1234", r.Netns)
	case strings.Contains(dir, "{id}") || strings.Count(name, "{id}") > 1:
		d.wrong(path, "%q may hold {id} once, behind the last slash", r.Netns)
	case r.Listen.On() && r.Listen.AddrPort().Port() == 0:
		d.wrong(path, "want a port in listen: in a namespace, nobody could learn which one is free")
	}
}

func (d *decoder) checkLeases(c *Config) {
	l := c.Leases
	for _, k := range []struct {
		path string
		d    time.Duration
	}{{"leases.ttl", l.TTL}, {"leases.renew_every", l.RenewEvery}, {"leases.sweep", l.Sweep}} {
		if k.d < time.Second || k.d > 24*time.Hour || k.d%time.Second != 0 {
			d.wrong(k.path, "%s is not a whole number of seconds between 1s and 24h", k.d)
			return
		}
	}
	if l.RenewEvery*3 > l.TTL {
		d.wrong("leases.renew_every", "%s is more than a third of leases.ttl (%s): two lost renewals would end a lease", l.RenewEvery, l.TTL)
	}
}

// checkTraces reports a place for spans that cannot be reached, and spans that
// have none.
func (d *decoder) checkTraces(c *Config) {
	t := c.Traces
	if t.Endpoint == "" {
		if t.Begin.OneIn() > 0 {
			d.wrong("traces.begin", "%s begin a trace, but traces.endpoint names nobody to send it to", t.Begin)
		}
		return
	}
	if u, err := url.Parse(t.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path == "" {
		d.wrong("traces.endpoint", "%q is not a URL such as http://10.0.0.7:4318/v1/traces", t.Endpoint)
	}
}
