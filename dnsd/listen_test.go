package dnsd_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

func TestListen(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0", "localhost:0"} {
		udp, tcp, err := dnsd.Listen(addr)
		if err != nil {
			t.Errorf("Listen(%q) = %v", addr, err)
			continue
		}
		u, c := udp.LocalAddr().(*net.UDPAddr), tcp.Addr().(*net.TCPAddr)
		if u.Port != c.Port || u.Port == 0 || !u.IP.Equal(c.IP) {
			t.Errorf("Listen(%q) opened UDP %v and TCP %v", addr, u, c)
		}
		if _, _, err := dnsd.Listen(c.String()); err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("a busy port: %v", err)
		}
		udp.Close()
		if udp, tcp2, err := dnsd.Listen(c.String()); err == nil {
			udp.Close()
			tcp2.Close()
			t.Error("a port that is busy for TCP alone is taken")
		}
		tcp.Close()
	}
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x"} {
		if _, _, err := dnsd.Listen(addr); err == nil || !strings.Contains(err.Error(), "dns listener") {
			t.Errorf("Listen(%q) = %v, want an error that says what it is for", addr, err)
		}
	}
}

// TestEverywhere: a socket bound to every address replies from the one asked.
func TestEverywhere(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		udp, tcp, err := dnsd.Listen(listen)
		if err != nil {
			t.Fatal(err)
		}
		port := tcp.Addr().(*net.TCPAddr).AddrPort().Port()
		run(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil, dnsd.Listener{UDP: udp, TCP: tcp})
		for _, host := range []string{"127.0.0.1", "127.80.1.5", "::1"} {
			to := netip.AddrPortFrom(netip.MustParseAddr(host), port).String()
			// A connected socket takes replies from nowhere else.
			if got := short(ask(t, to, "www-1234."+zone+".", dns.TypeA)); got != gatewayA {
				t.Errorf("listening on %s, asked at %s: %s", listen, to, got)
			}
			if got := short(ask(t, to, "ns."+zone+".", dns.TypeA)); got != gatewayA {
				t.Errorf("listening on %s: the name server is %s, want the gateway's address", listen, got)
			}
		}
	}
}

func TestRunErrors(t *testing.T) {
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	with := func(r dnsd.Resolver) dnsd.Listener { return dnsd.Listener{UDP: udp, TCP: tcp, Resolver: &r} }
	for _, row := range []struct {
		name string
		l    dnsd.Listener
		want string
	}{
		{"no sockets", dnsd.Listener{}, "needs a UDP and a TCP socket"},
		{"bad clone", with(dnsd.Resolver{Clone: "A-b"}), "configuration ID"},
		{"upstream without a port", with(dnsd.Resolver{Upstreams: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), 0)}}), "10.0.0.1:0"},
		{"upstream unspecified", with(dnsd.Resolver{Upstreams: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53")}}), "0.0.0.0:53"},
	} {
		s, err := dnsd.New(dnsd.Config{Directory: newWorld(t), Gateway: addrs("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context(), row.l); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: Run = %v, want an error about %s", row.name, err, row.want)
		}
	}
}

// TestStopAtOnce: a server that is stopped before it has begun has not failed.
func TestStopAtOnce(t *testing.T) {
	for range 20 {
		udp, tcp, err := dnsd.Listen("0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		s, err := dnsd.New(dnsd.Config{Directory: newWorld(t), Gateway: addrs("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(ctx, dnsd.Listener{UDP: udp, TCP: tcp}); err != nil {
			t.Errorf("Run = %v, want nil after cancellation", err)
		}
	}
}

// TestSocketLost: a socket that somebody else closes ends the server loudly.
func TestSocketLost(t *testing.T) {
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := dnsd.New(dnsd.Config{Directory: newWorld(t), Gateway: addrs("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background(), dnsd.Listener{UDP: udp, TCP: tcp}) }()
	ask(t, tcp.Addr().String(), zone+".", dns.TypeSOA)
	udp.Close()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("Run = %v, want the cause", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run goes on without its socket")
	}
}
