package proxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/clonegate/clonegate/proxy"
)

// introduce opens a connection that begins with a header, and sends it together
// with the first octets of TLS.
func (b *bench) introduce(header string) *tls.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return tls.Client(&prefixed{Conn: c, first: header}, &tls.Config{RootCAs: b.roots, ServerName: "www-1." + zone})
}

// prefixed writes something before and together with what is first written.
type prefixed struct {
	net.Conn
	first string
}

func (p *prefixed) Write(b []byte) (int, error) {
	n := len(p.first)
	m, err := p.Conn.Write(append([]byte(p.first), b...))
	p.first = ""
	return max(0, m-n), err
}

func v2(t *testing.T, command proxyproto.ProtocolVersionAndCommand, from, to string) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to)))
	h.Command = command
	text, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const ask = "GET / HTTP/1.1\r\nHost: www-1." + zone + "\r\nConnection: close\r\n\r\n"

// TestLoadBalancersIntroduceClients opens connections from a listed peer.
func TestLoadBalancersIntroduceClients(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.ProxyPeers = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	b.serve("1", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Forwarded-For")) })
	for _, tt := range []struct{ name, header, client string }{
		{"version 1", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "192.0.2.7"},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7"},
		{"version 1, nobody", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"version 2", v2(t, proxyproto.PROXY, "192.0.2.8:4711", "198.51.100.1:443"), "192.0.2.8"},
		{"version 2, IPv6", v2(t, proxyproto.PROXY, "[2001:db8::8]:4711", "[2001:db8::1]:443"), "2001:db8::8"},
		{"version 2, itself", v2(t, proxyproto.LOCAL, "192.0.2.8:4711", "198.51.100.1:443"), "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := exchangeRaw(t, b.introduce(tt.header), ask); got.StatusCode != 200 || got.body != tt.client {
				t.Errorf("got %d, client %q; want %q", got.StatusCode, got.body, tt.client)
			}
		})
	}
	plain, err := net.Dial("tcp", b.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	exchangeRaw(t, plain, "PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\n"+ask).wantReason(t, 301, proxy.Redirect)
	for _, line := range b.log.requests(t, 7) { // in no order
		if line["reason"] == string(proxy.Redirect) && line["remote"] != "192.0.2.9" {
			t.Errorf("the redirect was for %v; want 192.0.2.9", line["remote"])
		}
	}
}

// TestNoProperIntroduction has listed peers say nothing, garbage and too much,
// and a peer that is not listed introduce somebody: each is cut off.
func TestNoProperIntroduction(t *testing.T) {
	listed := newBench(t, func(c *proxy.Config) { c.ProxyPeers = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	unlisted := newBench(t, func(c *proxy.Config) { c.ProxyPeers = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	long := v2(t, proxyproto.PROXY, "192.0.2.8:4711", "198.51.100.1:443")
	long = long[:14] + "\xff\xff" + long[16:] + strings.Repeat("\x00", 64<<10)
	for _, tt := range []struct {
		name string
		b    *bench
		says string
		most time.Duration
	}{
		{"no header", listed, "\x16\x03\x01", 5 * time.Second},
		{"silence", listed, "", 5 * time.Second},
		{"half a header", listed, "PROXY TCP4 192.0.2.7", 5 * time.Second},
		{"no port", listed, "PROXY TCP4 192.0.2.7 198.51.100.1\r\n", 5 * time.Second},
		{"no addresses", listed, "PROXY TCP4 here there 1 2\r\n", 5 * time.Second},
		{"a line without end", listed, "PROXY " + strings.Repeat("x", 4<<10), 5 * time.Second},
		{"64 KiB of version 2", listed, long, 5 * time.Second},
		{"a stranger's header", unlisted, "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", tt.b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, tt.says)
			c.SetReadDeadline(time.Now().Add(tt.most))
			if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
				t.Errorf("still open after %s", tt.most)
			}
		})
	}
	unlisted.serve("1", who("1"))
	if got := unlisted.get("https://www-1." + zone + "/"); got.StatusCode != 200 {
		t.Errorf("who is not listed and sends no header: got %d", got.StatusCode)
	}
}

// TestSourcesBehindALoadBalancerAreLimited counts clients, not the balancer.
func TestSourcesBehindALoadBalancerAreLimited(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) {
		c.ProxyPeers, c.Limits.ConnsPerSource = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, 2
	})
	greedy, other := "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "PROXY TCP4 192.0.2.8 198.51.100.1 4711 443\r\n"
	var open []*tls.Conn
	for range 2 {
		c := b.introduce(greedy)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if err := b.introduce(greedy).Handshake(); err == nil {
		t.Error("a third connection of one client: want it refused")
	}
	if err := b.introduce(other).Handshake(); err != nil {
		t.Errorf("another client's connection: %v", err)
	}
	open[0].Close()
	eventually(t, "there is room again", func() bool { return b.introduce(greedy).Handshake() == nil })
}
