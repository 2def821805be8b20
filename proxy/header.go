package proxy

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// headerPolicy is everything the gateway does to fields on their way, whatever
// HTTP either side speaks, for ordinary requests and for upgrades alike. It works
// on sections: what passes is copied as it came, line by line.
type headerPolicy struct {
	trusted []netip.Prefix // peers whose forwarding fields are believed
	gateway string         // names this gateway in hop fields
}

// A sender is what the gateway itself knows about a request.
type sender struct {
	peer    netip.Addr // the other end of the connection, unmapped and without zone
	trusted bool       // whether its forwarding fields are believed
	host    string     // the authority as the client wrote it
	proto   string     // "https"
	request requestID
	target  *target
	found   notes    // set by appendRequest
	trace   *tracing // is made what goes upstream
	tracer  tracer
	x       *exchange // knows which fields go in another form; nil: none do
}

const maxHops = 8

// notes are what a request's fields held that the policy writes anew.
type notes struct {
	trailers   bool // TE: trailers
	trace      bool // traceparent or tracestate
	hops       bool // clonegate-hop
	member     bool // clonegate-member
	forwarding bool // forwarding fields of a trusted peer
	cookies    bool // cookies that the clone must not see
	origins    bool // Origin or Referer where names of production are known
}

// appendRequest appends the field lines that a clone receives for a request
// with the fields in. Host, framing, Connection and Upgrade are never among
// them. looped reports that the request has passed this gateway on its way to
// the same service before.
func (p *headerPolicy) appendRequest(dst []byte, in *http1.Section, nominates bool, s *sender) (out []byte, looped bool) {
	var n notes
	run := 0
	every := nominates || s.x != nil && s.x.changes() // fields with any name are looked at
	for i, f := range in.Fields {
		if f.Kind == http1.Ordinary && isPlain(in.Buf[f.Name.From]) && !every {
			continue
		}
		if !p.sends(in, f, s.trusted, &n) || s.x != nil && s.x.wears(in.Name(f), in.Value(f), &n) || nominates && isNominated(in, in.Name(f)) {
			dst = in.AppendLines(dst, run, i)
			run = i + 1
		}
	}
	dst = in.AppendLines(dst, run, len(in.Fields))
	if n.trailers {
		dst = append(dst, "TE: trailers\r\n"...)
	}
	if n.cookies || n.origins {
		dst = s.x.wear(dst, in, &n)
	}
	if s.trusted && n.forwarding {
		dst = p.appendChain(dst, in, s)
	} else {
		dst = appendForwarding(dst, s)
	}
	dst = append(dst, "Clonegate-Clone: "...)
	dst = append(dst, s.target.clone.ID...)
	if s.target.clone.Template != "" {
		dst = append(dst, "\r\nClonegate-Template: "...)
		dst = append(dst, s.target.clone.Template...)
	}
	dst = append(dst, "\r\n"...)
	s.trace.begin(in, n.trace, s.request, s.tracer)
	dst = s.trace.append(dst, in)
	s.found = n
	return p.appendHops(dst, in, n.hops, s)
}

// isPlain reports whether no field whose name begins with c concerns the policy.
func isPlain(c byte) bool {
	switch c | 0x20 {
	case 'c', 'x', 'f', 'p', 't':
		return false
	}
	return true
}

// sends reports whether a client's field goes on to the clone as it is. The
// names the gateway sets itself do not, nor does anything an application could
// mistake for them: CGI and its heirs read "X_Forwarded_For" and
// "X.Forwarded.For" as "X-Forwarded-For". All other names do, underscores
// included. A trusted peer may send the forwarding fields in their own spelling.
func (p *headerPolicy) sends(in *http1.Section, f http1.Field, trusted bool, n *notes) bool {
	switch f.Kind {
	case http1.Ordinary, http1.Expect:
	case http1.TE:
		n.trailers = n.trailers || hasToken(in.Value(f), "trailers")
		return false
	default:
		return false
	}
	name := in.Name(f)
	switch name[0] | 0x20 {
	case 'c':
		if !foldsTo(name, "clonegate-") {
			return true
		}
		n.hops = n.hops || http1.EqualFold(name, "clonegate-hop")
		n.member = n.member || http1.EqualFold(name, memberField)
		return false
	case 't':
		if !http1.EqualFold(name, "traceparent") && !http1.EqualFold(name, "tracestate") {
			return true
		}
		n.trace = true
		return false
	}
	if !isForwarding(name) {
		return true
	}
	if !trusted || !isSpelled(name) {
		return false
	}
	if isMerged(name) {
		n.forwarding = true
		return false
	}
	return true
}

// returns reports whether a field of a clone's answer goes on to the client:
// not what concerns only the connection to the clone, nor what only the gateway
// may say. The length is written anew by whoever writes the answer.
func (p *headerPolicy) returns(in *http1.Section, f http1.Field, nominates bool) bool {
	if f.Kind != http1.Ordinary {
		return false
	}
	if in.Buf[f.Name.From]|0x20 == 'c' && foldsTo(in.Name(f), "clonegate-") {
		return false
	}
	return !nominates || !isNominated(in, in.Name(f))
}

// isForwarding reports whether a name, in whatever spelling, tells where a
// request came from or where it really goes.
func isForwarding(name []byte) bool {
	switch name[0] | 0x20 {
	case 'x':
		return foldsTo(name, "x-forwarded-") ||
			foldsToAll(name, "x-real-ip") || foldsToAll(name, "x-original-url") || foldsToAll(name, "x-rewrite-url")
	case 'f':
		return foldsToAll(name, "forwarded")
	case 'p':
		return foldsToAll(name, "proxy")
	}
	return false
}

