package certs_test

import (
	"bufio"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/certs"
)

// TestReload replaces files in each of the ways that tools have, with the slow
// re-check out of the way.
func TestReload(t *testing.T) {
	old, renewed := newSite(t, time.Hour, "*."+zone), newSite(t, 0, "*."+zone)
	link := func(t *testing.T, target, name string) {
		t.Helper()
		if err := os.Symlink(target, name+".tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".tmp", name); err != nil {
			t.Fatal(err)
		}
	}
	for name, setUp := range map[string]func(t *testing.T, dir string) (certs.FilePair, func()){
		"written in place": func(t *testing.T, dir string) (certs.FilePair, func()) {
			return old.put(t, dir), func() { renewed.put(t, dir) }
		},
		"renamed into place": func(t *testing.T, dir string) (certs.FilePair, func()) {
			aside := renewed.put(t, t.TempDir())
			p := old.put(t, dir)
			return p, func() {
				if err := os.Rename(aside.Cert, p.Cert); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(aside.Key, p.Key); err != nil {
					t.Fatal(err)
				}
			}
		},
		"links swapped, as certbot does": func(t *testing.T, dir string) (certs.FilePair, func()) {
			one, two := old.put(t, t.TempDir()), renewed.put(t, t.TempDir())
			p := certs.FilePair{Cert: filepath.Join(dir, "fullchain.pem"), Key: filepath.Join(dir, "privkey.pem")}
			link(t, one.Cert, p.Cert)
			link(t, one.Key, p.Key)
			return p, func() { link(t, two.Cert, p.Cert); link(t, two.Key, p.Key) }
		},
		"folders swapped, as Kubernetes does": func(t *testing.T, dir string) (certs.FilePair, func()) {
			for sub, s := range map[string]site{"..2026_1": old, "..2026_2": renewed} {
				if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
				s.put(t, filepath.Join(dir, sub))
			}
			link(t, "..2026_1", filepath.Join(dir, "..data"))
			p := certs.FilePair{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
			link(t, "..data/tls.crt", p.Cert)
			link(t, "..data/tls.key", p.Key)
			return p, func() { link(t, "..2026_2", filepath.Join(dir, "..data")) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, change := setUp(t, t.TempDir())
			metrics := prometheus.NewRegistry()
			f := mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{p}, RecheckEvery: time.Hour, Metrics: metrics})
			if !presents(t, f, old)() {
				t.Fatal("the old certificate is not presented")
			}
			run(t, f)
			change()
			eventually(t, "the new certificate", presents(t, f, renewed))
			wantMetric(t, metrics, "clonegate_certs_file_expiry_timestamp_seconds", float64(renewed.leaf(t).NotAfter.Unix()))
		})
	}
}

// TestRecheck changes files behind links, in a folder that nobody watches.
func TestRecheck(t *testing.T) {
	old, renewed := newSite(t, time.Hour, "*."+zone), newSite(t, 0, "*."+zone)
	far, near := t.TempDir(), t.TempDir()
	target := old.put(t, far)
	p := certs.FilePair{Cert: filepath.Join(near, "c"), Key: filepath.Join(near, "k")}
	for from, to := range map[string]string{p.Cert: target.Cert, p.Key: target.Key} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	f := mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{p}, RecheckEvery: 20 * time.Millisecond})
	run(t, f)
	renewed.put(t, far)
	eventually(t, "the new certificate", presents(t, f, renewed))
}

// TestFolderMadeAnew removes the whole folder and puts another in its place.
func TestFolderMadeAnew(t *testing.T) {
	old, renewed, last := newSite(t, time.Hour, zone), newSite(t, 0, zone), newSite(t, 0, zone)
	dir := filepath.Join(t.TempDir(), "tls")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f := mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{old.put(t, dir)}, RecheckEvery: 50 * time.Millisecond})
	run(t, f)
	for _, s := range []site{renewed, last} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		s.put(t, dir)
		eventually(t, "the new certificate", presents(t, f, s))
	}
}

// TestBrokenReload keeps the old certificate, complains once, and recovers.
func TestBrokenReload(t *testing.T) {
	old, renewed, expired := newSite(t, time.Hour, zone), newSite(t, 0, zone), newSite(t, 91*24*time.Hour, zone)
	for _, tc := range []struct {
		name   string
		broken site
		want   string
	}{
		{"another's key", site{renewed.cert, old.key}, "does not match"},
		{"half a file", site{renewed.cert[:100], renewed.key}, "no PEM block"},
		{"expired", expired, "expired at"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir, log := t.TempDir(), new(recorder)
			f := mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{old.put(t, dir)}, RecheckEvery: 20 * time.Millisecond, Log: slog.New(log)})
			run(t, f)
			tc.broken.put(t, dir)
			eventually(t, "a complaint", func() bool { return len(log.find("ERROR", "old certificate stays", "tls.crt", tc.want)) > 0 })
			time.Sleep(100 * time.Millisecond) // several re-checks
			if lines := log.find("ERROR", tc.want); len(lines) != 1 {
				t.Errorf("complaints: got %q; want one", lines)
			}
			if !presents(t, f, old)() {
				t.Error("the old certificate is no longer presented")
			}
			renewed.put(t, dir)
			eventually(t, "the new certificate", presents(t, f, renewed))
		})
	}
}

// TestReloadKeepsConnections has a connection live through a reload.
func TestReloadKeepsConnections(t *testing.T) {
	old, renewed := newSite(t, time.Hour, "www."+zone), newSite(t, 0, "www."+zone)
	dir := t.TempDir()
	f := mustFiles(t, certs.FilesConfig{Pairs: []certs.FilePair{old.put(t, dir)}, RecheckEvery: 20 * time.Millisecond})
	run(t, f)
	port := serve(t, f.GetCertificate)
	dial := func(roots []byte) (*tls.Conn, error) {
		return tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{RootCAs: pool(roots), ServerName: "www." + zone})
	}
	conn, err := dial(old.cert)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	ask := func() {
		t.Helper()
		if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: www." + zone + ":1\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := answers.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == "\r\n" {
				break
			}
		}
		if _, err := answers.Discard(len("<title>this is www." + zone + "</title>")); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	renewed.put(t, dir)
	eventually(t, "the new certificate", presents(t, f, renewed))
	ask()
	next, err := dial(renewed.cert)
	if err != nil {
		t.Fatalf("a new connection: %v", err)
	}
	next.Close()
}
