package dnsd_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func framed(p []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
}

// closedWithin reports whether the server closes the connection in time.
func closedWithin(c net.Conn, d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	ne, ok := err.(net.Error)
	return !ok || !ne.Timeout()
}

// TestPipelining: answers come when they are ready, a slow one holds up none.
func TestPipelining(t *testing.T) {
	release := make(chan struct{})
	up := newUpstream(t, func(q asked, send func([]byte)) {
		<-release
		send(pack(replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)))
	})
	r := to(up)
	r.Clone = "1234"
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, r)
	c := &dns.Conn{Conn: dialTCP(t, s.addrs[0])}
	names := []string{"slow.example.", "db.", "www-1234." + zone + "."}
	var all []byte
	for i, name := range names {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.Id = uint16(i)
		all = append(all, framed(pack(m))...)
	}
	// One octet at a time at first, the rest at once.
	for _, b := range all[:20] {
		c.Conn.Write([]byte{b})
	}
	c.Conn.Write(all[20:])
	var order []uint16
	for range names {
		m, err := c.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Answer) != 1 || m.Question[0].Name != names[m.Id] {
			t.Errorf("got %v for question %d", m, m.Id)
		}
		order = append(order, m.Id)
		if len(order) == 2 {
			close(release)
		}
	}
	if order[2] != 0 {
		t.Errorf("answers came as %v, want the slow one last", order)
	}
}

func TestTCPHostile(t *testing.T) {
	s := serveWith(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, func(s *dnsd.Server) {
		s.SetTiming(0, 0, 0, 0, 300*time.Millisecond)
	}, nil)
	for _, row := range []struct {
		name string
		send []byte
	}{
		{"nothing", nil},
		{"half a length", []byte{0}},
		{"a length and one octet", []byte{0xff, 0xff, 1}},
		{"a message of no octets", []byte{0, 0}},
		{"a message too short for a header", framed([]byte("junk"))},
		{"a reply", framed(header(0x8000, 0))},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := dialTCP(t, s.addrs[0])
			c.Write(row.send)
			if !closedWithin(c, 2*time.Second) {
				t.Error("the connection stays open")
			}
		})
	}
	t.Run("one octet at a time", func(t *testing.T) {
		t.Parallel()
		c := dialTCP(t, s.addrs[0])
		start := time.Now()
		for _, b := range append([]byte{0xff, 0xff}, make([]byte, 1000)...) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("a message may take %v to arrive", took)
		}
	})
	t.Run("a format error leaves the connection open", func(t *testing.T) {
		t.Parallel()
		c := &dns.Conn{Conn: dialTCP(t, s.addrs[0])}
		c.Conn.Write(framed(header(0x100, 2)))
		if m, err := c.ReadMsg(); err != nil || m.Rcode != dns.RcodeFormatError {
			t.Fatalf("got %v, %v; want FORMERR", m, err)
		}
		c.Conn.Write(framed(wire(nil)))
		if m, err := c.ReadMsg(); err != nil || short(m) != gatewayA {
			t.Errorf("got %v, %v", m, err)
		}
	})
}

// TestTCPConnections: one source gets so many connections; more are closed,
// and the places of those that end are free again.
func TestTCPConnections(t *testing.T) {
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil)
	var open []net.Conn
	answered := func(c net.Conn) bool {
		c.SetDeadline(time.Now().Add(2 * time.Second))
		c.Write(framed(wire(nil)))
		m, err := (&dns.Conn{Conn: c}).ReadMsg()
		return err == nil && short(m) == gatewayA
	}
	for i := range 16 {
		c := dialTCP(t, s.addrs[0])
		open = append(open, c)
		if !answered(c) {
			t.Fatalf("connection %d is not served", i+1)
		}
	}
	if answered(dialTCP(t, s.addrs[0])) {
		t.Error("connection 17 of one source is served")
	}
	if got := short(ask(t, s.addrs[0], "www-1234."+zone+".", dns.TypeA)); got != gatewayA {
		t.Errorf("UDP meanwhile: %s", got)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	other, err := d.DialContext(t.Context(), "tcp", s.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if !answered(other) {
		t.Error("another source is not served")
	}
	open[0].Close()
	for deadline := time.Now().Add(5 * time.Second); !answered(dialTCP(t, s.addrs[0])); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the place of a connection that ended is not free again")
		}
	}
}
