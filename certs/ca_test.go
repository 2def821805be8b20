package certs_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/certs"
)

func TestRoot(t *testing.T) {
	ca, cfg := mustCA(t)
	root := mustParse(t, ca.RootPEM())
	if !root.IsCA || root.MaxPathLen != 1 {
		t.Errorf("root: CA %t, path length %d; want true, 1", root.IsCA, root.MaxPathLen)
	}
	if !root.PermittedDNSDomainsCritical || !slices.Equal(root.PermittedDNSDomains, []string{zone, alias}) {
		t.Errorf("root: permitted %v, critical %t; want the zones, critical", root.PermittedDNSDomains, root.PermittedDNSDomainsCritical)
	}
	if len(root.SubjectKeyId) == 0 || root.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Errorf("root: subject key %x, usage %b; want both", root.SubjectKeyId, root.KeyUsage)
	}
	if years := time.Until(root.NotAfter).Hours() / 24 / 365; years < 9.9 || years > 10.1 {
		t.Errorf("root: ends in %.1f years; want 10", years)
	}
	if since := time.Since(root.NotBefore); since < time.Hour || since > 61*time.Minute {
		t.Errorf("root: began %s ago; want an hour", since)
	}
	signer, _ := steal(t, cfg.Dir)
	if !signer.MaxPathLenZero || !signer.PermittedDNSDomainsCritical || !slices.Equal(signer.PermittedDNSDomains, root.PermittedDNSDomains) {
		t.Errorf("signer: path length %d, permitted %v; want 0 and as the root", signer.MaxPathLen, signer.PermittedDNSDomains)
	}
	for name, want := range map[string]os.FileMode{"ca.key": 0o600, "ca.pem": 0o644} {
		info, err := os.Stat(filepath.Join(cfg.Dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	if !bytes.Equal(mustRead(t, filepath.Join(cfg.Dir, "ca.pem")), ca.RootPEM()) {
		t.Error("ca.pem differs from RootPEM")
	}
	again, err := certs.NewCA(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.RootPEM(), ca.RootPEM()) {
		t.Error("the second start has another root")
	}
}

func TestLongZone(t *testing.T) {
	long := strings.Repeat("a-very-long-label.", 10) + "example"
	ca, _ := mustCA(t, func(c *certs.CAConfig) { c.Zones = mustZones(t, long) })
	leaf := present(t, ca.GetCertificate, "www-1234."+long)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool(ca.RootPEM()), Intermediates: chain(t, ca, ""), DNSName: "www-1234." + long}); err != nil {
		t.Error(err)
	}
}

// chain returns what is presented behind the leaf.
func chain(t *testing.T, ca *certs.CA, name string) *x509.CertPool {
	t.Helper()
	c, err := ca.GetCertificate(hello(name))
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		p.AddCert(cert)
	}
	return p
}

func TestLeaf(t *testing.T) {
	ca, _ := mustCA(t)
	clone := []string{
		"1234." + zone, "www-1234." + zone, "pr-87." + zone, "www-pr-87." + zone,
		"www.1234." + zone, "www.pr-87." + zone, "*.1234." + zone, "*.pr-87." + zone, "*." + zone,
		"1234." + alias, "www-1234." + alias, "pr-87." + alias, "www-pr-87." + alias,
		"www.1234." + alias, "www.pr-87." + alias, "*.1234." + alias, "*.pr-87." + alias, "*." + alias,
	}
	base := []string{zone, "*." + zone, alias, "*." + alias}
	for _, tc := range []struct {
		name, sni string
		want      []string
	}{
		{"a service", "www-1234." + zone, clone},
		{"the default service", "1234." + zone, clone},
		{"a human name", "www-pr-87." + zone, clone},
		{"nested", "www.1234." + zone, clone},
		{"in the alias", "1234." + alias, clone},
		{"in capitals", "WWW-1234.Test_Envs.LOCALHOST", clone},
		{"nobody's", "www-9999." + zone, base},
		{"the zone", zone, base},
		{"none", "", base},
		{"another zone", "www.example.com", base},
		{"a zone's tail", "1234.not" + zone, base},
		{"250 letters", strings.Repeat("a", 250), base},
		{"250 letters in the zone", strings.Repeat("a", 231) + "." + zone, base},
		{"70,000 letters", strings.Repeat("a", 70_000) + "." + zone, base},
		{"dots", "..", base},
		{"dots in the zone", "...." + zone, base},
		{"a dot and the zone", "." + zone, base},
		{"an IPv4 address", "127.0.0.1", base},
		{"an IPv6 address", "::1", base},
		{"a trailing dot", "1234." + zone + ".", base}, // crypto/tls refuses it before (RFC 6066 section 3)
		{"not UTF-8", "\xff\x00." + zone, base},
		{"punycode", "xn--1234-." + zone, base},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leaf := present(t, ca.GetCertificate, tc.sni)
			if !slices.Equal(leaf.DNSNames, tc.want) {
				t.Errorf("names for %.80q: got %q, want %q", tc.sni, leaf.DNSNames, tc.want)
			}
		})
	}
}

