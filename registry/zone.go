package registry

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
)

// Zones are the domains under which clones have public names. The first is
// the zone; the others are aliases that answer alike. Zones are immutable but
// for the port that public URLs show, which is known only once the gateway
// listens.
type Zones struct {
	hosts []Host
	port  atomic.Uint32
}

// NewZones returns zones for the given domain and its aliases.
func NewZones(zone string, aliases ...string) (*Zones, error) {
	z := new(Zones)
	for _, s := range append([]string{zone}, aliases...) {
		h, err := ParseHost(s)
		if err != nil {
			return nil, fmt.Errorf("zone: %w", err)
		}
		for _, have := range z.hosts {
			if have == h || strings.HasSuffix(string(h), "."+string(have)) || strings.HasSuffix(string(have), "."+string(h)) {
				return nil, fmt.Errorf("zone %s and zone %s overlap: a name could belong to both", have, h)
			}
		}
		z.hosts = append(z.hosts, h)
	}
	if len(z.hosts) > 8 {
		return nil, errors.New("zone: at most 7 aliases")
	}
	return z, nil
}

// Hosts returns the zone followed by its aliases. The caller must not change it.
func (z *Zones) Hosts() []Host { return z.hosts }

// Zone returns the first zone, under which URLs are made.
func (z *Zones) Zone() Host { return z.hosts[0] }

// SetPort sets the port that public URLs show; 443 and 0 are not shown.
func (z *Zones) SetPort(port uint16) { z.port.Store(uint32(port)) }

// URL returns the public URL for a label, as in
// "https://www-1234.test_envs.internal.example.com".
func (z *Zones) URL(label string) string {
	host := label + "." + string(z.hosts[0])
	if p := z.port.Load(); p != 0 && p != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(int(p)))
	}
	return "https://" + host
}

// Split returns what stands before the zone in host, and the zone: "www-1234"
// for "www-1234.zone", "" for the zone itself. host must be in lower case and
// carry neither port nor trailing dot. ok is false outside every zone.
func (z *Zones) Split(host string) (sub string, zone Host, ok bool) {
	for _, h := range z.hosts {
		if rest, found := strings.CutSuffix(host, string(h)); found {
			if rest == "" {
				return "", h, true
			}
			if rest[len(rest)-1] == '.' {
				return rest[:len(rest)-1], h, true
			}
		}
	}
	return "", "", false
}
