package dnsd_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// TestLoop: an upstream that sends our questions back to us is left out within
// 3 s of the start, says so once, and is used again when it stops.
func TestLoop(t *testing.T) {
	t.Parallel()
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	self := udp.LocalAddr().String()
	loops := make(chan struct{}) // until it is closed
	back, backTCP, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backTCP.Close()
	conns := dnsd.UDPConns(back)
	defer back.Close()
	for _, conn := range conns {
		go func() {
			buf := make([]byte, 4096)
			for {
				n, from, err := conn.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				m := new(dns.Msg)
				if m.Unpack(buf[:n]) != nil {
					continue
				}
				select {
				case <-loops:
					conn.WriteToUDPAddrPort(pack(replyTo(asked{msg: m}, 0, []string{" 0 IN A 198.51.100.1"}, nil)), from)
				default:
					go func() {
						if r, _, err := (&dns.Client{Timeout: time.Second}).Exchange(m, self); err == nil {
							conn.WriteToUDPAddrPort(pack(r), from)
						}
					}()
				}
			}
		}()
	}
	good := newUpstream(t, says(0, []string{" 0 IN A 198.51.100.2"}, nil))
	looping := netip.MustParseAddrPort(back.LocalAddr().(*net.UDPAddr).String())
	log := new(logBuffer)
	s := run(t, dnsd.Config{Directory: newWorld(t), Log: log.logger()}, nil, dnsd.Listener{
		UDP: udp, TCP: tcp, Resolver: &dnsd.Resolver{Upstreams: []netip.AddrPort{looping, good.addr}},
	})
	start := time.Now()
	until(t, "the loop is found", func() bool { return strings.Contains(log.String(), "sends our own questions back") })
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("the loop was found after %v, want at most 3 s", took)
	}
	for i := range 20 {
		begin := time.Now()
		if got := short(ask(t, self, fmt.Sprintf("n%d.example.", i), dns.TypeA)); got != "NOERROR; A 198.51.100.2" || time.Since(begin) > 150*time.Millisecond {
			t.Errorf("with a loop: %s after %v, want the other server at once", got, time.Since(begin))
		}
	}
	if n := strings.Count(log.String(), "sends our own questions back"); n != 1 {
		t.Errorf("the loop was told %d times, want once", n)
	}
	close(loops)
	s.ProbeNow()
	until(t, "the server is used again", func() bool { return short(ask(t, self, "www.example.", dns.TypeA)) == "NOERROR; A 198.51.100.1" })
}

// TestOnlyLoops: where no other upstream is left, the client is told why.
func TestOnlyLoops(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("www.example.", dns.TypeA)
	m.SetEdns0(1232, false)
	s := serveWith(t, dnsd.Config{Directory: newWorld(t)}, func(s *dnsd.Server) {
		s.SetLoop(netip.MustParseAddrPort("192.0.2.53:53"))
	}, &dnsd.Resolver{Upstreams: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}})
	r := send(t, s.addrs[0], m)
	if r.Rcode != dns.RcodeServerFailure || !strings.Contains(fmt.Sprint(r.IsEdns0()), "sends questions back") {
		t.Errorf("got %v, want SERVFAIL that says why", r)
	}
}
