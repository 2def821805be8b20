package certs_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/certs"
)

// nobody is a directory that cannot be reached: port 1 of this machine.
const nobody = "https://127.0.0.1:1/dir"

// unasked is a DNS server that no authority asks.
type unasked struct{ t testing.TB }

func (u unasked) Set(name, value string) { u.t.Errorf("challenge %s set: nobody asked for one", name) }
func (u unasked) Unset(string, string)   {}

// mustACME returns an ACME for zone and alias whose authority is gone, with
// these names on disk. What it has no certificate for gets the fallback.
func mustACME(t testing.TB, onDisk map[string]site, change ...func(*certs.ACMEConfig)) (a *certs.ACME, fallback site) {
	t.Helper()
	fallback = newSite(t, 0, "fallback.example.com")
	pair, err := tls.X509KeyPair(fallback.cert, fallback.key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := certs.ACMEConfig{
		Directory: nobody, Dir: filepath.Join(t.TempDir(), "acme"), Zones: mustZones(t, zone, alias),
		Challenges: unasked{t}, DNSServer: "127.0.0.1:1",
		Fallback: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil },
	}
	for _, c := range change {
		c(&cfg)
	}
	issuer := (&certmagic.ACMEIssuer{CA: cfg.Directory}).IssuerKey()
	for name, s := range onDisk {
		keep := func(key string, data []byte) {
			file := filepath.Join(cfg.Dir, filepath.FromSlash(key))
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, file, data)
		}
		keep(certmagic.StorageKeys.SiteCert(issuer, name), s.cert)
		keep(certmagic.StorageKeys.SitePrivateKey(issuer, name), s.key)
		keep(certmagic.StorageKeys.SiteMeta(issuer, name), fmt.Appendf(nil, `{"sans": [%q]}`, name))
	}
	if a, err = certs.NewACME(cfg); err != nil {
		t.Fatal(err)
	}
	return a, fallback
}

// runACME runs a until the test ends.
func runACME(t testing.TB, a *certs.ACME) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// TestACMEServesWhatItHas starts with an authority that is gone.
func TestACMEServesWhatItHas(t *testing.T) {
	apex, wild := newSite(t, 0, alias), newSite(t, 0, "*."+alias)
	metrics := prometheus.NewRegistry()
	a, fallback := mustACME(t, map[string]site{alias: apex, "*." + alias: wild}, func(c *certs.ACMEConfig) { c.Metrics = metrics })
	wantMetric(t, metrics, "clonegate_certs_acme_expiry_timestamp_seconds", 0)
	runACME(t, a)
	for _, tc := range []struct {
		name, sni string
		want      site
	}{
		{"the zone", alias, apex},
		{"a service", "www-1234." + alias, wild},
		{"in capitals", "WWW-1234." + strings.ToUpper(alias), wild},
		{"nobody's", "nobody." + alias, wild},
		{"with an underscore", "_x." + alias, wild},
		{"nested", "www.1234." + alias, fallback},
		{"the zone with an underscore", "www-1234." + zone, fallback},
		{"another zone", "www.example.com", fallback},
		{"a zone's tail", "not" + alias, fallback},
		{"none", "", fallback},
		{"70,000 letters", strings.Repeat("a", 70_000) + "." + alias, fallback},
		{"100 labels", strings.Repeat("a.", 100) + alias, fallback},
		{"dots", "...." + alias, fallback},
		{"an address", "127.0.0.1", fallback},
		{"not UTF-8", "\xff\x00." + alias, wild},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := present(t, a.GetCertificate, tc.sni); !got.Equal(tc.want.leaf(t)) {
				t.Errorf("certificate for %.80q: got that of %q, want that of %q", tc.sni, got.DNSNames, tc.want.leaf(t).DNSNames)
			}
		})
	}
	wantMetric(t, metrics, "clonegate_certs_acme_expiry_timestamp_seconds", float64(apex.leaf(t).NotAfter.Unix()))
}

