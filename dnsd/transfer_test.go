package dnsd_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

var loopback = []dnsd.Secondary{{Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}}

// transfer asks for a copy of the zone and returns the records between, and
// with, the SOA records.
func transfer(t *testing.T, addr string, m *dns.Msg) ([]dns.RR, error) {
	t.Helper()
	envelopes, err := new(dns.Transfer).In(m, addr)
	if err != nil {
		return nil, err
	}
	var rrs []dns.RR
	for e := range envelopes {
		if e.Error != nil {
			return nil, e.Error
		}
		rrs = append(rrs, e.RR...)
	}
	return rrs, nil
}

// wholeZone returns the zone by AXFR as a set of records, and its serial number.
func wholeZone(t *testing.T, addr string) (map[string]bool, uint32) {
	t.Helper()
	rrs, err := transfer(t, addr, new(dns.Msg).SetAxfr(zone+"."))
	if err != nil {
		t.Fatal(err)
	}
	first, last := rrs[0].(*dns.SOA), rrs[len(rrs)-1].(*dns.SOA)
	if first.Serial != last.Serial {
		t.Fatalf("AXFR begins with %v and ends in %v", first, last)
	}
	set := map[string]bool{}
	for _, rr := range rrs[1 : len(rrs)-1] {
		if set[rr.String()] {
			t.Errorf("AXFR has %v twice", rr)
		}
		set[rr.String()] = true
	}
	return set, first.Serial
}

// update asks for what has changed since a serial number and applies it.
func update(t *testing.T, addr string, zoneAt map[string]bool, serial uint32) (map[string]bool, uint32) {
	t.Helper()
	rrs, err := transfer(t, addr, new(dns.Msg).SetIxfr(zone+".", serial, ".", "."))
	if err != nil {
		t.Fatal(err)
	}
	newest := rrs[0].(*dns.SOA).Serial
	if len(rrs) == 1 {
		return zoneAt, newest
	}
	if soa, ok := rrs[1].(*dns.SOA); !ok || soa.Serial != serial {
		t.Fatalf("IXFR since %d goes on with %v", serial, rrs[1])
	}
	out := map[string]bool{}
	for text := range zoneAt {
		out[text] = true
	}
	adding := false
	for _, rr := range rrs[2 : len(rrs)-1] {
		text := rr.String()
		switch _, isSOA := rr.(*dns.SOA); {
		case isSOA:
			adding = true
		case adding == out[text]:
			t.Errorf("IXFR since %d: adding=%t, but already so: %s", serial, adding, text)
		case adding:
			out[text] = true
		default:
			delete(out, text)
		}
	}
	return out, newest
}

// TestIncrementalTransfer changes clones at random: whatever copy of the zone
// somebody has, differences make it the present one.
func TestIncrementalTransfer(t *testing.T) {
	r := openRegistry(t)
	s := serve(t, dnsd.Config{Directory: r.View(), Secondaries: loopback}, nil)
	random := rand.New(rand.NewPCG(3, 4))
	type copyOf struct {
		set    map[string]bool
		serial uint32
	}
	var copies []copyOf
	alive := map[string]int{}
	for range 40 {
		set, serial := wholeZone(t, s.addrs[0])
		copies = append(copies, copyOf{set, serial})
		for range random.IntN(4) {
			id := fmt.Sprint(100 + random.IntN(6))
			if life := alive[id]; life > 0 && random.IntN(3) == 0 {
				if _, err := r.Unregister(t.Context(), registry.System, registry.ID(id), fmt.Sprint("life", life)); err != nil {
					t.Fatal(err)
				}
				alive[id] = -life
			} else {
				if life <= 0 {
					alive[id] = 1 - life
				}
				register(t, r, id, registry.Registration{
					Instance: fmt.Sprint("life", alive[id]),
					Services: map[string]registry.ServiceRegistration{fmt.Sprint("s", random.IntN(3)): {Endpoints: []string{"10.80.0.1:80"}, Default: random.IntN(2) == 0}},
					Hosts:    map[string][]string{fmt.Sprint("h", random.IntN(3)): {fmt.Sprint("10.80.0.", random.IntN(250))}},
				})
			}
		}
		present, newest := wholeZone(t, s.addrs[0])
		old := copies[random.IntN(len(copies))]
		got, serial := update(t, s.addrs[0], old.set, old.serial)
		if diff := cmp.Diff(present, got); diff != "" || serial != newest {
			t.Fatalf("from %d to %d, want %d (-want +got):\n%s", old.serial, serial, newest, diff)
		}
	}
}

