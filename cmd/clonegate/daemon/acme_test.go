package daemon_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

// handshake returns the certificate that a gateway shows for a name, and
// whether a client that trusts roots takes it.
func handshake(t *testing.T, addr, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatalf("handshake for %s: %v", name, err)
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
	return chain[0], err
}

// eventually waits until ok, which is asked often.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not: %s", within, what)
		}
	}
}

// echo is a clone's service, which repeats what a WebSocket says.
func echo(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, text, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// register registers a clone with the service www at an endpoint.
func register(t *testing.T, d *daemon.Daemon, dir string, id registry.ID, endpoint string, aliases ...string) {
	t.Helper()
	token, err := os.ReadFile(daemon.AdminTokenFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.New(client.Config{URL: d.Addresses().API.URL, Token: strings.TrimSpace(string(token))})
	if err != nil {
		t.Fatal(err)
	}
	reg := registry.Registration{Instance: "one", Aliases: aliases, Services: map[string]registry.ServiceRegistration{
		"www": {Endpoints: []string{endpoint}, Default: true},
	}}
	if _, _, err := api.Register(t.Context(), id, reg, false); err != nil {
		t.Fatal(err)
	}
}

// openSocket opens a WebSocket to a host of the gateway.
func openSocket(t *testing.T, addr, host string, roots *x509.CertPool) *websocket.Conn {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	conn, _, err := websocket.Dial(t.Context(), "https://"+host+"/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func say(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatalf("the WebSocket ended: %v", err)
	}
	if _, got, err := conn.Read(t.Context()); err != nil || string(got) != text {
		t.Fatalf("the WebSocket said %q, %v; want %q", got, err, text)
	}
}

// scan asks for names that nobody has registered, as scanners do.
func scan(t *testing.T, addr, zone string, count int) {
	t.Helper()
	shapes := []string{"www-%d.Z", "x%d.Z", "www.%d.Z", "a.b.%d.Z", "*.%d.Z", "_%d.Z", "www-%d.example.net", "%d"}
	var all sync.WaitGroup
	for worker := range 10 {
		all.Go(func() {
			for i := worker; i < count; i += 10 {
				name := strings.ReplaceAll(fmt.Sprintf(shapes[i%len(shapes)], 50_000+i), "Z", zone)
				conn, err := tls.Dial("tcp", addr, &tls.Config{ServerName: name, InsecureSkipVerify: true})
				if err != nil {
					t.Errorf("handshake for %s: %v", name, err)
					return
				}
				conn.Close()
			}
		})
	}
	all.Wait()
}

// TestACME has a real ACME server issue the zone's certificates by asking our
// own DNS server, and renew them, while the gateway serves.
func TestACME(t *testing.T) {
	// certmagic remembers, for the whole process, which names could not be renewed.
	zone := fmt.Sprintf("test-envs-%d.example.com", time.Now().UnixNano())
	a := newAuthority(t, 9*time.Second, false)
	dir := t.TempDir()
	d, _ := start(t, configure(t, dir, append(a.settings(t)[:3], "zone="+zone, "endpoints.allow=127.0.0.0/8")...))
	gateway := d.Addresses().Gateway.Listen
	register(t, d, dir, "1234", echo(t))
	if leaf, err := handshake(t, gateway, "www-1234."+zone, a.root); err == nil {
		t.Errorf("before anything was issued: got a certificate by %s", leaf.Issuer)
	}
	a.asks(d.Addresses().DNS.Listen)
	takes := func(name string) bool { _, err := handshake(t, gateway, name, a.root); return err == nil }
	eventually(t, 20*time.Second, "the zone and its wildcard have certificates", func() bool { return takes(zone) && takes("www-1234."+zone) })

	first, _ := handshake(t, gateway, "www-1234."+zone, a.root)
	conn := openSocket(t, gateway, "www-1234."+zone, a.root)
	say(t, conn, "before")
	scan(t, gateway, zone, 1000)
	eventually(t, 20*time.Second, "the certificate is renewed", func() bool {
		leaf, err := handshake(t, gateway, "www-1234."+zone, a.root)
		return err == nil && !leaf.Equal(first)
	})
	say(t, conn, "after")
	if want := []string{"*." + zone, zone}; !slices.Equal(a.names(), want) {
		t.Errorf("ordered after 1,000 handshakes for unknown names: got %q, want %q", a.names(), want)
	}

	_, metrics := get(t, d.Addresses().API.URL+"/metrics", dir)
	for _, want := range []string{"clonegate_certs_acme_issued_total 2", "clonegate_certs_acme_failures_total 0"} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("metrics hold no line %q", want)
		}
	}
	a.Close()
	last, err := handshake(t, gateway, "www-1234."+zone, a.root) // nobody can renew it
	if err != nil {
		t.Fatalf("with the authority just gone: %v", err)
	}
	eventually(t, 20*time.Second, "a renewal fails", func() bool {
		_, metrics := get(t, d.Addresses().API.URL+"/metrics", dir)
		return !strings.Contains(metrics, "clonegate_certs_acme_failures_total 0\n")
	})
	now, err := handshake(t, gateway, "www-1234."+zone, a.root)
	switch expired := time.Now().After(last.NotAfter); {
	case err != nil && expired:
		t.Log("this machine is so slow that the certificate has expired: nothing was learned about it")
	case err != nil || !now.Equal(last):
		t.Errorf("with the authority gone, a certificate that has not expired is no longer served: %v", err)
	}
	say(t, conn, "with the authority gone")
}