// FuzzGetCertificate sends server names that clients may or may not: each gets
// the clone's leaf if it is one of its names, else the base leaf.
func FuzzGetCertificate(f *testing.F) {
	for _, s := range []string{"", "www-1234." + zone, "WWW.1234." + alias, "a.b.1234." + zone, "..", zone, "\xff", "x." + zone + "."} {
		f.Add(s)
	}
	ca, _ := mustCA(f)
	f.Fuzz(func(t *testing.T, name string) {
		leaf := present(t, ca.GetCertificate, name)
		isBase := slices.Contains(leaf.DNSNames, zone)
		if isBase == (leaf.VerifyHostname("www.1234."+zone) == nil) {
			t.Errorf("names for %q: got %q; want either the clone's or the base leaf", name, leaf.DNSNames)
		}
		if isBase && slices.Contains(present(t, ca.GetCertificate, "1234."+zone).DNSNames, strings.ToLower(name)) {
			t.Errorf("%q is a name of the clone and got the base leaf", name)
		}
	})
}

func TestLeafForm(t *testing.T) {
	ca, _ := mustCA(t)
	root := mustParse(t, ca.RootPEM())
	leaf := present(t, ca.GetCertificate, "www-1234."+zone)
	if got := leaf.NotAfter.Sub(leaf.NotBefore); got != 7*24*time.Hour+time.Hour {
		t.Errorf("life: got %s, want 7 days and an hour", got)
	}
	if leaf.SerialNumber.BitLen() < 100 {
		t.Errorf("serial %x: got %d bits; want about 159 random ones", leaf.SerialNumber, leaf.SerialNumber.BitLen())
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("leaf: CA %t, usage %b, %v; want a server's", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	for _, e := range leaf.Extensions {
		if e.Id.String() == "2.5.29.17" && !e.Critical {
			t.Error("alternative names are not critical beside an empty subject: Java refuses that")
		}
	}
	if len(leaf.AuthorityKeyId) == 0 || bytes.Equal(leaf.AuthorityKeyId, root.SubjectKeyId) {
		t.Errorf("authority key: got %x, want the signer's", leaf.AuthorityKeyId)
	}
	other := present(t, ca.GetCertificate, "")
	if bytes.Equal(leaf.RawSubjectPublicKeyInfo, other.RawSubjectPublicKeyInfo) {
		t.Error("two leaves share a key")
	}
}

func TestTooLongNamesAreLeftOut(t *testing.T) {
	long := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 63)
	ca, _ := mustCA(t, func(c *certs.CAConfig) {
		c.Names = func(string) (string, []string) { return "k", []string{long, "1"} }
	})
	want := []string{"1." + zone, "*." + zone, "1." + alias, "*." + alias}
	if got := present(t, ca.GetCertificate, "1."+zone).DNSNames; !slices.Equal(got, want) {
		t.Errorf("names: got %q, want %q", got, want)
	}
}

// TestManyNames has a clone with a thousand names open a connection.
func TestManyNames(t *testing.T) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("service%d-1234", i))
	}
	ca, _ := mustCA(t, func(c *certs.CAConfig) {
		c.Names = func(string) (string, []string) { return "1234", names }
	})
	port := serve(t, ca.GetCertificate)
	conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{RootCAs: pool(ca.RootPEM()), ServerName: "service999-1234." + zone})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestNamesChange(t *testing.T) {
	var revision atomic.Int64
	ca, _ := mustCA(t, func(c *certs.CAConfig) {
		c.Names = func(string) (string, []string) {
			n := revision.Load()
			return fmt.Sprintf("1234@%d", n), []string{"1234", fmt.Sprintf("alias%d", n)}
		}
	})
	first := present(t, ca.GetCertificate, "1234."+zone)
	same := present(t, ca.GetCertificate, "1234."+zone)
	revision.Add(1)
	second := present(t, ca.GetCertificate, "1234."+zone)
	if !first.Equal(same) {
		t.Error("a second handshake got another leaf")
	}
	if !slices.Contains(second.DNSNames, "alias1."+zone) || slices.Contains(second.DNSNames, "alias0."+zone) {
		t.Errorf("names after a change: got %q; want alias1, not alias0", second.DNSNames)
	}
}

