package certs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/certs"
)

// A site is a self-signed certificate and its key, in PEM form.
type site struct{ cert, key []byte }

// newSite makes a certificate with a life of 90 days, of which age has passed.
func newSite(t testing.TB, age time.Duration, names ...string) site {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return selfSign(t, key, &key.PublicKey, age, names...)
}

func selfSign(t testing.TB, key, pub any, age time.Duration, names ...string) site {
	t.Helper()
	from := time.Now().Add(-age)
	template := &x509.Certificate{DNSNames: names, NotBefore: from, NotAfter: from.Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return site{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// put writes a site's files into dir and returns their names.
func (s site) put(t testing.TB, dir string) certs.FilePair {
	t.Helper()
	p := certs.FilePair{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	mustWrite(t, p.Cert, s.cert)
	mustWrite(t, p.Key, s.key)
	return p
}

func (s site) leaf(t testing.TB) *x509.Certificate { return mustParse(t, s.cert) }

func mustFiles(t testing.TB, cfg certs.FilesConfig) *certs.Files {
	t.Helper()
	f, err := certs.NewFiles(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// run runs f until the test ends.
func run(t *testing.T, f *certs.Files) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("10 s later: not %s", what)
		}
	}
}

func presents(t *testing.T, f *certs.Files, s site) func() bool {
	return func() bool { return present(t, f.GetCertificate, "").Equal(s.leaf(t)) }
}

func TestFilesMatch(t *testing.T) {
	exact := newSite(t, 0, "www-1234."+zone)
	wild := newSite(t, 0, "*."+zone, zone)
	first := newSite(t, 0, "first.example.com")
	var pairs []certs.FilePair
	for _, s := range []site{first, wild, exact} {
		pairs = append(pairs, s.put(t, t.TempDir()))
	}
	f := mustFiles(t, certs.FilesConfig{Pairs: pairs})
	for _, tc := range []struct {
		sni  string
		want site
	}{
		{"www-1234." + zone, exact},
		{"WWW-1234.TEST_ENVS.localhost", exact},
		{"www-1235." + zone, wild},
		{zone, wild},
		{"www.1234." + zone, first}, // a wildcard stands for one label
		{"first.example.com", first},
		{"", first},
		{"other.example.com", first},
		{"..", first},
		{"*." + zone, wild},
		{"10.0.0.1", first},
		{strings.Repeat("a", 70_000), first},
	} {
		if got := present(t, f.GetCertificate, tc.sni); !got.Equal(tc.want.leaf(t)) {
			t.Errorf("certificate for %.80q: got that of %q, want that of %q", tc.sni, got.DNSNames, tc.want.leaf(t).DNSNames)
		}
	}
}

// TestFilesOfTwoKinds serves RSA to a client that can verify nothing else.
func TestFilesOfTwoKinds(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec := newSite(t, 0, "*."+zone)
	old := selfSign(t, rsaKey, &rsaKey.PublicKey, 0, "*."+zone)
	f := mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{ec.put(t, t.TempDir()), old.put(t, t.TempDir())}})
	port := serve(t, f.GetCertificate)
	for suite, want := range map[uint16]site{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: ec,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   old,
	} {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite},
			RootCAs: pool(want.cert), ServerName: "www-1." + zone,
		})
		if err != nil {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
			continue
		}
		conn.Close()
	}
}