// shifted is a view that has seen so many more changes.
type shifted struct {
	*registry.View
	by uint64
}

func (s shifted) Revision() uint64 { return s.View.Revision() + s.by }

func (s shifted) Changes(ctx context.Context, after uint64) ([]registry.Change, error) {
	changes, err := s.View.Changes(ctx, after-s.by)
	for i := range changes {
		changes[i].Revision += s.by
	}
	return changes, err
}

// TestSerialNumbers: the serial number is the last 32 bits of the revision, so
// it begins anew; what lies before and after is judged as by RFC 1982.
func TestSerialNumbers(t *testing.T) {
	r := openRegistry(t)
	const before = 1<<32 - 3
	view := shifted{r.View(), before - r.View().Revision()}
	s := serve(t, dnsd.Config{Directory: view, Secondaries: loopback}, nil)
	old, serial := wholeZone(t, s.addrs[0])
	if serial != before {
		t.Fatalf("serial = %d at revision %d", serial, view.Revision())
	}
	for i := range 6 {
		register(t, r, fmt.Sprint("c", i), registry.Registration{Instance: "i", Hosts: map[string][]string{"db": {"10.80.0.1"}}})
	}
	present, newest := wholeZone(t, s.addrs[0])
	if newest >= serial {
		t.Fatalf("serial = %d at revision %d, want its last 32 bits", newest, view.Revision())
	}
	got, at := update(t, s.addrs[0], old, serial)
	if diff := cmp.Diff(present, got); diff != "" || at != newest {
		t.Errorf("across the end of serial numbers to %d, want %d (-want +got):\n%s", at, newest, diff)
	}
	for _, row := range []struct {
		name   string
		serial uint32
		want   string // "soa" alone, the "whole" zone or "differences"
	}{
		{"the same", newest, "soa"},
		{"one ahead", newest + 1, "soa"},
		{"far ahead", newest + 1<<31 - 1, "soa"},
		{"opposite", newest + 1<<31, "whole"},
		{"far behind", newest - 1<<31 + 1, "whole"},
		{"before the journal", uint32(1<<32 - 4), "whole"},
		{"one behind", newest - 1, "differences"},
	} {
		rrs, err := transfer(t, s.addrs[0], new(dns.Msg).SetIxfr(zone+".", row.serial, ".", "."))
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		got := "soa"
		if len(rrs) > 1 {
			got = "whole"
			if _, isSOA := rrs[1].(*dns.SOA); isSOA {
				got = "differences"
			}
		}
		if got != row.want {
			t.Errorf("IXFR since %s: got %s, want %s", row.name, got, row.want)
		}
	}
}

// TestTransferRefused: a copy is for those who are listed, of a zone of ours,
// over TCP.
func TestTransferRefused(t *testing.T) {
	r := openRegistry(t)
	register(t, r, "1234", shopRegistration("1234"))
	s := serve(t, dnsd.Config{Directory: r.View(), Secondaries: loopback}, nil, &dnsd.Resolver{Clone: "1234"})
	none := serve(t, dnsd.Config{Directory: r.View()}, nil)
	axfr, ixfr := new(dns.Msg).SetAxfr(zone+"."), new(dns.Msg).SetIxfr(zone+".", 1, ".", ".")
	for _, row := range []struct {
		name, network, addr, from string
		m                         *dns.Msg
		rcode, answers            int
	}{
		{"AXFR over UDP", "udp", s.addrs[0], "127.0.0.1", axfr, dns.RcodeRefused, 0},
		{"IXFR over UDP", "udp", s.addrs[0], "127.0.0.1", ixfr, dns.RcodeSuccess, 1},
		{"IXFR over UDP, stranger", "udp", s.addrs[0], "127.0.0.2", ixfr, dns.RcodeRefused, 0},
		{"stranger", "tcp", s.addrs[0], "127.0.0.2", axfr, dns.RcodeRefused, 0},
		{"stranger, IXFR", "tcp", s.addrs[0], "127.0.0.2", ixfr, dns.RcodeRefused, 0},
		{"nobody is listed", "tcp", none.addrs[0], "127.0.0.1", axfr, dns.RcodeRefused, 0},
		{"a resolver", "tcp", s.addrs[1], "127.0.0.1", axfr, dns.RcodeRefused, 0},
		{"a name in the zone", "tcp", s.addrs[0], "127.0.0.1", new(dns.Msg).SetAxfr("1234." + zone + "."), dns.RcodeRefused, 0},
		{"another zone", "tcp", s.addrs[0], "127.0.0.1", new(dns.Msg).SetAxfr("example.com."), dns.RcodeRefused, 0},
	} {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(row.from)}}
		if row.network == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(row.from)}
		}
		reply, _, err := (&dns.Client{Net: row.network, Dialer: d}).Exchange(row.m, row.addr)
		if err != nil || reply.Rcode != row.rcode || len(reply.Answer) != row.answers {
			t.Errorf("%s: got %v, %v; want %s with %d records", row.name, reply, err, dns.RcodeToString[row.rcode], row.answers)
		}
	}
}

