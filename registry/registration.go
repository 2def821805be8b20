package registry

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Registration is what one life of a clone says about itself, as its startup
// script writes it.
type Registration struct {
	Instance string                         `json:"instance" doc:"A random string that this life of the clone chose for itself, for example its boot ID."`
	Template string                         `json:"template,omitempty" doc:"name@version of the published template it was made from."`
	Owner    string                         `json:"owner,omitempty" doc:"Who it belongs to, for people."`
	Labels   map[string]string              `json:"labels,omitempty" doc:"Free metadata to filter by."`
	Aliases  []string                       `json:"aliases,omitempty" doc:"Human names beside the ID, as in pr-87."`
	State    State                          `json:"state,omitempty" enum:"starting,ready" doc:"starting keeps visitors on a waiting page. Default ready."`
	Services map[string]ServiceRegistration `json:"services,omitempty" doc:"What it serves, by service name."`
	Hosts    map[string][]string            `json:"hosts,omitempty" doc:"Machines inside the clone and their addresses, for DNS."`
	Records  []Record                       `json:"records,omitempty" doc:"Extra DNS records."`
	Forward  []ForwardRegistration          `json:"forward,omitempty" doc:"Where the clone's resolver sends questions under a domain."`

	Production   map[string]string `json:"production,omitempty" doc:"The service that stands for each name of production, as in www.example.com or *.example.com."`
	StripCookies []string          `json:"strip_cookies,omitempty" doc:"Names of cookies of production that the clone must never see."`

	Lease LeaseRequest `json:"lease,omitzero" doc:"A shorter lease than the server's."`
}

// A ServiceRegistration is one service of a Registration.
type ServiceRegistration struct {
	Endpoints []string            `json:"endpoints" doc:"address:port each; :port stands for the caller's own address."`
	Protocol  Protocol            `json:"protocol,omitempty" enum:"http,https,h2c" doc:"How the gateway speaks to the endpoints. Default http."`
	Default   bool                `json:"default,omitempty" doc:"Whether the clone's bare name leads here."`
	Sticky    bool                `json:"sticky,omitempty" doc:"Whether a browser stays with the endpoint that answered it first, by a cookie."`
	TLS       *TLS                `json:"tls,omitempty" doc:"What the certificates of https endpoints must be like. Default: anything."`
	Health    *HealthRegistration `json:"health,omitempty" doc:"How the gateway probes endpoints."`
}

// A HealthRegistration is how a service wants to be probed.
type HealthRegistration struct {
	Path     string  `json:"path" doc:"Answers 2xx or 3xx when healthy."`
	Interval Seconds `json:"interval,omitempty" doc:"Seconds between probes. Default 10."`
	Timeout  Seconds `json:"timeout,omitempty" doc:"Seconds a probe may take. Default 2."`
}

// A ForwardRegistration is one forward rule of a Registration.
type ForwardRegistration struct {
	Zone    string   `json:"zone"`
	Servers []string `json:"servers" doc:"address or address:port each."`
}

// A LeaseRequest asks for a lease.
type LeaseRequest struct {
	TTL Seconds `json:"ttl,omitempty" doc:"Seconds the lease lives without renewal; at most the server's."`
}

// Bounds of a registration. They are far beyond any real clone and keep one
// record small.
const (
	maxServices  = 64
	maxEndpoints = 256
	maxHosts     = 1024
	maxAddresses = 16
	maxRecords   = 256
	maxForwards  = 64
	maxAliases   = 16
	maxLabels    = 64
	maxText      = 256
	maxRecord    = 4096
	maxRecordTTL = 86400
	minLease     = 3
)

// A reader turns the strings of an input into values and gathers every fault.
type reader struct {
	r      *Registry
	caller netip.Addr // for ":8080"; invalid if unknown
	faults FieldErrors
}