// TestACMEBesideTheInternalCA has an authority issue for the hyphen alias of a
// zone with an underscore, and for the nested names of its clones; then it goes
// away, and the daemon starts again.
func TestACMEBesideTheInternalCA(t *testing.T) {
	const zone, alias = "test_envs.example.com", "test-envs.example.com"
	a := newAuthority(t, time.Hour, true)
	dir := t.TempDir()
	cfg := configure(t, dir, append(a.settings(t), "zone="+zone, "zone_aliases="+alias, "certificates.acme.nested=true", "endpoints.allow=127.0.0.0/8")...)
	d, stop := start(t, cfg)
	a.asks(d.Addresses().DNS.Listen)
	register(t, d, dir, "1234", echo(t), "pr-87")
	own := x509.NewCertPool()
	if root, err := os.ReadFile(daemon.CAFile(dir)); err != nil || !own.AppendCertsFromPEM(root) {
		t.Fatalf("the root of the internal CA: %v", err)
	}
	theirs := []string{alias, "www-1234." + alias, "pr-87." + alias, "www.1234." + alias, "www.pr-87." + alias}
	ours := []string{zone, "www-1234." + zone, "www.1234." + zone}
	takes := func(names []string, roots *x509.CertPool) bool {
		return !slices.ContainsFunc(names, func(name string) bool {
			_, err := handshake(t, d.Addresses().Gateway.Listen, name, roots)
			return err != nil
		})
	}
	eventually(t, 20*time.Second, "the alias and the clone's nested names have certificates", func() bool { return takes(theirs, a.root) })
	if !takes(ours, own) {
		t.Error("the internal CA no longer certifies the zone with an underscore")
	}
	scan(t, d.Addresses().Gateway.Listen, alias, 100)
	if want := []string{"*.1234." + alias, "*.pr-87." + alias, "*." + alias, alias}; !slices.Equal(a.names(), slices.Sorted(slices.Values(want))) {
		t.Errorf("ordered: got %q, want %q", a.names(), want)
	}
	checkModes(t, filepath.Join(dir, "acme"))

	stop()
	a.Close()
	d, _ = start(t, cfg)
	if !takes(theirs[:3], a.root) || !takes(ours, own) {
		t.Error("started again without the authority, the daemon does not serve what it had")
	}
	eventually(t, 5*time.Second, "nested names are served again", func() bool { return takes(theirs, a.root) })
}

// checkModes demands that nobody else can read what lies below dir.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files++
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("below %s are %d files, %v", dir, files, err)
	}
}
