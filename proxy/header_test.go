package proxy

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

func testSender(peer string) sender {
	return sender{
		peer: netip.MustParseAddr(peer).Unmap().WithZone(""), host: "www-1234.zone:8443", proto: "https", request: 0x00f067aa0ba902b7,
		target: &target{clone: &registry.Clone{ID: "1234", Template: "shop@7"}, service: "www"},
		trace:  new(tracing),
	}
}

// sent returns the fields that a clone receives for those of a request, whether
// they were parsed or appended one by one.
func sent(t *testing.T, in http.Header, s sender) (out http.Header, looped bool) {
	t.Helper()
	p := testPolicy()
	s.trusted = p.trusts(s.peer)
	appended := sectionOf(in)
	head := append(appended.AppendLines([]byte("GET / HTTP/1.1\r\nHost: h\r\n"), 0, len(appended.Fields)), "\r\n"...)
	var parsed http1.Request
	if done, err := parsed.Parse(head, 1<<20); (!done || err != nil) && in["Transfer-Encoding"] == nil {
		t.Fatalf("%q: done %v, error %v", head, done, err)
	}
	lines, looped := p.appendRequest(nil, appended, len(in["Connection"]) > 0, &s)
	again, loopedAgain := p.appendRequest(nil, &parsed.Section, parsed.Nominates, &s)
	out = headerOf(lines)
	if in["Transfer-Encoding"] != nil {
		return out, looped
	}
	other := headerOf(again)
	out.Del("Traceparent")
	other.Del("Traceparent") // may be random
	if !maps.EqualFunc(out, other, slices.Equal[[]string]) || looped != loopedAgain {
		t.Errorf("parsed fields give %q, %v; appended ones %q, %v", other, loopedAgain, out, looped)
	}
	return headerOf(lines), looped
}

func testPolicy() *headerPolicy {
	return &headerPolicy{trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, gateway: "gw1"}
}

