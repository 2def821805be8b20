package dnsd_test

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// TestOverload: 200,000 packets as fast as they can be sent, half of them for
// an upstream that is silent, from clients that do not read, through sockets
// with the smallest buffers for replies, make neither goroutines without end
// nor a queue that outlives them: a second later everything is as before.
func TestOverload(t *testing.T) {
	up := newUpstream(t, silent)
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range dnsd.UDPConns(udp) {
		conn.SetWriteBuffer(1)
	}
	reg, r, addr := prometheus.NewRegistry(), to(up), tcp.Addr().String()
	r.Clone = "1234"
	run(t, dnsd.Config{Directory: newWorld(t, shop("1234")), Metrics: reg}, func(s *dnsd.Server) {
		s.SetTiming(2*time.Second, 0, 2*time.Second, 0, 0)
	}, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: r})
	const senders, each = 8, 25_000
	var most atomic.Int64
	var flood sync.WaitGroup
	for i := range senders {
		flood.Go(func() {
			conn, err := net.Dial("udp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.(*net.UDPConn).SetReadBuffer(1)
			local := pack(new(dns.Msg).SetQuestion("db.", dns.TypeA))
			for n := range each {
				p := local
				if n%2 == 0 {
					p = pack(new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.s%d.example.", n, i), dns.TypeA))
				}
				conn.Write(p)
				if n%500 == 0 {
					most.Store(max(most.Load(), int64(runtime.NumGoroutine())))
				}
			}
		})
	}
	flood.Wait()
	start := time.Now()
	eventually(t, time.Second, "answering again", func() bool {
		m := new(dns.Msg).SetQuestion("db.", dns.TypeA)
		r, _, err := (&dns.Client{Timeout: 100 * time.Millisecond}).Exchange(m, addr)
		return err == nil && short(r) == "NOERROR; A 10.80.0.30"
	})
	got := gather(t, reg)
	t.Logf("up to %d goroutines, answering after %v, %v", most.Load(), time.Since(start), got)
	if most.Load() > 10_000 {
		t.Errorf("%d goroutines", most.Load())
	}
	if got["clonegate_dns_dropped_total panic"] > 0 || got["clonegate_dns_dropped_total group_busy"]+got["clonegate_dns_dropped_total busy"] == 0 {
		t.Errorf("questions without room were not counted, or something broke: %v", got)
	}
}
