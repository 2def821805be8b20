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
	"github.com/miekg/dns"
)

// residentMiB returns how much memory this process has, in MiB; a quarter of
// it while it looks for data races, which takes several times as much.
func residentMiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("NOT TESTED: memory is not bounded by any test here: %v", err)
	}
	var kib int
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	if dnsd.Raced {
		kib /= 4
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

// TestSlowReaders: connections that ask upstreams for much and read nothing of
// it lose their places when the time for a reply is over. Answers that are ready
// have a test of their own, TestNobodyReads.
func TestSlowReaders(t *testing.T) {
	big := strings.Repeat(`"`+strings.Repeat("x", 200)+`" `, 200)
	up := newUpstream(t, func(q asked, send func([]byte)) {
		m := replyTo(q, 0, []string{" 0 IN TXT " + big}, nil)
		if q.network == "udp" {
			m.Truncated, m.Answer = true, nil
		}
		send(pack(m))
	})
	s := serveWith(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, func(s *dnsd.Server) {
		s.SetTiming(0, 0, 0, 0, 500*time.Millisecond)
	}, to(up))
	calm := percentile99(t, s.addrs[0])
	before := residentMiB(t)
	burst := bytes.Repeat(framed(pack(new(dns.Msg).SetQuestion("big.example.", dns.TypeTXT))), 100)
	var writers sync.WaitGroup
	defer writers.Wait()
	for range 16 {
		conn := dialTCP(t, s.addrs[0])
		conn.(*net.TCPConn).SetReadBuffer(4096)
		defer conn.Close()
		writers.Go(func() {
			for {
				if _, err := conn.Write(burst); err != nil {
					return
				}
			}
		})
	}
	if busy := percentile99(t, s.addrs[0]); busy > 3*calm+50*time.Millisecond {
		t.Errorf("99 of 100 questions by UDP took up to %v, %v without the others", busy, calm)
	}
	served := 0 // one after the other, none of which gives its place back before it was idle
	eventually(t, 10*time.Second, "16 places free again", func() bool {
		c := dialTCP(t, s.addrs[0])
		c.SetDeadline(time.Now().Add(time.Second))
		c.Write(framed(wire(nil)))
		if m, err := (&dns.Conn{Conn: c}).ReadMsg(); err == nil && short(m) == gatewayA {
			served++
		} else {
			c.Close()
		}
		return served == 16
	})
	if grown := residentMiB(t) - before; grown > 64 {
		t.Errorf("memory has grown by %d MiB", grown)
	}
}
