package dnsd

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A ZoneCheck asks the resolvers of a machine for names of a zone, as every
// client does, and compares what they say with what the zone's server says.
type ZoneCheck struct {
	Zone      string
	Resolvers []netip.AddrPort // tried in turn
	Own       netip.AddrPort   // the authoritative listener of the gateway

	Patience time.Duration // for each answer; zero means 2 seconds
	Lag      time.Duration // by which a secondary may be late; zero means 3 seconds
}

// A ZoneFinding is what came of it.
type ZoneFinding struct {
	Found  bool   // clients find the zone
	Detail string // what is so
	Fix    string // what to do about it, "" if nothing
}

// ResolversOf returns the servers that a file such as /etc/resolv.conf names.
func ResolversOf(path string) []netip.AddrPort { return readResolvConf(path) }

// Run asks, and gives up when ctx ends. It looks, in this order, for
//
//  1. a gateway that does not answer at its own address, or is somebody else
//  2. resolvers that do not answer, or refuse
//  3. a zone that is not delegated, or delegated to somebody else
//  4. answers that are not ours, because something filters or invents them
func (c ZoneCheck) Run(ctx context.Context) ZoneFinding {
	c.Zone = dns.CanonicalName(c.Zone)
	c.Patience, c.Lag = cmp.Or(c.Patience, 2*time.Second), cmp.Or(c.Lag, 3*time.Second)
	own, err := c.ask(ctx, c.Own, c.Zone, dns.TypeSOA, false)
	if err != nil {
		return ZoneFinding{false, fmt.Sprintf("the gateway does not answer at %v: %v", c.Own, err), "see whether a firewall or another program stands there"}
	}
	if soaOf(own.Answer) == nil || !own.Authoritative {
		return ZoneFinding{false, fmt.Sprintf("what answers at %v says %s about %s and is not its authoritative server (no AA)", c.Own, rcodeName(own.Rcode), c.Zone), "let dns.listen have that address, and keep resolvers of clones on others"}
	}
	f, again := c.compare(ctx)
	if again { // a copy of the zone may be a little late
		select {
		case <-time.After(c.Lag):
			f, _ = c.compare(ctx)
		case <-ctx.Done():
		}
	}
	return f
}

// compare asks for a name that nobody has asked for before, so that no cache
// has the answer. again reports whether a later try may end better.
func (c ZoneCheck) compare(ctx context.Context) (f ZoneFinding, again bool) {
	probe := "probe-" + strings.ToLower(rand.Text()) + "." + c.Zone // longer than an ID, so no clone's
	reply, server, err := c.askAny(ctx, probe, dns.TypeA)
	if err != nil {
		return c.unanswered(ctx, fmt.Sprintf("no resolver of this machine answers: %v", err)), false
	}
	said := fmt.Sprintf("resolver %v says %s", server, rcodeName(reply.Rcode))
	if text := edeText(reply); text != "" {
		said += " (" + text + ")"
	}
	soa := soaOf(reply.Ns)
	if soa == nil && len(reply.Answer) == 0 { // some stubs keep it to themselves
		if whole, err := c.ask(ctx, server, c.Zone, dns.TypeSOA, true); err == nil {
			soa = soaOf(whole.Answer)
		}
	}
	switch {
	case reply.Rcode == dns.RcodeServerFailure:
		return c.unanswered(ctx, said+": it knows where to ask and gets no answer that it can use"), false
	case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
		return c.unanswered(ctx, said), false
	case len(reply.Answer) > 0:
		return ZoneFinding{false, fmt.Sprintf("resolver %v invents answers: %v", server, reply.Answer[0]), "find the wildcard in a zone above, or the filter, that answers for names that do not exist"}, false
	case soa == nil:
		return ZoneFinding{false, said + " in its own name: it has not asked anybody", c.delegate("")}, false
	case canonical(soa.Hdr.Name) != c.Zone:
		if isUnder(canonical(soa.Hdr.Name), c.Zone) {
			return ZoneFinding{false, fmt.Sprintf("%s is not delegated: %s, and %s knows nothing of it", c.Zone, said, soa.Hdr.Name), c.delegate(soa.Hdr.Name)}, false
		}
		return ZoneFinding{false, fmt.Sprintf("%s, by the zone %s", said, soa.Hdr.Name), c.delegate("")}, false
	case canonical(soa.Ns) != nameServerLabel+"."+c.Zone:
		return ZoneFinding{false, fmt.Sprintf("%s is delegated elsewhere: resolver %v finds it at %s", c.Zone, server, soa.Ns), c.delegate("")}, false
	}
	return c.same(ctx, server, soa)
}

