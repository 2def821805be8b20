package dnsd_test

import (
	"strings"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

func TestCheckRecord(t *testing.T) {
	for _, row := range []struct {
		name, rrtype, data string
		want               string // "" if the record is fine, else a part of the error
	}{
		{"_sip._tcp", "SRV", "0 5 5060 db", ""},
		{"@", "TXT", `"v=spf1" "-all"`, ""},
		{"", "MX", "10 mail", ""},
		{"*", "A", "10.0.0.1", ""},
		{"*.dev", "AAAA", "fd00::1", ""},
		{"UPPER", "a", "10.0.0.1", ""},
		{"_443._tcp", "TLSA", "3 1 1 " + strings.Repeat("ab", 32), ""},
		{"www", "HTTPS", `1 . alpn="h2"`, ""},
		{"caa", "CAA", `0 issue "ca.example"`, ""},
		{"n", "NAPTR", `100 10 "S" "SIP+D2U" "" _sip._udp`, ""},
		{"30.0.80.10.in-addr.arpa", "PTR", "db", ""},
		{"odd", "TYPE65280", `\# 2 0a0b`, ""},
		{"alias", "CNAME", "www.example.com.", ""},
		{"alias", "CNAME", "@", ""},
		{"semi", "TXT", `"a;b" ; a comment`, ""},

		{"x.", "A", "10.0.0.1", "outside the clone"},
		{"www.example.com.", "A", "10.0.0.1", "outside the clone"},
		{".", "A", "10.0.0.1", "outside the clone"},
		{"a..b", "A", "10.0.0.1", "want 1 to 63"},
		{strings.Repeat("a", 64), "A", "10.0.0.1", "want 1 to 63"},
		{strings.Repeat("a.", 100) + "a", "A", "10.0.0.1", "at most 190"},
		{"a b", "A", "10.0.0.1", "may only hold"},
		{"a\n$INCLUDE /etc/passwd\nb", "A", "10.0.0.1", "may only hold"},
		{"x.*", "A", "10.0.0.1", "may only hold"},
		{"x*", "A", "10.0.0.1", "may only hold"},
		{"ü", "A", "10.0.0.1", "may only hold"},

		{"@", "SOA", ". . 1 2 3 4 5", "belongs to the zone"},
		{"sub", "NS", "ns.example.com.", "belongs to the zone"},
		{"sub", "DNAME", "example.com.", "belongs to the zone"},
		{"sub", "DS", "1 8 2 " + strings.Repeat("ab", 32), "belongs to the zone"},
		{"sub", "NSEC", "a A", "belongs to the zone"},
		{"sub", "TYPE2", `\# 1 00`, "belongs to the zone"},
		{"sub", "ANY", "", "belongs to the zone"},
		{"sub", "TYPE252", `\# 0`, "belongs to the zone"},
		{"sub", "OPT", "", "belongs to the zone"},
		{"@", "CNAME", "db", "cannot be an alias"},
		{"", "cname", "db", "cannot be an alias"},

		{"x", "", "10.0.0.1", "not a type"},
		{"x", "BOGUS", "10.0.0.1", "not a type"},
		{"x", "A 10.0.0.9\nx IN TXT", "hi", "not a type"},
		{"x", "TYPE65536", `\# 0`, "not a type"},
		{"x", "TYPE", `\# 0`, "not a type"},
		{"x", "A", "", "not that of a A record"},
		{"x", "A", "10.0.0.256", "not that of a A record"},
		{"x", "A", "fd00::1", "not that of a A record"},
		{"x", "A", "10.0.0.1 10.0.0.2", "not that of a A record"},
		{"x", "A", "10.0.0.1\ny 5 IN A 10.0.0.2", "control character"},
		{"x", "A", "10.0.0.1\x00", "control character"},
		{"x", "SRV", "0 5 70000 db", "not that of a SRV record"},
		{"x", "SRV", "0 5 5060", "not that of a SRV record"},
		{"x", "TXT", `"open`, "not that of a TXT record"},
		{"x", "TXT", "( a", "TXT record"},
		{"x", "MX", "10 " + strings.Repeat("a", 64), "not that of a MX record"},
		{"x", "TXT", strings.Repeat("a ", 3000), "at most 4096"},
		{"x", "TXT", "", "it is empty"},
		{"x", "TXT", "; nothing", "it is empty"},
		{"x", "TYPE65280", `\# 3 0a0b`, "not that of a TYPE65280 record"},
	} {
		err := dnsd.CheckRecord(registry.Record{Name: row.name, Type: row.rrtype, TTL: 30, Data: row.data})
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%q %s %q: %v", row.name, row.rrtype, row.data, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%q %q %q: %v, want an error about %q", row.name, row.rrtype, row.data, err, row.want)
		case err != nil && len(err.Error()) > 500:
			t.Errorf("%q: the error is %d octets long", row.name, len(err.Error()))
		}
	}
	if err := dnsd.CheckRecord(registry.Record{Name: "x", Type: "A", TTL: 1 << 31, Data: "10.0.0.1"}); err == nil {
		t.Error("a TTL of 2^31 is taken")
	}
}

// TestBadRecords: a record that cannot be served hides no other, and the
// operator is told.
func TestBadRecords(t *testing.T) {
	c := shop("1234")
	c.Records = append(c.Records,
		registry.Record{Name: "bad", Type: "A", Data: "nonsense"},
		registry.Record{Name: "db", Type: "CNAME", Data: "www"},
		registry.Record{Name: "fine", Type: "A", Data: "10.80.0.60"})
	var log logBuffer
	s := serve(t, dnsd.Config{Directory: newWorld(t, c), Log: log.logger()}, nil)
	for name, want := range map[string]string{
		"bad.1234": noName, "fine.1234": "NOERROR; A 10.80.0.60", "db.1234": "NOERROR; A 10.80.0.30",
	} {
		if got := short(ask(t, s.addrs[0], absolute(name, zone), dns.TypeA)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for _, want := range []string{"nonsense", "other data stands at that name", "clone=1234"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not mention %q:\n%s", want, log.String())
		}
	}
}

// FuzzCheckRecord: a record that is taken is served as exactly one record of
// its type beneath the clone.
func FuzzCheckRecord(f *testing.F) {
	f.Add("_sip._tcp", "SRV", "0 5 5060 db")
	f.Add("@", "TXT", `"a" ( "b" )`)
	f.Add("*.x", "TYPE65280", `\# 2 0a0b`)
	f.Add("x", "HTTPS", `1 . alpn="h2" ; c`)
	f.Fuzz(func(t *testing.T, name, rrtype, data string) {
		rec := registry.Record{Name: name, Type: rrtype, TTL: 30, Data: data}
		if dnsd.CheckRecord(rec) != nil {
			return
		}
		rr, err := dnsd.ParseRecord(rec, "1234.zone.")
		if err != nil {
			t.Fatalf("taken, and not parsed: %v", err)
		}
		h := rr.Header()
		if !dns.IsSubDomain("1234.zone.", h.Name) || h.Class != dns.ClassINET || h.Ttl != 30 {
			t.Fatalf("became %v", rr)
		}
		wire := make([]byte, 65535)
		n, err := dns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			t.Fatalf("%v cannot be packed: %v", rr, err)
		}
		if back, _, err := dns.UnpackRR(wire[:n], 0); err != nil || back.Header().Rrtype != h.Rrtype {
			t.Fatalf("%v comes back as %v, %v", rr, back, err)
		}
	})
}
