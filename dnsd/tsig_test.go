package dnsd_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// secretOf returns a secret of 32 octets, each of them this one.
func secretOf(octet string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(octet, 32)))
}

func transferKey(t *testing.T, name, secret string) *dnsd.TransferKey {
	t.Helper()
	k, err := dnsd.ParseTransferKey("hmac-sha256:" + name + ":" + secret + "\n")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseTransferKey(t *testing.T) {
	for text, want := range map[string]string{
		"hmac-sha256:xfr.test:" + secretOf("s"):         "",
		"hmac-sha256:Xfr.Test.:" + secretOf("s"):        "",
		"":                                              "want hmac-sha256:NAME:SECRET",
		"xfr.test:" + secretOf("s"):                     "want hmac-sha256:NAME:SECRET",
		"hmac-md5:xfr.test:" + secretOf("s"):            "want hmac-sha256:NAME:SECRET",
		"hmac-sha256::" + secretOf("s"):                 "is no name",
		"hmac-sha256:a..b:" + secretOf("s"):             "is no name",
		"hmac-sha256:xfr.test:":                         "has 0 octets",
		"hmac-sha256:xfr.test:c2hvcnQ=":                 "has 5 octets",
		"hmac-sha256:xfr.test:!" + secretOf("s"):        "not in base64",
		"hmac-sha256:xfr.test:" + secretOf("s") + "\nx": "not in base64",
	} {
		_, err := dnsd.ParseTransferKey(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if err != nil && len(text) > 40 && strings.Contains(err.Error(), secretOf("s")) {
			t.Errorf("the error gives the secret away: %v", err)
		}
	}
}

// TestSignedTransfers: who has a key gets a copy if it signs with that key, in
// time, and nobody else does, wherever it asks from.
func TestSignedTransfers(t *testing.T) {
	r := openRegistry(t)
	for i := range 100 { // copies take several messages
		register(t, r, fmt.Sprint(1000+i), shopRegistration(fmt.Sprint(1000+i)))
	}
	network := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	reg := prometheus.NewRegistry()
	s := serve(t, dnsd.Config{Directory: r.View(), Metrics: reg, Secondaries: []dnsd.Secondary{
		{Clients: network("127.0.0.1/32"), Key: transferKey(t, "one.test", secretOf("1"))},
		{Clients: network("127.0.0.2/32"), Key: transferKey(t, "two.test", secretOf("2"))},
		{Clients: network("127.0.0.3/32")},
	}}, nil)
	const now, long = 0, 3600 * time.Second
	for _, row := range []struct {
		name, from, key, secret string
		algorithm               string
		ago                     time.Duration
		want                    string
	}{
		{"right", "127.0.0.1", "one.test.", secretOf("1"), dns.HmacSHA256, now, "copy"},
		{"right, in capitals", "127.0.0.1", "ONE.test.", secretOf("1"), dns.HmacSHA256, now, "copy"},
		{"no signature", "127.0.0.1", "", "", "", now, "REFUSED"},
		{"no signature where none is wanted", "127.0.0.3", "", "", "", now, "copy"},
		{"a signature where none is wanted", "127.0.0.3", "one.test.", secretOf("1"), dns.HmacSHA256, now, "REFUSED"},
		{"the other's key", "127.0.0.1", "two.test.", secretOf("2"), dns.HmacSHA256, now, "REFUSED"},
		{"from elsewhere", "127.0.0.4", "one.test.", secretOf("1"), dns.HmacSHA256, now, "REFUSED"},
		{"another secret", "127.0.0.1", "one.test.", secretOf("2"), dns.HmacSHA256, now, "NOTAUTH BADSIG"},
		{"another name", "127.0.0.1", "three.test.", secretOf("1"), dns.HmacSHA256, now, "NOTAUTH BADKEY"},
		{"another algorithm", "127.0.0.1", "one.test.", secretOf("1"), dns.HmacSHA512, now, "NOTAUTH BADKEY"},
		{"an hour ago", "127.0.0.1", "one.test.", secretOf("1"), dns.HmacSHA256, long, "NOTAUTH BADTIME"},
		{"in an hour", "127.0.0.1", "one.test.", secretOf("1"), dns.HmacSHA256, -long, "NOTAUTH BADTIME"},
	} {
		for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
			m := new(dns.Msg).SetAxfr(zone + ".")
			if qtype == dns.TypeIXFR {
				m.SetIxfr(zone+".", 1, ".", ".")
			}
			if got := signedTransfer(t, s.addrs[0], row.from, row.key, row.secret, row.algorithm, m, time.Now().Add(-row.ago)); got != row.want {
				t.Errorf("%s, %s: got %s, want %s", row.name, dns.Type(qtype), got, row.want)
			}
		}
	}
	if n := gather(t, reg)["clonegate_dns_transfers_total signature badsig"]; n != 2 {
		t.Errorf("%v bad signatures were counted, want 2", n)
	}
}

// signedTransfer asks for a copy and says what came of it: "copy", if all of
// its messages are signed as they should be, or the rcode and the error of
// the signature.
func signedTransfer(t *testing.T, addr, from, key, secret, algorithm string, m *dns.Msg, at time.Time) string {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	tr := new(dns.Transfer)
	if key != "" {
		tr.TsigSecret = map[string]string{key: secret, strings.ToLower(key): secret}
		m.SetTsig(key, algorithm, 300, at.Unix())
	}
	reply, _, err := (&dns.Client{Net: "tcp", Dialer: d, TsigSecret: tr.TsigSecret}).Exchange(m.Copy(), addr)
	if reply == nil {
		return err.Error()
	}
	if reply.Rcode != dns.RcodeSuccess {
		got := dns.RcodeToString[reply.Rcode]
		if sig := reply.IsTsig(); sig != nil && sig.Error != 0 {
			got += " " + dns.RcodeToString[int(sig.Error)]
		}
		return got
	}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tr.Conn = &dns.Conn{Conn: c, TsigSecret: tr.TsigSecret}
	envelopes, err := tr.In(m, addr)
	if err != nil {
		return err.Error()
	}
	messages := 0
	for e := range envelopes { // the library looks at the signatures
		if e.Error != nil {
			return e.Error.Error()
		}
		messages++
	}
	if messages < 3 || (reply.IsTsig() != nil) != (key != "") {
		t.Errorf("the copy came in %d messages, too few to test signatures, or without them", messages)
	}
	return "copy"
}

// TestSignedQuestions: secondaries sign their questions for the serial number
// as well, and want signed answers; a bad signature is never ignored.
func TestSignedQuestions(t *testing.T) {
	r := openRegistry(t)
	reg := shopRegistration("1234")
	for i := range 6 { // 1,200 octets or so
		reg.Records = append(reg.Records, registry.Record{Name: "many", Type: "TXT", Data: fmt.Sprintf("%d%s", i, strings.Repeat("x", 175))})
	}
	register(t, r, "1234", reg)
	s := serve(t, dnsd.Config{Directory: r.View(), Secondaries: []dnsd.Secondary{
		{Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Key: transferKey(t, "one.test", secretOf("1"))},
	}}, nil)
	for _, row := range []struct {
		name, secret  string
		network, asks string
		want          string
	}{
		{"by UDP", secretOf("1"), "udp", zone + ".", "NOERROR"},
		{"by TCP", secretOf("1"), "tcp", zone + ".", "NOERROR"},
		{"a name that is not there", secretOf("1"), "udp", "no." + zone + ".", "NXDOMAIN"},
		{"too large with the signature", secretOf("1"), "udp", "many.1234." + zone + ".", "NOERROR TC"},
		{"the same by TCP", secretOf("1"), "tcp", "many.1234." + zone + ".", "NOERROR"},
		{"another secret", secretOf("2"), "udp", zone + ".", "NOTAUTH"},
		{"another secret by TCP", secretOf("2"), "tcp", zone + ".", "NOTAUTH"},
	} {
		m := new(dns.Msg).SetQuestion(row.asks, dns.TypeTXT)
		m.SetEdns0(1232, false)
		m.SetTsig("one.test.", dns.HmacSHA256, 300, time.Now().Unix())
		c := &dns.Client{Net: row.network, TsigSecret: map[string]string{"one.test.": row.secret}, UDPSize: 1232}
		reply, _, err := c.Exchange(m, s.addrs[0])
		if reply == nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		got := dns.RcodeToString[reply.Rcode]
		if reply.Truncated {
			got += " TC"
		}
		if got != row.want || (err == nil) != (row.secret == secretOf("1")) || reply.IsTsig() == nil {
			t.Errorf("%s: got %s, %v, want %s, signed", row.name, got, err, row.want)
		}
	}
	// A TSIG record must be the last.
	m := new(dns.Msg).SetQuestion(zone+".", dns.TypeSOA)
	m.SetTsig("one.test.", dns.HmacSHA256, 300, time.Now().Unix())
	m.SetEdns0(1232, false)
	if reply := send(t, s.addrs[0], m); reply.Rcode != dns.RcodeFormatError {
		t.Errorf("TSIG that is not the last record: %s", dns.RcodeToString[reply.Rcode])
	}
	if _, err := dnsd.New(dnsd.Config{Directory: r.View(), Gateway: addrs("192.0.2.1"), Secondaries: []dnsd.Secondary{
		{Key: transferKey(t, "one.test", secretOf("1"))}, {Key: transferKey(t, "one.test", secretOf("2"))},
	}}); err == nil {
		t.Error("one key has two secrets")
	}
}

// TestSignedSecondary has NSD keep a copy that is signed all the way: NOTIFY,
// AXFR and IXFR. With another secret it gets none.
func TestSignedSecondary(t *testing.T) {
	program(t, "nsd")
	r := openRegistry(t)
	register(t, r, "1234", shopRegistration("1234"))
	good, bad, metrics := freePort(t), freePort(t), prometheus.NewRegistry()
	s := serve(t, dnsd.Config{Directory: r.View(), Metrics: metrics, Secondaries: []dnsd.Secondary{{
		Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Notify: []netip.AddrPort{good, bad},
		Key: transferKey(t, "xfr.test", secretOf("s")),
	}}}, nil)
	ours := netip.MustParseAddrPort(s.addrs[0])
	startDaemon(t, "nsd", "-d", "-c", nsdConf(t, good.Port(), ours.Port(), secretOf("s")))
	startDaemon(t, "nsd", "-d", "-c", nsdConf(t, bad.Port(), ours.Port(), secretOf("x")))
	same := func() bool { return serialOf(good.String(), zone) == serialOf(ours.String(), zone) }
	eventually(t, 10*time.Second, "loaded by NSD", same)
	register(t, r, "99", shopRegistration("99"))
	eventually(t, 3*time.Second, "told, and level with us", same)
	if !resolves(good.String(), "www-99."+zone+".") {
		t.Error("NSD does not know the new clone")
	}
	eventually(t, 10*time.Second, "refused for its signature", func() bool {
		return gather(t, metrics)["clonegate_dns_transfers_total signature badsig"] > 0
	})
	if serial := serialOf(bad.String(), zone); serial != 0 {
		t.Errorf("with another secret NSD has the zone at %d", serial)
	}
	got := gather(t, metrics)
	if got["clonegate_dns_transfers_total ixfr ok"] < 1 || got["clonegate_dns_notifies_total ok"] < 1 {
		t.Errorf("no differences were sent, or no NOTIFY was answered: %v", got)
	}
}
