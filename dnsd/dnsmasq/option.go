package dnsmasq

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// What is said about options that are read and not applied.
const (
	notDHCP      = "addresses are given out by DHCP servers, not here"
	notTFTP      = "boot files are served elsewhere"
	notIPSet     = "no packet filter is changed by answers"
	notDNSSEC    = "signatures are passed on, not validated"
	notProcess   = "the process is run by whoever starts it, in the foreground, as the user it was started as"
	notBus       = "control and statistics are in clonegate's own metrics and signals"
	notSubnet    = "what a client is, is not told to upstream servers"
	notTransfer  = "zones are copied from clonegate serve, see dns.secondaries; here transfers are refused"
	notMail      = "no mail records are made up; write each as mx-host"
	notRewrite   = "addresses in answers are not rewritten; bogus-nxdomain turns them into no such name"
	notDynamic   = "write the name as host-record or interface-name"
	notHabit     = "questions are spelt as clonegate spells them"
	notPorts     = "a silent server is asked again from another port"
	ownStale     = "those that say that a name is missing are never given past their end"
	ownTCP       = "at most 16 of them from one source"
	alwaysCache  = "every type of record is kept in any case"
	alwaysLoop   = "servers that send questions back are found and left out in any case"
	alwaysFollow = "addresses that come and go are followed unless bind-interfaces is given"
	alwaysReload = "what was kept is forgotten in any case"
	ownClients   = "only private networks and those of this machine may ask in any case"
	ownLog       = "written as structured lines on standard error"
)

// ignoredByPrefix returns why a whole family of options is not applied, "" if
// the name belongs to none.
func ignoredByPrefix(name string) string {
	for prefix, why := range map[string]string{
		"dhcp": notDHCP, "bootp": notDHCP, "ra-": notDHCP, "read-ethers": notDHCP, "leasefile": notDHCP, "log-dhcp": notDHCP,
		"quiet-dhcp": notDHCP, "quiet-ra": notDHCP, "no-ping": notDHCP, "script-": notDHCP, "leasequery": notDHCP, "enable-ra": notDHCP,
		"tftp": notTFTP, "pxe": notTFTP, "enable-tftp": notTFTP, "quiet-tftp": notTFTP,
		"ipset": notIPSet, "nftset": notIPSet, "conntrack": notIPSet, "connmark": notIPSet,
		"dnssec": notDNSSEC, "trust-anchor": notDNSSEC, "proxy-dnssec": notDNSSEC,
	} {
		if strings.HasPrefix(name, prefix) {
			return why
		}
	}
	return ""
}

// options returns how every option is read.
func options() map[string]option {
	o := map[string]option{
		"server":      {parse: (*parser).server},
		"local":       {parse: (*parser).server},
		"address":     {parse: (*parser).address},
		"rev-server":  {parse: (*parser).revServer},
		"host-record": {parse: (*parser).hostRecord},
		"cname":       {parse: (*parser).cname},
		"srv-host":    {parse: (*parser).srvHost},
		"txt-record":  {parse: (*parser).txtRecord},
		"ptr-record":  {parse: (*parser).ptrRecord},
		"mx-host":     {parse: (*parser).mxHost},
		"mx-target":   {parse: func(p *parser, v string) (err error) { p.mxTarget, err = targetName(v); return err }},
		"caa-record":  {parse: (*parser).caaRecord}, "naptr-record": {parse: (*parser).naptrRecord},
		"dns-rr":         {parse: (*parser).dnsRR},
		"synth-domain":   {parse: (*parser).synthDomain},
		"interface-name": {parse: (*parser).interfaceName},
		"addn-hosts":     {parse: func(p *parser, v string) error { p.AddnHosts = append(p.AddnHosts, reveal(v)); return nil }},
		"hostsdir":       {parse: func(p *parser, v string) error { p.HostsDirs = append(p.HostsDirs, reveal(v)); return nil }},
		"domain":         {parse: (*parser).domain},
		"conf-file": {parse: func(p *parser, v string) error {
			p.file(reveal(v))
			return nil
		}},
		"conf-dir":     {parse: (*parser).confDir},
		"servers-file": {parse: (*parser).serversFile},
		"resolv-file":  {parse: func(p *parser, v string) error { p.ResolvFiles = append(p.ResolvFiles, reveal(v)); return nil }},
		"filter-A": {value: never, parse: func(p *parser, _ string) error {
			p.FilterTypes = append(p.FilterTypes, dns.TypeA)
			return nil
		}},
		"filter-AAAA": {value: never, parse: func(p *parser, _ string) error {
			p.FilterTypes = append(p.FilterTypes, dns.TypeAAAA)
			return nil
		}},
		"filter-rr":        {parse: (*parser).filterRR},
		"rebind-domain-ok": {parse: (*parser).rebindDomain},
		"bogus-nxdomain":   {parse: (*parser).bogus},
		"listen-address":   {parse: (*parser).listenAddress},
		"interface":        {parse: func(p *parser, v string) error { p.Listeners = append(p.Listeners, names(v)...); return nil }},
		"except-interface": {parse: func(p *parser, v string) error { p.Except = append(p.Except, names(v)...); return nil }},
		"local-service":    {value: optional, not: ownClients, parse: func(p *parser, _ string) error { p.LocalService = true; return nil }},
		"log-queries":      {value: optional, not: ownLog, parse: func(p *parser, _ string) error { p.LogQueries = true; return nil }},
		"port":             {once: true, parse: (*parser).port},
		"cache-size":       {once: true, parse: (*parser).cacheSize},
		"local-ttl": {once: true, parse: func(p *parser, v string) error {
			ttl, err := parseTTL(v)
			p.LocalTTL = &ttl
			return err
		}},
		"neg-ttl":       {once: true, parse: func(p *parser, v string) (err error) { p.NegTTL, err = parseTTL(v); return err }},
		"max-ttl":       {once: true, parse: func(p *parser, v string) (err error) { p.MaxTTL, err = parseTTL(v); return err }},
		"max-cache-ttl": {once: true, parse: func(p *parser, v string) (err error) { p.MaxCacheTTL, err = parseTTL(v); return err }},
		"min-cache-ttl": {once: true, parse: func(p *parser, v string) (err error) {
			ttl, err := parseTTL(v)
			p.MinCacheTTL = min(ttl, minCacheTTLLimit)
			return err
		}},
	}
	addFlags(o)
	addHabits(o)
	addAuthority(o)
	addUnapplied(o)
	return o
}