// TestScanner asks for 10,000 random names: nothing is signed or remembered
// for them, and the clone's leaf stays.
func TestScanner(t *testing.T) {
	metrics := prometheus.NewRegistry()
	ca, _ := mustCA(t, func(c *certs.CAConfig) { c.Metrics, c.Leaves = metrics, 2 })
	before := present(t, ca.GetCertificate, "www-1234."+zone)
	for i := range 10_000 {
		random := make([]byte, 1+i%40)
		rand.Read(random)
		if _, err := ca.GetCertificate(hello(hex.EncodeToString(random) + "." + zone)); err != nil {
			t.Fatal(err)
		}
	}
	if after := present(t, ca.GetCertificate, "www-1234."+zone); !after.Equal(before) {
		t.Error("the clone's leaf was forgotten")
	}
	wantMetric(t, metrics, "clonegate_certs_leaves_issued_total", 2) // the clone's and the base leaf
	wantMetric(t, metrics, "clonegate_certs_leaves_cached", 1)
}

func TestLeavesAreBounded(t *testing.T) {
	metrics := prometheus.NewRegistry()
	ca, _ := mustCA(t, func(c *certs.CAConfig) {
		c.Metrics, c.Leaves = metrics, 10
		c.Names = func(sub string) (string, []string) { return sub, []string{sub} }
	})
	for i := range 25 {
		present(t, ca.GetCertificate, fmt.Sprintf("%d.%s", i, zone))
	}
	wantMetric(t, metrics, "clonegate_certs_leaves_cached", 10)
	wantMetric(t, metrics, "clonegate_certs_leaf_evictions_total", 15)
	wantMetric(t, metrics, "clonegate_certs_leaves_issued_total", 25)
	root := mustParse(t, ca.RootPEM())
	wantMetric(t, metrics, "clonegate_certs_root_expiry_timestamp_seconds", float64(root.NotAfter.Unix()))
	leaf := present(t, ca.GetCertificate, "24."+zone)
	wantMetric(t, metrics, "clonegate_certs_leaf_expiry_timestamp_seconds", float64(leaf.NotAfter.Unix()))
}

func TestForget(t *testing.T) {
	metrics := prometheus.NewRegistry()
	ca, _ := mustCA(t, func(c *certs.CAConfig) { c.Metrics = metrics })
	before := present(t, ca.GetCertificate, "www-1234."+zone)
	ca.Forget("1234@1")
	ca.Forget("nobody's")
	wantMetric(t, metrics, "clonegate_certs_leaves_cached", 0)
	if after := present(t, ca.GetCertificate, "www-1234."+zone); after.Equal(before) {
		t.Error("a leaf that was forgotten is presented again")
	}
	wantMetric(t, metrics, "clonegate_certs_leaf_evictions_total", 0)
}

func wantMetric(t *testing.T, from prometheus.Gatherer, name string, want float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			if got := m.GetCounter().GetValue() + m.GetGauge().GetValue(); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
			return
		}
	}
	t.Errorf("%s is not there", name)
}

func TestTwoCAsOnOneRegisterer(t *testing.T) {
	metrics := prometheus.NewRegistry()
	mustCA(t, func(c *certs.CAConfig) { c.Metrics = metrics })
	_, err := certs.NewCA(certs.CAConfig{Dir: t.TempDir(), Zones: mustZones(t, zone), Names: clone1234, Metrics: metrics})
	if err == nil || !strings.Contains(err.Error(), "metrics") {
		t.Errorf("got error %v, want one about metrics", err)
	}
}