func TestACMEWithoutCertificatesFallsBack(t *testing.T) {
	for _, tc := range []struct {
		name   string
		onDisk map[string]site
	}{
		{"none issued yet", nil},
		{"expired", map[string]site{alias: newSite(t, 100*24*time.Hour, alias)}},
		{"not a certificate", map[string]site{alias: {cert: []byte("garbage"), key: []byte("garbage")}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, fallback := mustACME(t, tc.onDisk)
			runACME(t, a)
			for _, name := range []string{alias, "www-1234." + alias} {
				if got := present(t, a.GetCertificate, name); !got.Equal(fallback.leaf(t)) {
					t.Errorf("certificate for %s: got that of %q, want the fallback", name, got.DNSNames)
				}
			}
		})
	}
}

// TestKeep keeps certificates for more clones than there is room for.
func TestKeep(t *testing.T) {
	onDisk := map[string]site{alias: newSite(t, 0, alias), "*." + alias: newSite(t, 0, "*."+alias)}
	for _, id := range []string{"1", "2", "3", "pr-1"} {
		onDisk["*."+id+"."+alias] = newSite(t, 0, "*."+id+"."+alias)
	}
	onDisk["tenant.www-1."+alias] = newSite(t, 0, "tenant.www-1."+alias)
	log := new(recorder)
	a, fallback := mustACME(t, onDisk, func(c *certs.ACMEConfig) { c.Keys, c.Log = 2, slog.New(log) })
	served := func(name string) bool {
		return !present(t, a.GetCertificate, name+"."+alias).Equal(fallback.leaf(t))
	}
	a.Keep("1", []string{"*.1", "*.under_score"}) // before Run
	runACME(t, a)
	eventually(t, "the first clone's names served", func() bool { return served("www.1") })
	a.Keep("2", []string{"*.2"})
	eventually(t, "the second clone's names served", func() bool { return served("www.2") })
	a.Keep("3", []string{"*.3"})
	eventually(t, "the third clone waits", func() bool { return len(log.find("no room for more certificates", "key=3", "most=2")) == 1 })
	if served("www.3") {
		t.Error("the third clone has a certificate: want two clones at most")
	}
	a.Keep("1", []string{"*.1", "*.pr-1", "tenant.www-1"})
	eventually(t, "new names served beside the old", func() bool { return served("www.pr-1") && served("tenant.www-1") && served("www.1") })
	a.Keep("1", []string{"*.pr-1"})
	eventually(t, "old names let go", func() bool { return !served("www.1") && !served("tenant.www-1") && served("www.pr-1") })
	a.Keep("2", []string{"*.2", "*.pr-1"}) // moves from 1 to 2
	a.Keep("1", nil)
	a.Keep("never", nil)
	eventually(t, "the third clone admitted", func() bool { return served("www.3") && served("www.2") })
	if !served("www.pr-1") {
		t.Error("a name that moved to another key is no longer served")
	}
}

func TestACMEConfig(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "root")
	mustWrite(t, notPEM, []byte("garbage"))
	for _, tc := range []struct {
		name   string
		change func(*certs.ACMEConfig)
		want   string
	}{
		{"no directory", func(c *certs.ACMEConfig) { c.Directory = "" }, "are required"},
		{"no fallback", func(c *certs.ACMEConfig) { c.Fallback = nil }, "are required"},
		{"half an account", func(c *certs.ACMEConfig) { c.AccountKey = "x" }, "both its key's ID and the key"},
		{"underscores everywhere", func(c *certs.ACMEConfig) { c.Zones = mustZones(t, zone, "a_b.example.com") }, "give the zone an alias with a hyphen, or use the internal CA"},
		{"keys below 0", func(c *certs.ACMEConfig) { c.Keys = -1 }, "keys -1"},
		{"no root", func(c *certs.ACMEConfig) { c.Root = notPEM + "-absent" }, "no such file"},
		{"no certificate in the root", func(c *certs.ACMEConfig) { c.Root = notPEM }, "no certificate in PEM form in " + notPEM},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := certs.ACMEConfig{
				Directory: nobody, Dir: t.TempDir(), Zones: mustZones(t, zone, alias), Challenges: unasked{t}, DNSServer: "127.0.0.1:1",
				Fallback: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
			}
			tc.change(&cfg)
			if _, err := certs.NewACME(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
