package registry

import (
	"net/netip"
	"slices"
	"time"
)

// A Clone is one record of the registry: a running copy of a template
// version, or what is left of one. A *Clone obtained from a View or a Registry
// is shared and must not be changed.
type Clone struct {
	ID          ID                    `json:"id"`
	Incarnation uint64                `json:"incarnation"` // counts the lives of this ID, from 1
	Revision    uint64                `json:"revision"`    // of the change that made this value
	Instance    string                `json:"instance,omitempty"`
	Past        []string              `json:"past,omitempty"` // instances of earlier lives, newest first
	Provider    string                `json:"provider,omitempty"`
	Template    string                `json:"template,omitempty"` // "shop@2026.11.21-1"
	DeployTag   string                `json:"deploy_tag,omitempty"`
	Owner       string                `json:"owner,omitempty"`
	Labels      map[string]string     `json:"labels,omitempty"` // free metadata to filter by
	Aliases     []string              `json:"aliases,omitempty"`
	Params      map[string]string     `json:"params,omitempty"`
	State       State                 `json:"state"`
	Desired     Desired               `json:"desired"`
	Reason      string                `json:"reason,omitempty"` // why State is what it is, for people
	Services    map[string]*Service   `json:"services,omitempty"`
	Hosts       map[Host][]netip.Addr `json:"hosts,omitempty"`
	Records     []Record              `json:"records,omitempty"`
	Forward     []Forward             `json:"forward,omitempty"`
	Faults      []*Fault              `json:"faults,omitempty"` // on purpose, of this life; see FaultsAt

	// Production says which service stands for which name of production:
	// "www.example.com" or, for every name below it, "*.example.com".
	Production   map[string]string `json:"production,omitempty"`
	StripCookies []string          `json:"strip_cookies,omitempty"` // of production, never sent to the clone

	TTL     Seconds   `json:"ttl"` // of the lease; 0 if a provider vouches for the clone
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	Since   time.Time `json:"since"`              // when it got its state
	Ended   time.Time `json:"ended,omitzero"`     // when it became lost, gone or failed
	EndedBy string    `json:"ended_by,omitempty"` // who ended it, for the 410 page
}

// A Service is something a clone serves under "service-id.zone".
type Service struct {
	Endpoints []netip.AddrPort `json:"endpoints,omitempty"`
	Protocol  Protocol         `json:"protocol"`
	Default   bool             `json:"default,omitempty"` // also serves "id.zone"
	Sticky    bool             `json:"sticky,omitempty"`  // a browser stays with its endpoint, by a cookie
	TLS       *TLS             `json:"tls,omitempty"`     // of https; nil: without verification
	Health    *Health          `json:"health,omitempty"`  // nil: endpoints are judged by traffic alone
}

// A Protocol is how the gateway speaks to the endpoints of a service.
type Protocol string

// The protocols a service can speak.
const (
	HTTP  Protocol = "http"
	HTTPS Protocol = "https" // Service.TLS says what certificates must be like
	H2C   Protocol = "h2c"   // HTTP/2 without TLS, as gRPC servers speak
)

// Health says how the gateway probes an endpoint.
type Health struct {
	Path     string  `json:"path"`
	Interval Seconds `json:"interval"`
	Timeout  Seconds `json:"timeout"`
}

// Seconds is a whole number of seconds, as the API writes durations.
type Seconds uint32

// Duration returns s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// A Record is an extra DNS record of a clone, in zone file presentation.
type Record struct {
	Name string  `json:"name"` // relative to the clone: "_sip._tcp" stands for "_sip._tcp.1234.zone"
	Type string  `json:"type"` // "TXT", "SRV", …
	TTL  Seconds `json:"ttl,omitempty" doc:"Seconds. Default 5."`
	Data string  `json:"data"`
}

// Forward sends the questions of one clone's resolver under Zone to Servers.
type Forward struct {
	Zone    Host             `json:"zone"`
	Servers []netip.AddrPort `json:"servers"`
}

// DefaultService returns the name of the service behind "id.zone": the one
// marked default, or the only one. It is "" if there is none.
func (c *Clone) DefaultService() string {
	for name, s := range c.Services {
		if s.Default || len(c.Services) == 1 {
			return name
		}
	}
	return ""
}

// PublicLabels returns every first label that is this clone's: its ID and
// aliases, alone and behind each service name, sorted.
func (c *Clone) PublicLabels() []string {
	var labels []string
	for _, base := range append([]string{string(c.ID)}, c.Aliases...) {
		labels = append(labels, base)
		for service := range c.Services {
			labels = append(labels, service+"-"+base)
		}
	}
	slices.Sort(labels)
	return slices.Compact(labels)
}

// clone returns a copy whose top level may be changed; what it points to is
// shared and must be replaced, never changed.
func (c *Clone) clone() *Clone {
	d := *c
	return &d
}

// tombstone returns what is kept of a clone that is gone: enough to say who
// ended what when, under each of its names, and to fence late messages.
func (c *Clone) tombstone() *Clone {
	var services map[string]*Service
	if len(c.Services) > 0 {
		services = make(map[string]*Service, len(c.Services))
		for name, s := range c.Services {
			services[name] = &Service{Protocol: s.Protocol, Default: s.Default}
		}
	}
	return &Clone{
		Services: services,
		ID:       c.ID, Incarnation: c.Incarnation, Revision: c.Revision,
		Instance: c.Instance, Past: c.Past, Provider: c.Provider,
		Template: c.Template, DeployTag: c.DeployTag, Owner: c.Owner,
		Labels: c.Labels, Aliases: c.Aliases, State: c.State,
		Desired: c.Desired, Reason: c.Reason,
		Created: c.Created, Changed: c.Changed, Since: c.Since, Ended: c.Ended, EndedBy: c.EndedBy,
	}
}