// TestFirstHandshakesSignOnce has many handshakes begin at once.
func TestFirstHandshakesSignOnce(t *testing.T) {
	metrics := prometheus.NewRegistry()
	ca, _ := mustCA(t, func(c *certs.CAConfig) { c.Metrics = metrics })
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 100 {
		wg.Go(func() {
			<-start
			if _, err := ca.GetCertificate(hello("www-1234." + zone)); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	wantMetric(t, metrics, "clonegate_certs_leaves_issued_total", 1)
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, name := range []string{"www-1234." + zone, ""} {
			ca, _ := mustCA(t)
			first := present(t, ca.GetCertificate, name)
			time.Sleep(112*time.Hour - time.Second) // two thirds of 7 days
			if !present(t, ca.GetCertificate, name).Equal(first) {
				t.Errorf("leaf for %q: replaced before two thirds of its life", name)
			}
			time.Sleep(time.Second)
			second := present(t, ca.GetCertificate, name)
			if second.Equal(first) {
				t.Errorf("leaf for %q: not replaced after two thirds of its life", name)
			}
			time.Sleep(1000 * time.Hour)
			if third := present(t, ca.GetCertificate, name); time.Now().After(third.NotAfter) {
				t.Errorf("leaf for %q: expired at %s, presented at %s", name, third.NotAfter, time.Now())
			}
		}
	})
}

func TestLeafEndsWithTheSigner(t *testing.T) {
	clock := time.Now()
	ca, _ := mustCA(t, func(c *certs.CAConfig) { c.Now = func() time.Time { return clock } })
	end := mustParse(t, ca.RootPEM()).NotAfter
	clock = end.Add(-time.Hour)
	if got := present(t, ca.GetCertificate, "").NotAfter; got.After(end) {
		t.Errorf("leaf: ends at %s, after its root at %s", got, end)
	}
}

// TestClockGoesBack presents no leaf that was signed in what is now the future.
func TestClockGoesBack(t *testing.T) {
	clock := time.Now().Add(48 * time.Hour)
	ca, _ := mustCA(t, func(c *certs.CAConfig) { c.Now = func() time.Time { return clock } })
	present(t, ca.GetCertificate, "")
	clock = clock.Add(-47 * time.Hour)
	if got := present(t, ca.GetCertificate, "").NotBefore; got.After(clock) {
		t.Errorf("leaf: valid from %s, presented at %s", got, clock)
	}
}

func TestServerCertificate(t *testing.T) {
	ca, _ := mustCA(t)
	for _, tc := range []struct {
		name  string
		names []string
		addrs []string
		fail  string
	}{
		{name: "private addresses", addrs: []string{"10.1.2.3", "192.168.0.1", "127.0.0.1", "::1", "fd00::1", "100.64.0.1"}},
		{name: "mapped", addrs: []string{"::ffff:10.1.2.3"}},
		{name: "with a zone", addrs: []string{"fd00::1%eth0"}},
		{name: "a name in the zone", names: []string{"Api." + zone + "."}},
		{name: "a name outside", names: []string{"api.example.com"}, fail: "certificate files"},
		{name: "localhost", names: []string{"localhost"}, fail: "localhost"},
		{name: "a public address", addrs: []string{"8.8.8.8"}, fail: "certificate files"},
		{name: "a public IPv6 address", addrs: []string{"2001:db8::1"}, fail: "2001:db8::1"},
		{name: "no name", names: []string{"a b"}, fail: "not allowed"},
		{name: "nothing", fail: "needs a name or an address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var addrs []netip.Addr
			for _, a := range tc.addrs {
				addrs = append(addrs, netip.MustParseAddr(a))
			}
			get, err := ca.ServerCertificate(tc.names, addrs)
			if tc.fail != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fail) {
					t.Fatalf("got error %v; want one with %q", err, tc.fail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			leaf := present(t, get, "anything")
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool(ca.RootPEM()), Intermediates: chain(t, ca, "")}); err != nil {
				t.Error(err)
			}
			for _, a := range addrs {
				if err := leaf.VerifyHostname(a.Unmap().WithZone("").String()); err != nil {
					t.Error(err)
				}
			}
			for _, n := range tc.names {
				if err := leaf.VerifyHostname(strings.TrimSuffix(n, ".")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestCAConfig(t *testing.T) {
	good := certs.CAConfig{Dir: t.TempDir(), Zones: mustZones(t, zone), Names: clone1234}
	for name, change := range map[string]func(*certs.CAConfig){
		"no folder":          func(c *certs.CAConfig) { c.Dir = "" },
		"no zones":           func(c *certs.CAConfig) { c.Zones = nil },
		"no names":           func(c *certs.CAConfig) { c.Names = nil },
		"negative lifetime":  func(c *certs.CAConfig) { c.Lifetime = -time.Hour },
		"negative leaves":    func(c *certs.CAConfig) { c.Leaves = -1 },
		"a folder not there": func(c *certs.CAConfig) { c.Dir = filepath.Join(c.Dir, "nowhere") },
	} {
		cfg := good
		change(&cfg)
		if _, err := certs.NewCA(cfg); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
