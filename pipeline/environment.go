package pipeline

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
)

// A plan is everything about one clone's life that its processes are told.
type plan struct {
	clone    *registry.Clone
	manifest *manifest.Manifest
	params   map[string]string
	site     *Site
	zones    *registry.Zones
}

// environment returns what every process of the clone is told; host is its
// host, or manifest.StartupName.
func (p *plan) environment(host string) map[string]string {
	env := map[string]string{
		"CLONEGATE_ID":         string(p.clone.ID),
		"CLONEGATE_INSTANCE":   p.site.Instance,
		"CLONEGATE_HOST":       host,
		"CLONEGATE_TEMPLATE":   p.clone.Template,
		"CLONEGATE_DEPLOY_TAG": p.clone.DeployTag,
		"CLONEGATE_OWNER":      p.clone.Owner,
		"CLONEGATE_DIR":        p.site.Dir,
	}
	if addr, ok := p.site.Addresses[host]; ok {
		env["CLONEGATE_ADDRESS"] = addr.String()
	}
	for name, addr := range p.site.Addresses {
		env["CLONEGATE_ADDRESS_"+upper(name)] = addr.String()
	}
	for name := range p.manifest.Services {
		env["CLONEGATE_URL_"+upper(name)] = p.zones.URL(name + "-" + string(p.clone.ID))
	}
	for name, value := range p.params {
		env["CLONEGATE_PARAM_"+upper(name)] = value
	}
	maps.Copy(env, p.manifest.Hosts[host].Env)
	return env
}

// upper spells a label as part of a variable's name.
func upper(label string) string {
	return strings.ToUpper(strings.ReplaceAll(label, "-", "_"))
}

// registration returns what the manifest says the clone serves.
func (p *plan) registration() registry.Registration {
	reg := registry.Registration{
		Instance: p.site.Instance,
		Records:  p.manifest.Records,
		Services: map[string]registry.ServiceRegistration{},
		Hosts:    map[string][]string{},

		Production:   p.manifest.Production,
		StripCookies: p.manifest.StripCookies,
	}
	for name, addr := range p.site.Addresses {
		reg.Hosts[name] = []string{addr.String()}
	}
	for name, s := range p.manifest.Services {
		r := registry.ServiceRegistration{Protocol: s.Protocol, Default: s.Default, Sticky: s.Sticky, TLS: s.TLS}
		for _, host := range s.Hosts {
			r.Endpoints = append(r.Endpoints, netip.AddrPortFrom(p.site.Addresses[host], s.Port).String())
		}
		if h := s.Health; h != nil {
			r.Health = &registry.HealthRegistration{Path: h.Path, Interval: h.Interval, Timeout: h.Timeout}
		}
		reg.Services[name] = r
	}
	for _, f := range p.manifest.Forward {
		reg.Forward = append(reg.Forward, registry.ForwardRegistration{Zone: f.Zone, Servers: f.Servers})
	}
	return reg
}

// order returns what the provider has to know to prepare a clone, all but the
// content.
func order(id registry.ID, instance string, m *manifest.Manifest) Order {
	o := Order{ID: id, Instance: instance, Data: m.Data, Hosts: map[string]OrderedHost{}}
	for name, h := range m.Hosts {
		host := OrderedHost{Address: h.Address}
		if h.Ready != nil {
			port, _ := h.Ready.Target()
			host.Ports = append(host.Ports, port)
		}
		for _, s := range m.Services {
			if slices.Contains(s.Hosts, name) && !slices.Contains(host.Ports, s.Port) {
				host.Ports = append(host.Ports, s.Port)
			}
		}
		o.Hosts[name] = host
	}
	return o
}
