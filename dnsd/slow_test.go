package dnsd_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// residentMiB returns how much memory this process has, in MiB.
func residentMiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("SKIPPED, memory is not bounded by any test here: %v", err)
	}
	var kib int
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// percentile99 returns the time that all but one in a hundred questions by UDP
// stay below.
func percentile99(t *testing.T, addr string) time.Duration {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf, question := make([]byte, 1500), wire(nil)
	took := make([]time.Duration, 1000)
	for i := range took {
		start := time.Now()
		conn.SetDeadline(start.Add(5 * time.Second))
		conn.Write(question)
		if _, err := conn.Read(buf); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// connectFrom opens a TCP connection from an address of loopback.
func connectFrom(t *testing.T, source net.IP, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: source}, Timeout: 5 * time.Second}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestSlowSenders: 2,000 connections that announce the longest message there is
// and send it octet by octet take no memory worth mentioning, hold up nobody who
// asks by UDP, and are gone when the time for a message is over.
func TestSlowSenders(t *testing.T) {
	const idle = 3 * time.Second
	s := serveWith(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, func(s *dnsd.Server) {
		s.SetTiming(0, 0, 0, 0, idle)
	}, nil)
	calm := percentile99(t, s.addrs[0])
	before := residentMiB(t)
	conns := make([]net.Conn, 2000)
	var open, ofFirst atomic.Int32 // connections that the server has not closed
	var readers sync.WaitGroup
	for i := range conns {
		source := i / 100 // 100 of each of 20 sources
		conns[i] = connectFrom(t, net.IPv4(127, 77, 0, byte(1+source)), s.addrs[0])
		conns[i].Write([]byte{0xff, 0xff})
		open.Add(1)
		if source == 0 {
			ofFirst.Add(1)
		}
		readers.Go(func() {
			conns[i].Read(make([]byte, 1))
			open.Add(-1)
			if source == 0 {
				ofFirst.Add(-1)
			}
		})
	}
	start := time.Now()
	drip := func() {
		for _, c := range conns {
			c.Write([]byte{0})
		}
	}
	drip()
	eventually(t, idle/2, "closed, all but 256, and 16 of one source", func() bool { return open.Load() <= 256 && ofFirst.Load() <= 16 })
	if n := open.Load(); n < 200 {
		t.Errorf("%d connections are open, want those up to the bounds", n)
	}
	busy := percentile99(t, s.addrs[0])
	drip()
	if grown := residentMiB(t) - before; grown > 32 {
		t.Errorf("memory has grown by %d MiB", grown)
	}
	if busy > 3*calm+20*time.Millisecond {
		t.Errorf("99 of 100 questions by UDP took up to %v, %v without the others", busy, calm)
	}
	for time.Since(start) < idle+2*time.Second && open.Load() > 0 {
		drip()
		time.Sleep(100 * time.Millisecond)
	}
	if n := open.Load(); n > 0 {
		t.Errorf("%d connections are open %v after their message began", n, time.Since(start))
	}
	readers.Wait()
	c := &dns.Client{Net: "tcp"}
	if m, _, err := c.Exchange(new(dns.Msg).SetQuestion("www-1234."+zone+".", dns.TypeA), s.addrs[0]); err != nil || short(m) != gatewayA {
		t.Errorf("TCP afterwards: %v, %v", m, err)
	}
}

// TestSlowReaders: connections that ask for much and read nothing are closed
// when the time for a reply is over, whether the answers were ready or came
// from upstreams.
func TestSlowReaders(t *testing.T) {
	const idle = 500 * time.Millisecond
	big := `"` + strings.Repeat("x", 200) + `" `
	c := shop("1234")
	c.Records = append(c.Records, registry.Record{Name: "big", Type: "TXT", Data: strings.Repeat(big, 19)})
	up := newUpstream(t, func(q asked, send func([]byte)) {
		m := replyTo(q, 0, []string{" 0 IN TXT " + strings.Repeat(big, 200)}, nil)
		if q.network == "udp" {
			m.Truncated, m.Answer = true, nil
		}
		send(pack(m))
	})
	s := serveWith(t, dnsd.Config{Directory: newWorld(t, c)}, func(s *dnsd.Server) {
		s.SetTiming(0, 0, 0, 0, idle)
	}, nil, to(up))
	calm := percentile99(t, s.addrs[0])
	before := residentMiB(t)
	for _, row := range []struct {
		name, question string
		listener       int
	}{
		{"ready", "big.1234." + zone + ".", 0},
		{"from upstreams", "big.example.", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			burst := bytes.Repeat(framed(pack(new(dns.Msg).SetQuestion(row.question, dns.TypeTXT))), 100)
			var writers sync.WaitGroup
			for range 16 {
				conn := dialTCP(t, s.addrs[row.listener])
				conn.(*net.TCPConn).SetReadBuffer(4096)
				writers.Go(func() {
					start := time.Now()
					conn.SetWriteDeadline(start.Add(20 * time.Second))
					for {
						if _, err := conn.Write(burst); err != nil {
							if took := time.Since(start); took > 15*time.Second {
								t.Errorf("the connection was open for %v: %v", took, err)
							}
							return
						}
					}
				})
			}
			if busy := percentile99(t, s.addrs[0]); busy > 3*calm+50*time.Millisecond {
				t.Errorf("99 of 100 questions by UDP took up to %v, %v without the others", busy, calm)
			}
			writers.Wait()
			if grown := residentMiB(t) - before; grown > 64 {
				t.Errorf("memory has grown by %d MiB", grown)
			}
		})
	}
}