// TestRequestHeaders is a table of what clones see of what clients send. A
// value of "-" means that the header must be absent.
func TestRequestHeaders(t *testing.T) {
	const stranger, balancer = "192.0.2.43", "10.0.0.9"
	for _, tt := range []struct {
		name string
		peer string
		in   http.Header
		want map[string]string
	}{
		{"set for every request", stranger, nil, map[string]string{
			"X-Forwarded-For":    "192.0.2.43",
			"X-Forwarded-Host":   "www-1234.zone:8443",
			"X-Forwarded-Proto":  "https",
			"X-Real-Ip":          "192.0.2.43",
			"Forwarded":          `for=192.0.2.43;host="www-1234.zone:8443";proto=https`,
			"Clonegate-Clone":    "1234",
			"Clonegate-Template": "shop@7",
			"Clonegate-Hop":      "gw1.www-1234",
			"Via":                "-",
		}},
		{"IPv6, its zone left out", "fe80::1%eth0", nil, map[string]string{
			"X-Forwarded-For": "fe80::1",
			"Forwarded":       `for="[fe80::1]";host="www-1234.zone:8443";proto=https`,
		}},
		{"IPv4 on an IPv6 socket", "::ffff:192.0.2.43", nil, map[string]string{"X-Real-Ip": "192.0.2.43"}},
		{"a stranger's claims are dropped", stranger, http.Header{
			"X-Forwarded-For": {"1.1.1.1", "2.2.2.2"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Proto": {"http"},
			"X-Forwarded-Port": {"1"}, "X-Forwarded-Prefix": {"/x"}, "X-Real-Ip": {"1.1.1.1"}, "Forwarded": {"for=1.1.1.1"},
			"X-Original-Url": {"/admin"}, "X-Rewrite-Url": {"/admin"}, "Proxy": {"http://evil"},
			"Clonegate-Clone": {"9"}, "Clonegate-Template": {"x"}, "Clonegate-Anything": {"x"},
		}, map[string]string{
			"X-Forwarded-For": "192.0.2.43", "X-Forwarded-Host": "www-1234.zone:8443", "X-Forwarded-Proto": "https",
			"X-Forwarded-Port": "-", "X-Forwarded-Prefix": "-", "X-Real-Ip": "192.0.2.43",
			"Forwarded":      `for=192.0.2.43;host="www-1234.zone:8443";proto=https`,
			"X-Original-Url": "-", "X-Rewrite-Url": "-", "Proxy": "-",
			"Clonegate-Clone": "1234", "Clonegate-Template": "shop@7", "Clonegate-Anything": "-",
		}},
		{"look-alikes are dropped", stranger, http.Header{
			"X_forwarded_for": {"1.1.1.1"}, "X.forwarded.for": {"1.1.1.1"}, "X-Forwarded_for": {"1.1.1.1"}, "x_ReAl.ip": {"1"},
			"Clonegate_clone": {"9"}, "Clonegate.template": {"x"}, "Trace-Parent": {"kept: another name"}, "X_original_url": {"/"},
		}, map[string]string{
			"X_forwarded_for": "-", "X.forwarded.for": "-", "X-Forwarded_for": "-", "x_ReAl.ip": "-",
			"Clonegate_clone": "-", "Clonegate.template": "-", "X_original_url": "-",
			"Trace-Parent": "kept: another name",
		}},
		{"other underscores are kept", stranger, http.Header{"X_app_token": {"t"}, "Sessionid": {"s"}}, map[string]string{
			"X_app_token": "t", "Sessionid": "s",
		}},
		{"hop by hop", stranger, http.Header{
			"Connection": {"close, X-Private", "keep-alive"}, "X-Private": {"p"}, "Keep-Alive": {"timeout=5"}, "Te": {"gzip"},
			"Proxy-Authorization": {"x"}, "Transfer-Encoding": {"chunked"}, "Upgrade": {"h2c"}, "Http2-Settings": {"AAM"}, "Trailer": {"X"},
		}, map[string]string{
			"Connection": "-", "X-Private": "-", "Keep-Alive": "-", "Te": "-", "Proxy-Authorization": "-",
			"Transfer-Encoding": "-", "Upgrade": "-", "Http2-Settings": "-", "Trailer": "-",
		}},
		{"trailers are wanted", stranger, http.Header{"Te": {"gzip;q=0.5, trailers"}}, map[string]string{"Te": "trailers"}},
		{"ours cannot be nominated", stranger, http.Header{
			"Connection": {"", "X-Forwarded-For, x-real-ip, Forwarded, Clonegate-Clone, Traceparent, X_Forwarded_Host"},
		}, map[string]string{
			"X-Forwarded-For": "192.0.2.43", "X-Real-Ip": "192.0.2.43", "Clonegate-Clone": "1234",
			"Forwarded": `for=192.0.2.43;host="www-1234.zone:8443";proto=https`,
		}},
		{"a trusted peer's claims are kept", balancer, http.Header{
			"X-Forwarded-For": {"203.0.113.7", "10.0.0.1"}, "X-Forwarded-Host": {"public.example"}, "X-Forwarded-Proto": {"http"},
			"Forwarded": {"for=203.0.113.7"}, "X-Forwarded-Port": {"80"}, "Connection": {"X-Forwarded-Port"},
		}, map[string]string{
			"X-Forwarded-For": "203.0.113.7, 10.0.0.1, 10.0.0.9", "X-Forwarded-Host": "public.example", "X-Forwarded-Proto": "http",
			"X-Real-Ip": "203.0.113.7", "X-Forwarded-Port": "80",
			"Forwarded": `for=203.0.113.7, for=10.0.0.9;host="www-1234.zone:8443";proto=https`,
		}},
		{"what a client told a trusted peer is not believed", balancer, http.Header{
			"X-Forwarded-For": {"1.1.1.1, 203.0.113.7"},
		}, map[string]string{"X-Forwarded-For": "1.1.1.1, 203.0.113.7, 10.0.0.9", "X-Real-Ip": "203.0.113.7"}},
		{"a trusted peer's look-alikes are dropped", balancer, http.Header{"X_forwarded_for": {"1.1.1.1"}}, map[string]string{
			"X_forwarded_for": "-", "X-Forwarded-For": "10.0.0.9",
		}},
		{"two forwarded hosts are none", balancer, http.Header{"X-Forwarded-Host": {"a", "b"}}, map[string]string{
			"X-Forwarded-Host": "www-1234.zone:8443",
		}},
		{"a trace goes on", stranger, http.Header{
			"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "Tracestate": {"a=1"},
		}, map[string]string{
			"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate": "a=1",
		}},
		{"a broken trace is replaced", stranger, http.Header{"Traceparent": {"00-0-0-0"}, "Tracestate": {"a=1"}}, map[string]string{
			"Tracestate": "-",
		}},
		{"nothing is invented", stranger, nil, map[string]string{"Accept-Encoding": "-", "User-Agent": "-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.in.Clone()
			got, looped := sent(t, tt.in, testSender(tt.peer))
			if looped {
				t.Error("taken for a loop")
			}
			for name, want := range tt.want {
				values := got[name]
				switch {
				case want == "-" && values != nil:
					t.Errorf("%s: got %q; want it absent", name, values)
				case want != "-" && !slices.Equal(values, []string{want}):
					t.Errorf("%s: got %q; want exactly %q", name, values, want)
				}
			}
			if v := got["Traceparent"]; len(v) != 1 || !validTraceparent([]byte(v[0])) {
				t.Errorf("Traceparent: got %q; want one that is valid", v)
			}
			for name := range before {
				if !slices.Equal(before[name], tt.in[name]) {
					t.Errorf("the client's own %s was changed", name)
				}
			}
		})
	}
}

func TestLoopsAreSeen(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("gw2.a-1, ", maxHops), ", ")
	for _, tt := range []struct {
		name, hops string
		want       bool
	}{
		{"first pass", "", false},
		{"by way of another gateway", "gw2.www-1234", false},
		{"another service of the clone asked for this one", "gw1.api-1234", false},
		{"the same service again", "gw1.www-1234", true},
		{"the same service by way of others", "gw1.www-1234, gw2.www-1234, gw1.api-1234", true},
		{"more hops than any honest request has", many, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := http.Header{}
			if tt.hops != "" {
				in.Set("Clonegate-Hop", tt.hops)
			}
			out, looped := sent(t, in, testSender("192.0.2.43"))
			if looped != tt.want {
				t.Errorf("hops %q: looped = %v; want %v", tt.hops, looped, tt.want)
			}
			if got := out.Get("Clonegate-Hop"); !strings.HasSuffix(got, "gw1.www-1234") || !strings.HasPrefix(got, tt.hops) {
				t.Errorf("hops %q became %q; want ours added", tt.hops, got)
			}
		})
	}
}

