package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/registry"
)

// CAConfig is what a CA needs. Dir, Zones and Names are required.
type CAConfig struct {
	// Dir is where ca.pem and ca.key are kept. It must exist, and no other
	// process may use it.
	Dir string

	// Zones are the domains that the root may sign for.
	Zones *registry.Zones

	// Names says what a leaf for sub must hold. sub is what stands before the
	// zone in a server name, as a client sent it but in lower case: anything
	// at all. The names returned also stand before the zone and may be
	// wildcards: "www-1234", "www.1234", "*.1234". All of a clone's names
	// belong in one leaf; key names that leaf, and changes when the names do.
	// An empty key says that nobody is registered under sub. Names is called
	// in every handshake, by many at once, and must not block.
	Names func(sub string) (key string, names []string)

	// Lifetime is how long a leaf is valid. Zero means 7 days. It is replaced
	// when two thirds have passed.
	Lifetime time.Duration

	// Leaves bounds how many leaves are remembered. Zero means 10,000.
	Leaves int

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil means time.Now
}

// A CA is an authority of our own, bound to the zones by critical name
// constraints. It signs a leaf in the first handshake that names a registered
// clone (0.15 ms) and remembers it. A leaf holds the zones' wildcards and
// every exact name of the clone, because OpenSSL's own matcher refuses a
// wildcard below a label with an underscore. Everybody else is shown the base
// leaf, for the zones and their wildcards: a scanner makes us sign nothing.
type CA struct {
	authority *authority
	zones     *registry.Zones
	names     func(string) (string, []string)
	lifetime  time.Duration
	now       func() time.Time
	log       *slog.Logger
	metrics   *caMetrics

	base   *slot
	leaves *lru.Cache[string, *slot]
}

// NewCA loads the root in cfg.Dir, or makes it at first start. A root that
// cannot serve the zones is refused with an error that names the files and
// the way out.
func NewCA(cfg CAConfig) (*CA, error) {
	switch {
	case cfg.Dir == "" || cfg.Zones == nil || cfg.Names == nil:
		return nil, errors.New("internal CA: Dir, Zones and Names are required")
	case cfg.Lifetime < 0 || cfg.Leaves < 0:
		return nil, fmt.Errorf("internal CA: lifetime %s, leaves %d: want more than nothing", cfg.Lifetime, cfg.Leaves)
	}
	ca := &CA{
		zones:    cfg.Zones,
		names:    cfg.Names,
		lifetime: cfg.Lifetime,
		now:      cfg.Now,
		log:      cfg.Log,
	}
	if ca.lifetime == 0 {
		ca.lifetime = 7 * 24 * time.Hour
	}
	if ca.now == nil {
		ca.now = time.Now
	}
	if ca.log == nil {
		ca.log = slog.New(slog.DiscardHandler)
	}
	size := cfg.Leaves
	if size == 0 {
		size = 10_000
	}
	var err error
	if ca.leaves, err = lru.New[string, *slot](size); err != nil {
		return nil, fmt.Errorf("internal CA: %w", err)
	}
	ca.base = &slot{names: ca.baseNames()}
	ca.authority, err = caStore{cfg.Dir, cfg.Zones.Hosts(), ca.now(), ca.log}.open()
	if err != nil {
		return nil, err
	}
	if ca.metrics, err = newCAMetrics(cfg.Metrics, ca); err != nil {
		return nil, err
	}
	return ca, nil
}

// RootPEM returns the root's certificate, for those who shall trust it.
func (ca *CA) RootPEM() []byte { return certPEM(ca.authority.root) }

// GetCertificate returns the leaf for the name that a client asks for:
//
//  1. that of the clone registered under the name
//  2. the base leaf: for any other name, none, or one outside the zones
//
// It is meant for tls.Config and takes whatever a client may send.
func (ca *CA) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	sub := ca.sub(hello.ServerName)
	if sub == "" {
		return ca.base.certificate(ca)
	}
	key, names := ca.names(sub)
	if key == "" {
		return ca.base.certificate(ca)
	}
	s, ok := ca.leaves.Get(key)
	if !ok {
		s = ca.remember(key, names)
	}
	return s.certificate(ca)
}

// Forget lets go of the leaf of a key, because nobody will ask for it soon. It is
// signed anew for whoever does.
func (ca *CA) Forget(key string) { ca.leaves.Remove(key) }

// maxName is how long a name in DNS can be, in text (RFC 1035 section 2.3.4).
const maxName = 253

// sub returns what stands before the zone, or "" if there is nothing or the
// name is not in a zone.
func (ca *CA) sub(serverName string) string {
	if len(serverName) > maxName {
		return ""
	}
	sub, _, _ := ca.zones.Split(strings.ToLower(serverName))
	return sub
}

// remember makes a place for the leaf of a clone, unless another handshake
// has just done so.
func (ca *CA) remember(key string, subs []string) *slot {
	s := &slot{names: ca.cloneNames(subs)}
	earlier, found, evicted := ca.leaves.PeekOrAdd(key, s)
	if evicted {
		ca.metrics.evicted.Inc()
	}
	if found {
		return earlier
	}
	return s
}

// baseNames returns the zones and their wildcards.
func (ca *CA) baseNames() []string {
	var names []string
	for _, z := range ca.zones.Hosts() {
		names = append(names, string(z), "*."+string(z))
	}
	return names
}

// cloneNames returns the names of a clone in every zone, and the zones'
// wildcards behind them. A name too long for DNS, as a nested one in a long
// zone can be, is left out: nobody can look it up.
func (ca *CA) cloneNames(subs []string) []string {
	var names []string
	for _, z := range ca.zones.Hosts() {
		for _, sub := range subs {
			if name := sub + "." + string(z); len(name) <= maxName {
				names = append(names, name)
			}
		}
		names = append(names, "*."+string(z))
	}
	return names
}

// ServerCertificate returns a GetCertificate for a server of our own beside
// the gateway, such as the API, under fixed names and addresses. The root's
// constraints hold for it too: names must lie in the zones, addresses in
// private networks or on loopback. For any other the operator needs certificate files.
func (ca *CA) ServerCertificate(names []string, addrs []netip.Addr) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	if len(names)+len(addrs) == 0 {
		return nil, errors.New("internal CA: a server's certificate needs a name or an address")
	}
	s := new(slot)
	for _, name := range names {
		host, err := registry.ParseHost(name)
		if err != nil {
			return nil, fmt.Errorf("internal CA: %w", err)
		}
		if _, _, ok := ca.zones.Split(string(host)); !ok {
			return nil, fmt.Errorf("internal CA: it may sign for names in %v only, not for %s: reach the server by its address, or give it certificate files", ca.zones.Hosts(), host)
		}
		s.names = append(s.names, string(host))
	}
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if !permitsAddr(ca.authority.signer.PermittedIPRanges, a) {
			return nil, fmt.Errorf("internal CA: it may sign for private addresses only, not for %s: give the server certificate files", a)
		}
		s.ips = append(s.ips, net.IP(a.AsSlice()))
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate(ca) }, nil
}