// TestTransfersAreBounded: secondaries that do not read hold up neither
// questions nor more than so many transfers.
func TestTransfersAreBounded(t *testing.T) {
	r := openRegistry(t)
	reg := registry.Registration{Instance: "i", Hosts: map[string][]string{}}
	for i := range 100 {
		for range 3 {
			reg.Hosts[fmt.Sprint("host", i)] = append(reg.Hosts[fmt.Sprint("host", i)], fmt.Sprintf("10.80.%d.%d", i, len(reg.Hosts[fmt.Sprint("host", i)])))
		}
	}
	for i := range 400 {
		register(t, r, fmt.Sprint("c", i), reg)
	}
	s := serveWith(t, dnsd.Config{Directory: r.View(), Secondaries: loopback}, func(s *dnsd.Server) { s.SetTiming(0, 0, 0, 0, time.Second) }, nil)
	for range 4 {
		c := dialTCP(t, s.addrs[0])
		c.(*net.TCPConn).SetReadBuffer(4096)
		c.Write(framed(pack(new(dns.Msg).SetAxfr(zone + "."))))
		first := make([]byte, 100)
		if _, err := io.ReadFull(c, first); err != nil { // it has begun
			t.Fatal(err)
		}
	}
	fifth, _, err := (&dns.Client{Net: "tcp"}).Exchange(new(dns.Msg).SetAxfr(zone+"."), s.addrs[0])
	if err != nil || fifth.Rcode != dns.RcodeServerFailure {
		t.Errorf("with 4 transfers under way, another gets %v, %v; want SERVFAIL", fifth, err)
	}
	for range 100 {
		start := time.Now()
		if got := short(ask(t, s.addrs[0], "host1.c7."+zone+".", dns.TypeAAAA)); got != noData || time.Since(start) > time.Second {
			t.Fatalf("meanwhile a question gets %s after %v", got, time.Since(start))
		}
	}
	eventually(t, 10*time.Second, "a place free again", func() bool {
		rrs, err := transfer(t, s.addrs[0], new(dns.Msg).SetAxfr(zone+"."))
		return err == nil && len(rrs) > 400*300
	})
}

// TestNotifyIsRepeated: a secondary that does not answer is told again, one
// that does is left alone until there is something new.
func TestNotifyIsRepeated(t *testing.T) {
	r := openRegistry(t)
	register(t, r, "1234", shopRegistration("1234"))
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer := []dnsd.Secondary{{Notify: []netip.AddrPort{conn.LocalAddr().(*net.UDPAddr).AddrPort()}}}
	serve(t, dnsd.Config{Directory: r.View(), Secondaries: peer}, nil)
	read := func(wait time.Duration) (*dns.Msg, net.Addr) {
		conn.SetReadDeadline(time.Now().Add(wait))
		buf := make([]byte, 512)
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return nil, nil
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatal(err)
		}
		return m, from
	}
	var told []string
	for len(told) < 3 {
		m, from := read(3 * time.Second)
		if m == nil {
			t.Fatalf("told of %v and no more", told)
		}
		if m.Opcode != dns.OpcodeNotify || m.Question[0].Qtype != dns.TypeSOA || !m.Authoritative || len(m.Answer) != 1 {
			t.Errorf("got %v, want a NOTIFY", m)
		}
		told = append(told, m.Question[0].Name)
		if len(told) > 1 { // the first one is lost
			conn.WriteTo(pack(new(dns.Msg).SetReply(m)), from)
		}
	}
	if want := []string{zone + ".", zone + ".", alias + "."}; !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
	if m, _ := read(300 * time.Millisecond); m != nil {
		t.Errorf("told again without a change: %v", m)
	}
	register(t, r, "1235", shopRegistration("1235"))
	if m, _ := read(time.Second); m == nil {
		t.Error("not told of a change")
	}
}