// isMerged reports whether the gateway adds to a trusted peer's field.
func isMerged(name []byte) bool {
	for _, s := range []string{"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded"} {
		if http1.EqualFold(name, s) {
			return true
		}
	}
	return false
}

// foldsTo reports whether lenient applications would find a name to begin with
// prefix: in any case, every punctuation mark taken for a hyphen.
func foldsTo(name []byte, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if fold(name[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func foldsToAll(name []byte, s string) bool { return len(name) == len(s) && foldsTo(name, s) }

func fold(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c | 0x20
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return c
	}
	return '-'
}

// isSpelled reports whether a name has no punctuation but hyphens.
func isSpelled(name []byte) bool {
	for _, c := range name {
		if fold(c) == '-' && c != '-' {
			return false
		}
	}
	return true
}

// isNominated reports whether the Connection field names a field, so that it
// concerns the connection only. The names the gateway sets cannot be nominated
// away (CVE-2024-45410).
func isNominated(in *http1.Section, name []byte) bool {
	if isForwarding(name) || foldsTo(name, "clonegate-") || http1.EqualFold(name, "traceparent") {
		return false
	}
	for _, f := range in.Fields {
		if f.Kind != http1.Connection {
			continue
		}
		for option := range http1.Elements(in.Value(f)) {
			if http1.SameFold(option, name) {
				return true
			}
		}
	}
	return false
}

// appendForwarding says who sent a request that nobody trusted has forwarded.
func appendForwarding(dst []byte, s *sender) []byte {
	dst = s.peer.AppendTo(append(dst, "X-Forwarded-For: "...))
	dst = append(append(dst, "\r\nX-Forwarded-Host: "...), s.host...)
	dst = append(append(dst, "\r\nX-Forwarded-Proto: "...), s.proto...)
	dst = s.peer.AppendTo(append(dst, "\r\nX-Real-IP: "...))
	dst = appendElement(append(dst, "\r\nForwarded: "...), s)
	return append(dst, "\r\n"...)
}

// appendElement appends our element of Forwarded (RFC 7239 §4).
func appendElement(dst []byte, s *sender) []byte {
	if s.peer.Is6() {
		dst = append(s.peer.AppendTo(append(dst, `for="[`...)), `]"`...)
	} else {
		dst = s.peer.AppendTo(append(dst, "for="...))
	}
	dst = append(append(append(dst, `;host="`...), s.host...), `";proto=`...)
	return append(dst, s.proto...)
}

// appendChain says who sent a request that a trusted peer has forwarded: what
// the peer says stands in front.
func (p *headerPolicy) appendChain(dst []byte, in *http1.Section, s *sender) []byte {
	chain := append(elements(in, "x-forwarded-for"), s.peer.String())
	for _, line := range [][2]string{
		{"X-Forwarded-For", strings.Join(chain, ", ")},
		{"X-Forwarded-Host", single(in, "x-forwarded-host", s.host)},
		{"X-Forwarded-Proto", single(in, "x-forwarded-proto", s.proto)},
		{"X-Real-IP", single(in, "x-real-ip", p.client(chain))},
	} {
		dst = append(append(append(append(dst, line[0]...), ": "...), line[1]...), "\r\n"...)
	}
	dst = append(dst, "Forwarded: "...)
	for v := range in.All("forwarded") {
		dst = append(append(dst, v...), ", "...)
	}
	return append(appendElement(dst, s), "\r\n"...)
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

// appendHops appends the list of gateways and services that the request has
// passed, this one last.
func (p *headerPolicy) appendHops(dst []byte, in *http1.Section, some bool, s *sender) (out []byte, looped bool) {
	dst = append(dst, "Clonegate-Hop: "...)
	if some {
		hops := elements(in, "clonegate-hop")
		hop := p.gateway + "." + s.target.service + "-" + string(s.target.clone.ID)
		looped = slices.Contains(hops, hop) || len(hops) >= maxHops
		for _, h := range hops {
			dst = append(append(dst, h...), ", "...)
		}
	}
	dst = append(append(dst, p.gateway...), '.')
	dst = append(append(dst, s.target.service...), '-')
	dst = append(append(dst, s.target.clone.ID...), "\r\n"...)
	return dst, looped
}

// single returns the value of a field, or another if there is not exactly one.
func single(in *http1.Section, name, otherwise string) string {
	value, n := "", 0
	for v := range in.All(name) {
		value, n = string(v), n+1
	}
	if n != 1 {
		return otherwise
	}
	return value
}

// elements returns the elements of all fields with a name in lower case.
func elements(in *http1.Section, name string) []string {
	var out []string
	for v := range in.All(name) {
		for e := range http1.Elements(v) {
			out = append(out, string(e))
		}
	}
	return out
}

// hasToken reports whether a list holds a token, in lower case, in any case and
// with any parameters.
func hasToken(list []byte, token string) bool {
	for e := range http1.Elements(list) {
		e, _, _ = bytes.Cut(e, []byte{';'})
		if http1.EqualFold(bytes.TrimRight(e, " \t"), token) {
			return true
		}
	}
	return false
}

// upgradesTo reports whether a head with the Connection option Upgrade names one
// protocol to switch to, and it is this.
func upgradesTo(in *http1.Section, protocol string) bool {
	n, found := 0, false
	for _, f := range in.Fields {
		if f.Kind == http1.Upgrade {
			for e := range http1.Elements(in.Value(f)) {
				n++
				found = http1.EqualFold(e, protocol)
			}
		}
	}
	return n == 1 && found
}

// publicHost returns the host by which a service of a clone is asked for when
// nobody asked: by health checks.
func publicHost(z *registry.Zones, id registry.ID, service string) string {
	return service + "-" + string(id) + "." + string(z.Zone())
}