// addFlags adds the options without a value.
func addFlags(o map[string]option) {
	for name, of := range map[string]func(*Config) *bool{
		"no-hosts":            func(c *Config) *bool { return &c.NoHosts },
		"expand-hosts":        func(c *Config) *bool { return &c.Expand },
		"no-resolv":           func(c *Config) *bool { return &c.NoResolv },
		"no-poll":             func(c *Config) *bool { return &c.NoPoll },
		"domain-needed":       func(c *Config) *bool { return &c.DomainNeeded },
		"bogus-priv":          func(c *Config) *bool { return &c.BogusPriv },
		"filterwin2k":         func(c *Config) *bool { return &c.FilterWin2K },
		"stop-dns-rebind":     func(c *Config) *bool { return &c.StopRebind },
		"rebind-localhost-ok": func(c *Config) *bool { return &c.RebindLoopback },
		"no-round-robin":      func(c *Config) *bool { return &c.NoRoundRobin },
		"localise-queries":    func(c *Config) *bool { return &c.Localise },
		"no-negcache":         func(c *Config) *bool { return &c.NoNegCache },
		"no-ident":            func(c *Config) *bool { return &c.NoIdent },
		"bind-interfaces":     func(c *Config) *bool { return &c.BindInterfaces },
	} {
		o[name] = option{value: never, parse: func(p *parser, _ string) error { *of(p.Config) = true; return nil }}
	}
}

// addUnapplied adds the options that clonegate reads and answers otherwise.
func addUnapplied(o map[string]option) {
	for why, names := range map[string]string{
		notProcess: "user group pid-file keep-in-foreground no-daemon log-facility log-async log-debug version help test conf-script umbrella " +
			"dumpfile dumpmask max-port-limit",
		notBus:     "enable-dbus enable-ubus dbus ubus",
		notPorts:   "port-limit",
		notSubnet:  "add-subnet add-mac add-cpe-id strip-subnet strip-mac",
		notMail:    "localmx selfmx",
		notRewrite: "alias ignore-address",
		notDynamic: "dynamic-host",
		notHabit:   "do-0x20-encode no-0x20-encode",
		notDHCP:    "no-dhcp-interface no-dhcpv4-interface no-dhcpv6-interface bridge-interface shared-network tag-if",
	} {
		for name := range strings.FieldsSeq(names) {
			o[name] = option{not: why}
		}
	}
}

// names returns the comma-separated names of a value.
func names(value string) []string {
	out := fields(value)
	for i := range out {
		out[i] = reveal(out[i])
	}
	return out
}

// number reads a whole number from 0 up to most.
func number(s string, most int) (int, error) {
	n, err := strconv.Atoi(reveal(s))
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%q is not a number from 0 to %d", reveal(s), most)
	}
	return n, nil
}

func parseTTL(s string) (uint32, error) {
	n, err := number(s, math.MaxInt32)
	return uint32(n), err
}

func (p *parser) port(value string) error {
	n, err := number(value, math.MaxUint16)
	if err == nil && n == 0 {
		err = errors.New("port 0 switches DNS off in dnsmasq; there is nothing else here to run")
	}
	p.Port = uint16(n)
	return err
}

func (p *parser) cacheSize(value string) error {
	n, err := number(value, math.MaxInt32)
	p.CacheSize = &n
	return err
}

func (p *parser) listenAddress(value string) error {
	for _, f := range names(value) {
		a, err := netip.ParseAddr(f)
		if err != nil {
			return fmt.Errorf("%q is not an address; write one such as 127.0.0.1", f)
		}
		p.Listen = append(p.Listen, a)
	}
	return nil
}

func (p *parser) filterRR(value string) error {
	all, err := types(value)
	p.FilterTypes = append(p.FilterTypes, all...)
	return err
}

// types reads types of records, by name or by number.
func types(value string) ([]uint16, error) {
	var out []uint16
	for _, f := range names(value) {
		t, ok := dns.StringToType[strings.ToUpper(f)]
		if n, err := strconv.ParseUint(f, 10, 16); err == nil {
			t, ok = uint16(n), true
		}
		if !ok {
			return nil, fmt.Errorf("%q is not a type of record; write a name such as TXT, or its number", f)
		}
		out = append(out, t)
	}
	return out, nil
}

// rebindDomain reads /one/two/ or a single domain.
func (p *parser) rebindDomain(value string) error {
	for d := range strings.SplitSeq(strings.Trim(value, "/"), "/") {
		name, err := domainName(reveal(d))
		if err != nil {
			return err
		}
		p.RebindDomains = append(p.RebindDomains, name)
	}
	return nil
}

func (p *parser) bogus(value string) error {
	prefix, err := parsePrefix(reveal(value))
	if err != nil {
		return err
	}
	p.BogusNXDomain = append(p.BogusNXDomain, prefix)
	return nil
}

// parsePrefix reads an address, or a network in CIDR form.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network such as 192.0.2.0/24", s)
	}
	return prefix, nil
}
