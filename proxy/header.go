package proxy

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/registry"
)

// headerPolicy is everything the gateway does to headers on their way, for
// ordinary requests and for upgrades alike.
type headerPolicy struct {
	trusted []netip.Prefix // peers whose forwarding headers are believed
	gateway string         // names this gateway in hop headers
}

// A sender is what the gateway itself knows about a request.
type sender struct {
	peer    netip.Addr // the other end of the connection
	host    string     // the authority as the client wrote it
	proto   string     // "https"
	request string     // the request's ID
	target  target
}

const (
	hopHeader = "Clonegate-Hop"
	maxHops   = 8
)

// hopByHop lists headers that belong to one connection (RFC 9110 §7.6.1 and
// those of RFC 2616 §13.5.1 that are still seen).
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate",
	"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Http2-Settings",
}

// request returns the headers a clone receives for a request with the headers
// in, which it does not change. Upgrade is never among them; who tunnels adds
// it. looped reports that the request has passed this gateway on its way to
// the same service before.
func (p *headerPolicy) request(in http.Header, s sender) (out http.Header, looped bool) {
	trusted := p.trusts(s.peer)
	out = make(http.Header, len(in)+8)
	for name, values := range in {
		if p.forwards(name, trusted) {
			out[name] = slices.Clone(values)
		}
	}
	removeHopByHop(out, in["Connection"])
	if hasToken(in["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}

	p.setForwarding(out, s)
	out["Clonegate-Clone"] = []string{string(s.target.clone.ID)}
	if s.target.clone.Template != "" {
		out["Clonegate-Template"] = []string{s.target.clone.Template}
	}
	setTrace(out, s.request)

	hops := splitList(in[hopHeader])
	hop := p.gateway + "." + s.target.service + "-" + string(s.target.clone.ID)
	looped = slices.Contains(hops, hop) || len(hops) >= maxHops
	out[hopHeader] = []string{strings.Join(append(hops, hop), ", ")}
	return out, looped
}

// response removes from a clone's answer what concerns only the connection to
// the clone, and what only the gateway may say. It changes h.
func (p *headerPolicy) response(h http.Header) {
	removeHopByHop(h, h["Connection"])
	maps.DeleteFunc(h, func(name string, _ []string) bool {
		return strings.HasPrefix(foldName(name), "clonegate-")
	})
}

// forwards reports whether a client's header goes on to the clone. The names
// the gateway sets itself do not, nor does anything an application could
// mistake for them: CGI and its heirs read "X_Forwarded_For" and
// "X.Forwarded.For" as "X-Forwarded-For". All other names do, underscores
// included. A trusted peer may send the forwarding headers in their own
// spelling.
func (p *headerPolicy) forwards(name string, trusted bool) bool {
	folded := foldName(name)
	switch {
	case strings.HasPrefix(folded, "clonegate-"):
		return false
	case folded == "traceparent", folded == "tracestate":
		return strings.ToLower(name) == folded
	case isForwarding(folded):
		return trusted && strings.ToLower(name) == folded
	}
	return true
}

// isForwarding reports whether a folded name tells where a request came from
// or where it really goes.
func isForwarding(folded string) bool {
	switch folded {
	case "forwarded", "x-real-ip", "x-original-url", "x-rewrite-url", "proxy":
		return true
	}
	return strings.HasPrefix(folded, "x-forwarded-")
}

// foldName returns the name under which lenient applications would find a
// header: in lower case, every punctuation mark a hyphen.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		}
		return '-'
	}, name)
}

// setForwarding says who sent the request. What is left of these headers in h
// came from a trusted peer and is kept in front.
func (p *headerPolicy) setForwarding(h http.Header, s sender) {
	peer := s.peer.Unmap().WithZone("")
	chain := append(splitList(h["X-Forwarded-For"]), peer.String())
	h["X-Forwarded-For"] = []string{strings.Join(chain, ", ")}

	node := peer.String()
	if peer.Is6() {
		node = `"[` + node + `]"`
	}
	element := fmt.Sprintf("for=%s;host=%q;proto=%s", node, s.host, s.proto)
	h["Forwarded"] = []string{strings.Join(append(slices.Clone(h["Forwarded"]), element), ", ")}

	setDefault(h, "X-Forwarded-Host", s.host)
	setDefault(h, "X-Forwarded-Proto", s.proto)
	setDefault(h, "X-Real-Ip", p.client(chain))
}

// client returns the address the request was first sent from: the last in the
// chain that no trusted peer has.
func (p *headerPolicy) client(chain []string) string {
	for i := len(chain) - 1; i > 0; i-- {
		addr, err := netip.ParseAddr(chain[i])
		if err != nil || !p.trusts(addr) {
			return chain[i]
		}
	}
	return chain[0]
}

func (p *headerPolicy) trusts(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(p.trusted, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// setDefault sets a header to one value unless it has exactly one.
func setDefault(h http.Header, name, value string) {
	if len(h[name]) != 1 {
		h[name] = []string{value}
	}
}

// removeHopByHop removes the headers of one connection from h, and those that
// its Connection header nominates. The names the gateway sets cannot be
// nominated away (CVE-2024-45410).
func removeHopByHop(h http.Header, connection []string) {
	for _, nominated := range splitList(connection) {
		folded := foldName(nominated)
		if !isForwarding(folded) && !strings.HasPrefix(folded, "clonegate-") && folded != "traceparent" {
			h.Del(nominated)
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// upgradeTo returns the one protocol that a request asks to switch to, in lower
// case, or "".
func upgradeTo(h http.Header) string {
	if protocols := splitList(h["Upgrade"]); len(protocols) == 1 && hasToken(h["Connection"], "upgrade") {
		return strings.ToLower(protocols[0])
	}
	return ""
}

// hasToken reports whether a list header holds a token, in any case.
func hasToken(values []string, token string) bool {
	return slices.ContainsFunc(splitList(values), func(s string) bool {
		return strings.EqualFold(s, token)
	})
}

// splitList returns the elements of a list header (RFC 9110 §5.6.1) without
// the empty ones.
func splitList(values []string) []string {
	var out []string
	for _, v := range values {
		for s := range strings.SplitSeq(v, ",") {
			if s = strings.Trim(s, " \t"); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// publicHost returns the host by which a service of a clone is asked for when
// nobody asked: by health checks.
func publicHost(z *registry.Zones, id registry.ID, service string) string {
	return service + "-" + string(id) + "." + string(z.Zone())
}
