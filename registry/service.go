package registry

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

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

// endpoint reads "address:port", or ":port" on the caller's own address.
func (in *reader) endpoint(s string) (netip.AddrPort, error) {
	if !strings.HasPrefix(s, ":") || !in.caller.IsValid() {
		return netip.ParseAddrPort(s)
	}
	ep, err := netip.ParseAddrPort("0.0.0.0" + s)
	return netip.AddrPortFrom(in.caller, ep.Port()), err
}
