// Package config reads the daemon's one configuration file.
//
// Every key is described, with its default and unit, in reference.yaml, which
// is also where the defaults come from. Values are taken from that file, then
// from the operator's file, then from CLONEGATE_* environment variables, then
// from --set flags; whatever is wrong is reported with its place, all at once.
package config

import (
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// Config is what an operator can say about a gateway. See reference.yaml for
// the meaning of every key.
type Config struct {
	Zone         registry.Host   `yaml:"zone"`
	ZoneAliases  []registry.Host `yaml:"zone_aliases"`
	Data         string          `yaml:"data"`
	Gateway      Gateway         `yaml:"gateway"`
	API          API             `yaml:"api"`
	Certificates Certificates    `yaml:"certificates"`
	DNS          DNS             `yaml:"dns"`
	Endpoints    Endpoints       `yaml:"endpoints"`
	Leases       Leases          `yaml:"leases"`
	Providers    Providers       `yaml:"providers"`
	Traces       Traces          `yaml:"traces"`
	Log          Log             `yaml:"log"`
}

// Gateway is what carries the traffic of clones.
type Gateway struct {
	Listen       Listen         `yaml:"listen"`
	Redirect     Listen         `yaml:"redirect"`
	PublicPort   uint16         `yaml:"public_port"` // 0: the port of Listen
	Addresses    []netip.Addr   `yaml:"addresses"`   // empty: derived from Listen
	TrustedPeers []netip.Prefix `yaml:"trusted_peers"`
	ProxyPeers   []netip.Prefix `yaml:"proxy_protocol"`
	AccessLog    Share          `yaml:"access_log"`
	Drain        time.Duration  `yaml:"drain"`
	Limits       Limits         `yaml:"limits"`
}

// Limits bound what one client, one connection and one clone can take.
type Limits struct {
	RequestsPerClone     int           `yaml:"requests_per_clone"`
	WebSocketsPerClone   int           `yaml:"websockets_per_clone"`
	StreamsPerConnection int           `yaml:"streams_per_connection"`
	ConnectionsPerSource int           `yaml:"connections_per_source"`
	HeadBytes            int           `yaml:"head_bytes"`
	ConnsPerEndpoint     int           `yaml:"connections_per_endpoint"`
	QueuePerEndpoint     int           `yaml:"queue_per_endpoint"`
	IdlePerEndpoint      int           `yaml:"idle_per_endpoint"`
	IdleConnections      int           `yaml:"idle_connections"`
	FailuresLogged       int           `yaml:"failures_logged"`
	RecordedPerClone     int           `yaml:"recorded_per_clone"`
	RecordedBytes        int           `yaml:"recorded_bytes"`
	Head                 time.Duration `yaml:"head"`
	Idle                 time.Duration `yaml:"idle"`
	Stall                time.Duration `yaml:"stall"`
	Dial                 time.Duration `yaml:"dial"`
	Queue                time.Duration `yaml:"queue"`
	Response             time.Duration `yaml:"response"`
	UpstreamIdle         time.Duration `yaml:"upstream_idle"`
	WebSocketIdle        time.Duration `yaml:"websocket_idle"`
}

// API is where startup scripts, pipelines and the command line call.
type API struct {
	Listen Listen          `yaml:"listen"`
	Hosts  []registry.Host `yaml:"hosts"`
}

// Certificates says where certificates come from.
type Certificates struct {
	Files []CertificateFile `yaml:"files"` // empty: the internal CA
	ACME  ACME              `yaml:"acme"`
}

// ACME is a certificate authority that issues certificates by itself.
type ACME struct {
	Directory string  `yaml:"directory"` // empty: none
	Root      string  `yaml:"root"`
	Email     string  `yaml:"email"`
	Nested    bool    `yaml:"nested"`
	Account   Account `yaml:"account"`
}

// Account is one that the operator has with the authority already.
type Account struct {
	KeyID   string `yaml:"key_id"`
	KeyFile string `yaml:"key_file"`
}

// A CertificateFile is a certificate chain and its key, both PEM.
type CertificateFile struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// DNS is the names of clones as the world and as clones see them.
type DNS struct {
	Listen      Listen       `yaml:"listen"`
	Nameservers []netip.Addr `yaml:"nameservers"` // of "ns.<zone>"; empty: derived from Listen
	RateLimit   RateLimit    `yaml:"rate_limit"`
	Secondaries []Secondary  `yaml:"secondaries"`
	Resolvers   []Resolver   `yaml:"resolvers"`
}

// RateLimit bounds the answers that one network gets by UDP.
type RateLimit struct {
	PerSecond int            `yaml:"per_second"`
	Slip      Share          `yaml:"slip"`   // of the answers beyond, those sent truncated
	Exempt    []netip.Prefix `yaml:"exempt"` // empty: loopback, link-local and private networks
}

// A Secondary is a name server that may hold a copy of the zone.
type Secondary struct {
	Clients []netip.Prefix   `yaml:"clients"`
	Notify  []netip.AddrPort `yaml:"notify"`
	KeyFile string           `yaml:"key_file"` // holds the key that signs all that; empty: nobody signs
}

// A Resolver answers the questions of the hosts inside one clone, or of
// everybody who wants the names of all clones.
type Resolver struct {
	Listen    Listen           `yaml:"listen"`
	Netns     string           `yaml:"netns"` // the network namespace it listens in; with {id}, one for each clone
	Clone     registry.ID      `yaml:"clone"`
	View      string           `yaml:"view"`
	Upstreams []netip.AddrPort `yaml:"upstreams"` // empty: those of /etc/resolv.conf
	Clients   []netip.Prefix   `yaml:"clients"`   // empty: loopback, link-local and private networks

	RefusePrivate bool            `yaml:"refuse_private"` // private addresses in answers of upstreams
	PrivateIn     []registry.Host `yaml:"private_in"`     // domains that may have them all the same
}

// ForEachClone reports whether the resolver stands for one in the network
// namespace of every clone.
func (r Resolver) ForEachClone() bool { return strings.Contains(r.Netns, "{id}") }

// Endpoints says where clones may be.
type Endpoints struct {
	Allow []netip.Prefix `yaml:"allow"` // empty: the private networks
}

// Leases says how long a registration lives without a word.
type Leases struct {
	TTL        time.Duration `yaml:"ttl"`
	RenewEvery time.Duration `yaml:"renew_every"`
	Sweep      time.Duration `yaml:"sweep"`
}

// Providers is what makes clones.
type Providers struct {
	Process Process `yaml:"process"`
}

// Process is the provider that runs clones as processes of this machine.
type Process struct {
	Network netip.Prefix `yaml:"network"`
}

// Traces is where spans of requests go.
type Traces struct {
	Endpoint string `yaml:"endpoint"` // empty: nowhere
	Begin    Share  `yaml:"begin"`
}

// Log is what the daemon says about itself, on its standard error.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format LogFormat  `yaml:"format"`
}
