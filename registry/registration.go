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

// fault adds what Networks said of the address at field.
func (in *reader) fault(field string, err error) {
	fault := *err.(*FieldError)
	fault.Field = field
	in.faults = append(in.faults, &fault)
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