// read returns the clone that reg describes, with nothing set that reg does
// not say. The error is FieldErrors.
func (r *Registry) read(reg *Registration, by Actor) (*Clone, error) {
	in := &reader{r: r}
	if a, err := netip.ParseAddr(by.From); err == nil {
		in.caller = a.Unmap()
	}
	c := &Clone{
		Instance: in.instance(reg.Instance),
		Template: reg.Template,
		Owner:    in.text("owner", reg.Owner),
		Labels:   in.pairs("labels", reg.Labels),
		Aliases:  in.aliases(reg.Aliases),
		State:    in.state(reg.State),
		Services: in.services(reg.Services),
		Hosts:    in.hosts(reg.Hosts),
		Records:  in.records(reg.Records),
		Forward:  in.forwards(reg.Forward),

		Production:   in.production(reg.Production, reg.Services),
		StripCookies: in.cookies(reg.StripCookies),

		TTL:     in.ttl(reg.Lease.TTL),
		Desired: WantReady,
	}
	if reg.Template != "" {
		if t := in.template(reg.Template); t != nil {
			c.DeployTag = t.DeployTag
		}
	}
	return c, in.faults.err()
}

func (in *reader) instance(s string) string {
	if s == "" || len(s) > 128 {
		in.faults.add("instance", "instance", "want a random string of 1 to 128 characters that this life of the clone chose for itself, for example the content of /proc/sys/kernel/random/boot_id")
		return ""
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			in.faults.add("instance", "instance", "character %q is not allowed; use visible ASCII characters without spaces", s[i])
			return ""
		}
	}
	return s
}

func (in *reader) text(field, s string) string {
	if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
		in.faults.add(field, "text", "want at most %d bytes of text without control characters", maxText)
		return ""
	}
	return s
}

// pairs reads labels, or the parameters of a template.
func (in *reader) pairs(field string, pairs map[string]string) map[string]string {
	if len(pairs) > maxLabels {
		in.faults.add(field, field, "%d %s; at most %d", len(pairs), field, maxLabels)
		return nil
	}
	for k, v := range pairs {
		if k == "" || strings.ContainsAny(k, "= ") {
			in.faults.add(field, field, "key %q is empty or holds a space or an equals sign", clip(k))
		}
		in.text(field+"."+clip(k), k)
		in.text(field+"."+clip(k), v)
	}
	return pairs
}

func (in *reader) aliases(aliases []string) []string {
	if len(aliases) > maxAliases {
		in.faults.add("aliases", "aliases", "%d aliases; at most %d", len(aliases), maxAliases)
		return nil
	}
	var out []string
	for i, a := range aliases {
		if _, err := ParseLabel(a); err != nil {
			in.faults.add(fmt.Sprintf("aliases[%d]", i), "label", "%v", err)
			continue
		}
		if why := reserved(a); why != "" {
			in.faults.add(fmt.Sprintf("aliases[%d]", i), "label-reserved", "%q %s", a, why)
			continue
		}
		if slices.Contains(out, a) {
			in.faults.add(fmt.Sprintf("aliases[%d]", i), "label-twice", "%q stands twice", a)
			continue
		}
		out = append(out, a)
	}
	return out
}

// reserved says why a label cannot be an alias, "" if it can.
func reserved(label string) string {
	_, member := cutMember(label)
	switch {
	case member > 0:
		return "would read as a member of a pool, as www-1234--1 does; choose a name that does not end in -- and a number"
	case label == reservedLabel:
		return "is the zone's own name server"
	case strings.Trim(label, "0123456789") == "":
		return "would read as a configuration ID, which a clone may be given one day; put a letter into it"
	}
	return ""
}

func (in *reader) state(s State) State {
	switch s {
	case "":
		return Ready
	case Starting, Ready:
		return s
	}
	in.faults.add("state", "state", "%q is not something a clone can say of itself; want starting or ready", clip(string(s)))
	return ""
}

func (in *reader) ttl(want Seconds) Seconds {
	most := Seconds(in.r.cfg.TTL / time.Second)
	if want != 0 && (want < min(minLease, most) || want > most) {
		in.faults.add("lease.ttl", "lease-ttl", "%d seconds; want %d to %d, or leave it out for %d", want, min(minLease, most), most, most)
	}
	return cmp.Or(want, most)
}