// same compares answers that do exist, with a resolver that finds the zone.
func (c ZoneCheck) same(ctx context.Context, server netip.AddrPort, soa *dns.SOA) (f ZoneFinding, again bool) {
	own, err := c.ask(ctx, c.Own, c.Zone, dns.TypeSOA, false)
	if err != nil || soaOf(own.Answer) == nil {
		return ZoneFinding{false, fmt.Sprintf("the gateway no longer answers at %v", c.Own), "look into its log"}, true
	}
	// Between the two answers the zone may have moved on, but a copy of it, or
	// another gateway with the same zone, is behind or ahead by more.
	const much = 1000
	if ahead := int32(soa.Serial - soaOf(own.Answer).Serial); ahead > 0 || ahead < -much {
		return ZoneFinding{
			false, fmt.Sprintf("answers differ: resolver %v finds %s with the serial number %d, and the gateway has %d", server, c.Zone, soa.Serial, soaOf(own.Answer).Serial),
			"see whether another gateway serves this zone, or a secondary does not follow; then have it fetch the zone anew",
		}, true
	}
	for _, q := range []struct {
		name  string
		qtype uint16
		why   string
	}{
		{nameServerLabel + "." + c.Zone, dns.TypeA, "see whether a filter against private addresses (rebinding) stands between; exempt the zone"},
		{challengeLabel + "." + c.Zone, dns.TypeTXT, "names with an underscore are filtered; exempt the zone, or certificates cannot be issued by DNS-01"},
	} {
		want, err := c.ask(ctx, c.Own, q.name, q.qtype, false)
		if err != nil {
			continue
		}
		got, err := c.ask(ctx, server, q.name, q.qtype, true)
		if err != nil || got.Rcode != want.Rcode || answersOf(got) != answersOf(want) {
			said := fmt.Sprint(err)
			if err == nil {
				said = rcodeName(got.Rcode) + " " + answersOf(got)
			}
			return ZoneFinding{
				false, fmt.Sprintf("answers differ: about %s %s, resolver %v says %s, and the gateway %s", q.name, dns.Type(q.qtype), server, strings.TrimSpace(said), strings.TrimSpace(rcodeName(want.Rcode)+" "+answersOf(want))),
				q.why,
			}, true
		}
	}
	return ZoneFinding{true, fmt.Sprintf("resolver %v finds %s at this gateway", server, strings.TrimSuffix(c.Zone, ".")), ""}, false
}

// unanswered explains why resolvers have no answer about the zone: nothing
// with an underscore is let through, what is asked does not know the zone as
// its own, or nobody can be reached.
func (c ZoneCheck) unanswered(ctx context.Context, detail string) ZoneFinding {
	label, parent, _ := strings.Cut(c.Zone, ".")
	if strings.Contains(label, "_") {
		if reply, server, err := c.askAny(ctx, cmp.Or(parent, "."), dns.TypeSOA); err == nil && (reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError) {
			return ZoneFinding{
				false, fmt.Sprintf("%s; about %s, without the underscore, %v does answer", detail, parent, server),
				"names with an underscore seem to be filtered: allow them, or give the zone an alias without one (zone_aliases)",
			}
		}
	}
	if own, err := c.ask(ctx, c.Own, nameServerLabel+"."+c.Zone, dns.TypeA, false); err == nil {
		for _, rr := range own.Answer {
			a, ok := rr.(*dns.A)
			if !ok {
				continue
			}
			addr, _ := netip.AddrFromSlice(a.A.To4())
			at := netip.AddrPortFrom(addr, 53)
			reply, err := c.ask(ctx, at, c.Zone, dns.TypeSOA, false)
			switch {
			case err != nil:
				return ZoneFinding{false, fmt.Sprintf("%s; nobody answers at %v, where a delegation leads: %v", detail, at, err), "open UDP and TCP port 53 there, let dns.listen have it, or forward the zone to " + c.Own.String()}
			case !reply.Authoritative:
				return ZoneFinding{false, fmt.Sprintf("%s; what answers at %v, where a delegation leads, is no authoritative server (no AA)", detail, at), "let dns.listen have that address, and keep resolvers on others"}
			}
		}
	}
	return ZoneFinding{false, detail, "see whether that resolver can reach " + c.Own.String() + " by UDP and TCP; " + c.delegate("")}
}

// delegate says how the zone is made known in the zone parent, "" if that is
// not known.
func (c ZoneCheck) delegate(parent string) string {
	zone := strings.TrimSuffix(c.Zone, ".")
	if parent == "" || parent == "." {
		return fmt.Sprintf("delegate %s to ns.%s, or forward it to %v: see docs/dns.md", zone, zone, c.Own)
	}
	rel := strings.TrimSuffix(zone, "."+strings.TrimSuffix(canonical(parent), "."))
	return fmt.Sprintf("add to the zone %s  %s IN NS ns.%s  and the address of ns.%s, or forward %s to %v: see docs/dns.md", parent, rel, rel, rel, zone, c.Own)
}

// askAny asks resolvers in turn until one answers.
func (c ZoneCheck) askAny(ctx context.Context, name string, qtype uint16) (*dns.Msg, netip.AddrPort, error) {
	err := errors.New("none is configured")
	for _, server := range c.Resolvers {
		var reply *dns.Msg
		if reply, err = c.ask(ctx, server, name, qtype, true); err == nil {
			return reply, server, nil
		}
	}
	return nil, netip.AddrPort{}, err
}

func (c ZoneCheck) ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16, recursion bool) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.RecursionDesired = recursion
	m.SetEdns0(maxSize, false)
	client := &dns.Client{Timeout: c.Patience}
	reply, _, err := client.ExchangeContext(ctx, m, server.String())
	if err == nil && reply.Truncated {
		client.Net = "tcp"
		reply, _, err = client.ExchangeContext(ctx, m, server.String())
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", server, ctxError(ctx, err))
	}
	return reply, nil
}

// soaOf returns the SOA record of a section, nil if there is none.
func soaOf(rrs []dns.RR) *dns.SOA {
	for _, rr := range rrs {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa
		}
	}
	return nil
}

// answersOf returns the data of the answers, in order, for comparison.
func answersOf(m *dns.Msg) string {
	var texts []string
	for _, rr := range m.Answer {
		texts = append(texts, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// edeText returns the extended errors of a reply, for people.
func edeText(m *dns.Msg) string {
	var texts []string
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				texts = append(texts, strings.TrimSpace(dns.ExtendedErrorCodeToString[e.InfoCode]+" "+e.ExtraText))
			}
		}
	}
	return strings.Join(texts, "; ")
}