func TestBrokenFiles(t *testing.T) {
	good, other := newSite(t, 0, "*."+zone), newSite(t, 0, "*."+zone)
	nameless := newSite(t, 0)
	block, _ := pem.Decode(good.cert)
	keyBlock, _ := pem.Decode(good.key)
	for _, tc := range []struct {
		name string
		site site
		want []string
	}{
		{"another's key", site{good.cert, other.key}, []string{"tls.crt", "tls.key", "does not match"}},
		{"swapped", site{good.key, good.cert}, []string{"tls.crt", "swapped"}},
		{"the certificate twice", site{good.cert, good.cert}, []string{"tls.key", "no private key", "swapped"}},
		{"an empty certificate", site{nil, good.key}, []string{"tls.crt", "empty"}},
		{"an empty key", site{good.cert, []byte("\n")}, []string{"tls.key", "empty"}},
		{"half a certificate", site{good.cert[:100], good.key}, []string{"tls.crt", "no PEM block"}},
		{"a flipped byte", site{[]byte(flip(string(good.cert), 30)), good.key}, []string{"tls.crt"}},
		{"text", site{[]byte("hello"), good.key}, []string{"tls.crt", "no PEM block"}},
		{"DER", site{block.Bytes, good.key}, []string{"tls.crt", "DER", "openssl x509 -inform der"}},
		{"an encrypted key", site{good.cert, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: keyBlock.Bytes})}, []string{"tls.key", "encrypted", "openssl pkey"}},
		{"an old encrypted key", site{good.cert, pem.EncodeToMemory(&pem.Block{
			Type: "RSA PRIVATE KEY", Bytes: keyBlock.Bytes,
			Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"},
		})}, []string{"tls.key", "encrypted"}},
		{"a broken intermediate", site{append(good.cert[:len(good.cert):len(good.cert)], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...), good.key}, []string{"tls.crt", "certificate 2"}},
		{"no names", nameless, []string{"tls.crt", "names no host"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := certs.NewFiles(certs.FilesConfig{Pairs: []certs.FilePair{tc.site.put(t, t.TempDir())}})
			if err == nil {
				t.Fatal("got no error")
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got error %q; want one with %q", err, part)
				}
			}
		})
	}
	for name, cfg := range map[string]certs.FilesConfig{
		"no such file": {Pairs: []certs.FilePair{{Cert: "/nowhere/tls.crt", Key: "/nowhere/tls.key"}}},
		"none":         {},
		"recheck":      {Pairs: []certs.FilePair{good.put(t, t.TempDir())}, RecheckEvery: -1},
	} {
		if _, err := certs.NewFiles(cfg); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestFilesWarnings(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name string
		site site
		want []string // nil: nothing to warn of
	}{
		{"for the zones", newSite(t, 0, "*."+alias), nil},
		{"for no zone", newSite(t, 0, "*.example.com"), []string{"WARN", "none of the zones", "tls.crt", alias}},
		{"for the zone itself only", newSite(t, 0, alias), []string{"WARN", "no certificate file", "*." + alias}},
		{"14 days and an hour left", newSite(t, 76*day-time.Hour, "*."+alias), nil},
		{"13 days left", newSite(t, 77*day, "*."+alias), []string{"WARN", "ends soon", "tls.crt"}},
		{"expired", newSite(t, 91*day, "*."+alias), []string{"ERROR", "clients refuse", "tls.crt", "expired at"}},
		{"not yet valid", newSite(t, -day, "*."+alias), []string{"ERROR", "clients refuse", "not valid before"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := new(recorder)
			f := mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{tc.site.put(t, t.TempDir())}, Zones: mustZones(t, alias), Log: slog.New(log)})
			if !presents(t, f, tc.site)() {
				t.Error("the certificate is not presented")
			}
			if tc.want == nil && log.String() != "" {
				t.Errorf("log:\n%s\nwant nothing", log)
			}
			if tc.want != nil && len(log.find(tc.want...)) != 1 {
				t.Errorf("log:\n%s\nwant one line with %q", log, tc.want)
			}
		})
	}
	t.Run("an underscore", func(t *testing.T) {
		log := new(recorder)
		mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{newSite(t, 0, "*."+zone).put(t, t.TempDir())}, Zones: mustZones(t, zone), Log: slog.New(log)})
		if len(log.find("WARN", "underscore", zone)) != 1 {
			t.Errorf("log:\n%s\nwant a line about the underscore", log)
		}
	})
}

// TestEndIsToldDaily lets days pass under a running Files.
func TestEndIsToldDaily(t *testing.T) {
	s := newSite(t, 80*24*time.Hour, zone)
	var mu sync.Mutex
	clock, log := time.Now(), new(recorder)
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return clock }
	f := mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{s.put(t, t.TempDir())}, RecheckEvery: 5 * time.Millisecond, Log: slog.New(log), Now: now})
	run(t, f)
	for days := 1; days < 15; days++ {
		eventually(t, "told", func() bool { return len(log.find("tls.crt", "replace its files")) == days })
		mu.Lock()
		clock = clock.Add(25 * time.Hour)
		mu.Unlock()
	}
	if warned, refused := len(log.find("WARN", "ends soon")), len(log.find("ERROR", "clients refuse")); warned < 9 || refused < 3 {
		t.Errorf("log:\n%s\nwant a warning a day, errors after the end", log)
	}
}