func (in *reader) services(services map[string]ServiceRegistration) map[string]*Service {
	if len(services) > maxServices {
		in.faults.add("services", "services", "%d services; at most %d", len(services), maxServices)
		return nil
	}
	out := make(map[string]*Service, len(services))
	defaults := 0
	for name, s := range services {
		field := "services." + clip(name)
		if _, err := ParseLabel(name); err != nil {
			in.faults.add(field, "label", "%v", err)
		}
		if s.Default {
			defaults++
		}
		out[name] = &Service{
			Endpoints: in.endpoints(field+".endpoints", s.Endpoints),
			Protocol:  in.protocol(field+".protocol", s.Protocol),
			Default:   s.Default,
			Sticky:    s.Sticky,
			TLS:       in.tls(field+".tls", s.TLS, s.Protocol),
			Health:    in.health(field+".health", s.Health),
		}
	}
	if defaults > 1 {
		in.faults.add("services", "default", "%d services are marked default; the clone's bare name can lead to one only", defaults)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (in *reader) protocol(field string, p Protocol) Protocol {
	switch p {
	case "":
		return HTTP
	case HTTP, HTTPS, H2C:
		return p
	}
	in.faults.add(field, "protocol", "%q is not known; want http, https or h2c", clip(string(p)))
	return ""
}

func (in *reader) tls(field string, t *TLS, p Protocol) *TLS {
	if t == nil {
		return nil
	}
	if p != HTTPS {
		in.faults.add(field, "tls", "the service does not speak https; set protocol to https, or leave tls out")
	}
	if err := t.Check(); err != nil {
		in.faults.add(field, "tls", "%v", err)
	}
	return t
}

func (in *reader) health(field string, h *HealthRegistration) *Health {
	if h == nil {
		return nil
	}
	if !strings.HasPrefix(h.Path, "/") || len(h.Path) > 1024 || strings.ContainsFunc(h.Path, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) {
		in.faults.add(field+".path", "health-path", "%q: want a path that begins with / in visible ASCII, without #", clip(h.Path))
	}
	out := &Health{Path: h.Path, Interval: cmp.Or(h.Interval, 10), Timeout: cmp.Or(h.Timeout, 2)}
	if out.Interval > 3600 || out.Timeout > 60 {
		in.faults.add(field, "health-times", "interval %d s and timeout %d s; at most 3600 and 60", out.Interval, out.Timeout)
	}
	return out
}

func (in *reader) endpoints(field string, eps []string) []netip.AddrPort {
	if len(eps) > maxEndpoints {
		in.faults.add(field, "endpoints", "%d endpoints; at most %d", len(eps), maxEndpoints)
		return nil
	}
	out := make([]netip.AddrPort, 0, len(eps))
	for i, s := range eps {
		at := fmt.Sprintf("%s[%d]", field, i)
		ep, err := in.endpoint(s)
		if err != nil {
			in.faults.add(at, "endpoint-spelling", "%q: want address:port, [IPv6]:port, or :port for the caller's own address; host names and other spellings of addresses are not taken", clip(s))
			continue
		}
		if err := in.r.cfg.Networks.Check(ep); err != nil {
			in.fault(at, err)
			continue
		}
		if slices.Contains(out, ep) {
			in.faults.add(at, "endpoint-twice", "%s stands twice", ep)
			continue
		}
		out = append(out, ep)
	}
	return out
}

// fault adds what Networks said of the address at field.
func (in *reader) fault(field string, err error) {
	fault := *err.(*FieldError)
	fault.Field = field
	in.faults = append(in.faults, &fault)
}

// endpoint reads "address:port", or ":port" on the caller's own address.
func (in *reader) endpoint(s string) (netip.AddrPort, error) {
	if !strings.HasPrefix(s, ":") || !in.caller.IsValid() {
		return netip.ParseAddrPort(s)
	}
	ep, err := netip.ParseAddrPort("0.0.0.0" + s)
	return netip.AddrPortFrom(in.caller, ep.Port()), err
}

func (in *reader) hosts(hosts map[string][]string) map[Host][]netip.Addr {
	if len(hosts) > maxHosts {
		in.faults.add("hosts", "hosts", "%d hosts; at most %d", len(hosts), maxHosts)
		return nil
	}
	var out map[Host][]netip.Addr
	for name, addrs := range hosts {
		field := "hosts." + clip(name)
		h, err := ParseHost(name)
		if err != nil {
			in.faults.add(field, "host", "%v", err)
			continue
		}
		if _, twice := out[h]; twice {
			in.faults.add(field, "host-twice", "host %s stands twice, in two spellings", h)
			continue
		}
		if len(addrs) > maxAddresses {
			in.faults.add(field, "host-addresses", "%d addresses; at most %d", len(addrs), maxAddresses)
			continue
		}
		if out == nil {
			out = map[Host][]netip.Addr{}
		}
		out[h] = in.addresses(field, addrs)
	}
	return out
}

func (in *reader) addresses(field string, addrs []string) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for i, s := range addrs {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			in.faults.add(fmt.Sprintf("%s[%d]", field, i), "host-address", "%q is not a plain IPv4 or IPv6 address", clip(s))
			continue
		}
		out = append(out, a)
	}
	return out
}

