package api

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/registry"
)

// A guard refuses what a browser was tricked into sending: requests by another
// name than ours (DNS rebinding) and requests that another page made.
type guard struct {
	names []registry.Host
	addrs []netip.Addr
}

// newGuard returns a guard for the given names and addresses beside loopback
// and the address that was connected to.
func newGuard(hosts []string, zones *registry.Zones) (*guard, error) {
	g := &guard{}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			g.addrs = append(g.addrs, a.Unmap())
			continue
		}
		name, err := registry.ParseHost(h)
		if err != nil {
			return nil, fmt.Errorf("API host: %w", err)
		}
		if _, zone, in := zones.Split(string(name)); in {
			return nil, fmt.Errorf("API host %s lies in zone %s: clones' pages would be same-site with the API; name it outside", name, zone)
		}
		g.names = append(g.names, name)
	}
	return g, nil
}

func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := g.check(r); p != nil {
			p.write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (g *guard) check(r *http.Request) *Problem {
	if !g.knows(r) {
		return Refusal(http.StatusMisdirectedRequest, "host", "the API does not answer as %q; use localhost, its address, or add the name to api.hosts", clip(r.Host))
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin":
	default:
		return Refusal(http.StatusForbidden, "cross-site", "a browser sent this for another page (Sec-Fetch-Site: %s); the API answers to no page", clip(site))
	}
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		own := "http://" + r.Host
		if r.TLS != nil {
			own = "https://" + r.Host
		}
		if len(origins) > 1 || origins[0] != own {
			return Refusal(http.StatusForbidden, "cross-site", "a browser sent this for the page %q; the API answers to no other page", clip(origins[0]))
		}
	}
	return nil
}

// knows reports whether the request's Host is a name of ours. An address that
// was connected to is: no DNS answer can make a page of it.
func (g *guard) knows(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		a = a.Unmap()
		return a.IsLoopback() || slices.Contains(g.addrs, a) || a == localAddr(r)
	}
	name, err := registry.ParseHost(host)
	return err == nil && (name == "localhost" || slices.Contains(g.names, name))
}

func localAddr(r *http.Request) netip.Addr {
	if l, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if ap, err := netip.ParseAddrPort(l.String()); err == nil {
			return ap.Addr().Unmap()
		}
	}
	return netip.Addr{}
}