func TestResponseHeaders(t *testing.T) {
	h := http.Header{
		"Connection": {"X-Private, Clonegate-Reason"}, "X-Private": {"p"}, "Keep-Alive": {"timeout=5"}, "Transfer-Encoding": {"chunked"},
		"Upgrade": {"h2c"}, "Clonegate-Reason": {"gone"}, "clonegate_reason": {"gone"},
		"Server": {"shop/1"}, "Set-Cookie": {"a=1", "b=2"}, "X_app": {"kept"},
	}
	in := sectionOf(h)
	h = http.Header{}
	for _, f := range in.Fields {
		if testPolicy().returns(in, f, true) {
			h.Add(string(in.Name(f)), string(in.Value(f)))
		}
	}
	for _, name := range []string{"Connection", "X-Private", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Clonegate-Reason", "clonegate_reason"} {
		if h[name] != nil {
			t.Errorf("%s: got %q; want it absent", name, h[name])
		}
	}
	for name, want := range map[string][]string{"Server": {"shop/1"}, "Set-Cookie": {"a=1", "b=2"}, "X_app": {"kept"}} {
		if !slices.Equal(h[name], want) {
			t.Errorf("%s: got %q; want %q", name, h[name], want)
		}
	}
}

func TestTraceparent(t *testing.T) {
	for s, want := range map[string]bool{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       true,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra": true,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra": false,
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       false,
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":       false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":       false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01":       false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0":        false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g":       false,
		"": false,
	} {
		if got := validTraceparent([]byte(s)); got != want {
			t.Errorf("validTraceparent(%q) = %v; want %v", s, got, want)
		}
	}
}

func TestUpgradeTo(t *testing.T) {
	for _, tt := range []struct {
		connection, upgrade, want string
	}{
		{"Upgrade", "websocket", "websocket"},
		{"keep-alive, upgrade", "WebSocket", "websocket"},
		{"Upgrade", "h2c", "h2c"},
		{"Upgrade", "h2c, websocket", ""},
		{"keep-alive", "websocket", ""},
		{"Upgrade", "", ""},
	} {
		head := "GET / HTTP/1.1\r\nHost: h\r\nConnection: " + tt.connection + "\r\nUpgrade: " + tt.upgrade + "\r\n\r\n"
		var r http1.Request
		if done, err := r.Parse([]byte(head), 1<<10); !done || err != nil {
			t.Fatal(done, err)
		}
		got := ""
		for _, protocol := range []string{"websocket", "h2c"} {
			if r.Switch && upgradesTo(&r.Section, protocol) {
				got = protocol
			}
		}
		if got != tt.want {
			t.Errorf("Connection: %s, Upgrade: %s: got %q; want %q", tt.connection, tt.upgrade, got, tt.want)
		}
	}
}