func (in *reader) records(records []Record) []Record {
	if len(records) > maxRecords {
		in.faults.add("records", "records", "%d records; at most %d", len(records), maxRecords)
		return nil
	}
	out := slices.Clone(records)
	for i := range out {
		rec, field := &out[i], fmt.Sprintf("records[%d]", i)
		rec.Type = strings.ToUpper(rec.Type)
		if rec.TTL == 0 {
			rec.TTL = 5
		}
		if rec.Name == "" || len(rec.Name) > MaxHostLen || rec.Type == "" || len(rec.Type) > 16 || len(rec.Data) > maxRecord || rec.TTL > maxRecordTTL {
			in.faults.add(field, "record", "want a name of 1 to %d octets, a type, at most %d octets of data and a ttl of at most %d seconds", MaxHostLen, maxRecord, maxRecordTTL)
			continue
		}
		if check := in.r.cfg.CheckRecord; check != nil {
			if err := check(*rec); err != nil {
				in.faults.add(field, "record", "%v", err)
			}
		}
	}
	return out
}

func (in *reader) forwards(forwards []ForwardRegistration) []Forward {
	if len(forwards) > maxForwards {
		in.faults.add("forward", "forward", "%d rules; at most %d", len(forwards), maxForwards)
		return nil
	}
	var out []Forward
	for i, f := range forwards {
		field := fmt.Sprintf("forward[%d]", i)
		zone, err := ParseHost(f.Zone)
		if err != nil {
			in.faults.add(field+".zone", "host", "%v", err)
		}
		if len(f.Servers) == 0 || len(f.Servers) > 8 {
			in.faults.add(field+".servers", "forward-servers", "want 1 to 8 servers, got %d", len(f.Servers))
		}
		rule := Forward{Zone: zone}
		for j, s := range f.Servers {
			ap, err := parseServer(s)
			if err != nil {
				in.faults.add(fmt.Sprintf("%s.servers[%d]", field, j), "forward-server", "%q: want address or address:port", clip(s))
				continue
			}
			if err := in.r.cfg.Networks.CheckTarget(ap); err != nil {
				in.fault(fmt.Sprintf("%s.servers[%d]", field, j), err)
				continue
			}
			rule.Servers = append(rule.Servers, ap)
		}
		out = append(out, rule)
	}
	return out
}

// parseServer reads the address of a DNS server, whose port is 53 unless given.
func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(s)
}

// template returns the published version that ref names exactly.
func (in *reader) template(ref string) *Template {
	name, version, err := SplitRef(ref)
	if err != nil {
		in.faults.add("template", "template", "%v", err)
		return nil
	}
	if t, ok := in.r.view.Template(name, version); ok {
		return t
	}
	in.faults.add("template", "template-unknown", "%q is not a published version%s; publish it first, or leave template out", clip(ref), in.r.view.knownVersions(name))
	return nil
}
