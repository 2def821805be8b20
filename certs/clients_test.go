package certs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A client trusts nothing but the root in a file and opens https pages on
// loopback.
type client struct {
	name     string
	needs    []string // programs
	install  string   // what Debian calls them
	noUnder  bool     // opens no name with an underscore
	noWild   bool     // matches no wildcard below an underscore
	violated string   // what its complaint of name constraints holds

	// start makes it ready for the test.
	start func(t *testing.T, ca string) opener
}

// An opener opens https://host:port/ with host resolved to loopback, and
// returns what it was shown. The error is the client's own complaint.
type opener func(host, port string) (string, error)

func clients() []client {
	return []client{
		{name: "go", violated: "not permitted", start: startGo},
		{name: "curl", needs: []string{"curl"}, install: "curl", violated: "permitted subtree violation", start: startCurl},
		{name: "openssl", needs: []string{"openssl"}, install: "openssl", noWild: true, violated: "permitted subtree violation", start: startOpenSSL},
		{name: "python", needs: []string{"python3"}, install: "python3", noWild: true, violated: "permitted subtree violation", start: startPython},
		{name: "node", needs: []string{"node"}, install: "nodejs", violated: "permitted subtree violation", start: startNode},
		{name: "wget", needs: []string{"wget"}, install: "wget", violated: "is not trusted", start: startWget},
		{name: "java", needs: []string{"javac", "java", "keytool"}, install: "default-jdk-headless", noUnder: true, violated: "name constraints", start: startJava},
		{name: "chromium", needs: []string{"chromium", "certutil"}, install: "chromium libnss3-tools", violated: "ERR_CERT_INVALID", start: startChromium},
	}
}

// require skips the test, loudly, if a program is not installed.
func require(t *testing.T, install string, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Logf("NOT TESTED: %s is missing (apt-get install %s)", p, install)
			t.SkipNow()
		}
	}
}

// TestClients opens every kind of name with every kind of client.
func TestClients(t *testing.T) {
	ca, cfg := mustCA(t)
	port := serve(t, ca.GetCertificate)
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require(t, c.install, c.needs...)
			open := c.start(t, filepath.Join(cfg.Dir, "ca.pem"))
			for _, tc := range []struct {
				host string
				base bool // nobody is registered under it: the base leaf, so that the page can say so
			}{
				{"www-1234." + zone, false},
				{"1234." + zone, false},
				{"www.1234." + zone, false},
				{"www-9999." + zone, true},
				{zone, false},
				{"www-1234." + alias, false},
				{"www.1234." + alias, false},
				{"www-9999." + alias, true},
			} {
				under := strings.Contains(tc.host, "_")
				opens := !(under && c.noUnder || under && c.noWild && tc.base)
				got, err := open(tc.host, port)
				want := "this is " + tc.host
				if opens && (err != nil || !strings.Contains(got, want)) {
					t.Errorf("%s opens %s: got %q, %v; want %q", c.name, tc.host, got, err, want)
				}
				if !opens && err == nil {
					t.Errorf("%s opens %s: got %q; it never could before, so docs are too pessimistic", c.name, tc.host, got)
				}
			}
		})
	}
}

// TestStolenKey signs for names outside the zones with the CA's own key: every
// client must refuse.
func TestStolenKey(t *testing.T) {
	_, cfg := mustCA(t)
	signer, key := steal(t, cfg.Dir)
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require(t, c.install, c.needs...)
			open := c.start(t, filepath.Join(cfg.Dir, "ca.pem"))
			for _, host := range []string{"www.example.com", "eviltest-envs.localhost", "8.8.8.8"} {
				stolen := forge(t, signer, key, host)
				port := serve(t, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return stolen, nil })
				if host == "8.8.8.8" && (c.name == "node" || c.name == "java") {
					continue // they cannot be told to look for it on loopback
				}
				got, err := open(host, port)
				if err == nil {
					t.Errorf("%s opens %s: got %q; want it refused by name constraints", c.name, host, got)
				} else if !strings.Contains(err.Error(), c.violated) {
					t.Errorf("%s refuses %s: got error %q; want one with %q", c.name, host, err, c.violated)
				}

			}
		})
	}
}

// TestServerCertificateClients opens an API on a loopback address: the CA's
// constraints permit it, beside its zones.
func TestServerCertificateClients(t *testing.T) {
	ca, cfg := mustCA(t)
	get, err := ca.ServerCertificate(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	port := serve(t, get)
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require(t, c.install, c.needs...)
			got, err := c.start(t, filepath.Join(cfg.Dir, "ca.pem"))("127.0.0.1", port)
			if want := "this is 127.0.0.1"; err != nil || !strings.Contains(got, want) {
				t.Errorf("%s opens 127.0.0.1: got %q, %v; want %q", c.name, got, err, want)
			}
		})
	}
}

// forge signs a leaf for a host or an address with the CA's key, past the CA.
func forge(t *testing.T, signer *x509.Certificate, signerKey *ecdsa.PrivateKey, host string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		NotBefore:   time.Now().Add(-time.Hour),
		NotAfter:    time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, signer.Raw}, PrivateKey: key}
}

// output runs a program and returns what it prints; if it fails, that is in
// the error.
func output(t *testing.T, stdin string, env []string, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return string(out), nil
}

func startGo(t *testing.T, ca string) opener {
	roots := pool(mustRead(t, ca))
	return func(host, port string) (string, error) {
		c := &http.Client{Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+port)
			},
		}}
		defer c.CloseIdleConnections()
		res, err := c.Get("https://" + host + ":" + port)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}
}

func startCurl(t *testing.T, ca string) opener {
	return func(host, port string) (string, error) {
		return output(t, "", nil, "curl", "-sS", "--cacert", ca, "--connect-to", "::127.0.0.1:"+port, "https://"+host+":"+port+"/")
	}
}

func startOpenSSL(t *testing.T, ca string) opener {
	return func(host, port string) (string, error) {
		verify := []string{"-servername", host, "-verify_hostname", host}
		if net.ParseIP(host) != nil {
			verify = []string{"-noservername", "-verify_ip", host}
		}
		return output(t, "GET / HTTP/1.1\r\nHost: "+host+":"+port+"\r\nConnection: close\r\n\r\n", nil, "openssl",
			append([]string{"s_client", "-connect", "127.0.0.1:" + port, "-CAfile", ca, "-verify_return_error", "-quiet"}, verify...)...)
	}
}

func startPython(t *testing.T, ca string) opener {
	return func(host, port string) (string, error) {
		return output(t, `
import socket, sys, urllib.request
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **kw: real("127.0.0.1", *rest, **kw)
print(urllib.request.urlopen(sys.argv[1]).read().decode())
`, []string{"SSL_CERT_FILE=" + ca}, "python3", "-", "https://"+host+":"+port+"/")
	}
}

func startNode(t *testing.T, ca string) opener {
	return func(host, port string) (string, error) {
		return output(t, `
const lookup = (_, o, done) => o.all ? done(null, [{address: "127.0.0.1", family: 4}]) : done(null, "127.0.0.1", 4);
require("https").get(process.argv[2], {lookup}, res => res.pipe(process.stdout))
	.on("error", err => { console.error(err); process.exit(1); });
`, []string{"NODE_EXTRA_CA_CERTS=" + ca}, "node", "-", "https://"+host+":"+port+"/")
	}
}

// startWget gives it a proxy, as it has no other way to be told where a host
// is. TLS is its own.
func startWget(t *testing.T, ca string) opener {
	return func(host, port string) (string, error) {
		proxy := httptest.NewServer(tunnel("127.0.0.1:" + port))
		defer proxy.Close()
		return output(t, "", []string{"https_proxy=" + proxy.URL, "no_proxy="}, "wget", "-O-", "--tries=1", "--ca-certificate="+ca, "https://"+host+":"+port+"/")
	}
}

// tunnel is an HTTP proxy whose every tunnel ends at addr.
func tunnel(addr string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		up, err := net.Dial("tcp", addr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer up.Close()
		w.WriteHeader(http.StatusOK)
		down, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer down.Close()
		go io.Copy(up, buffered)
		io.Copy(down, up)
	}
}

const javaOpen = `
import java.net.*;
import java.nio.charset.StandardCharsets;
public class Open {
	public static void main(String[] args) throws Exception {
		HttpURLConnection c = (HttpURLConnection) new URL(args[0]).openConnection();
		System.out.println(new String(c.getInputStream().readAllBytes(), StandardCharsets.UTF_8));
	}
}`

// startJava gives it a trust store and a hosts file of its own.
func startJava(t *testing.T, ca string) opener {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	mustWrite(t, at("Open.java"), []byte(javaOpen))
	for _, cmd := range [][]string{
		{"javac", "-d", dir, at("Open.java")},
		{"keytool", "-importcert", "-noprompt", "-keystore", at("trust.p12"), "-storepass", "changeit", "-alias", "clonegate", "-file", ca},
	} {
		if _, err := output(t, "", nil, cmd[0], cmd[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	return func(host, port string) (string, error) {
		mustWrite(t, at("hosts"), []byte("127.0.0.1 "+host+"\n"))
		return output(t, "", nil, "java", "-XX:TieredStopAtLevel=1", "-cp", dir, "-Djdk.net.hosts.file="+at("hosts"),
			"-Djavax.net.ssl.trustStore="+at("trust.p12"), "-Djavax.net.ssl.trustStorePassword=changeit",
			"Open", "https://"+host+":"+port+"/")
	}
}

// startChromium runs it in a home whose NSS database trusts the root, put
// there by the commands that Install proposes. No check is switched off.
func startChromium(t *testing.T, ca string) opener {
	home := t.TempDir()
	db := filepath.Join(home, ".pki/nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-d", "sql:" + db, "-N", "--empty-password"},
		{"-d", "sql:" + db, "-A", "-t", "C,,", "-n", "clonegate", "-i", ca},
	} {
		if _, err := output(t, "", nil, "certutil", args...); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.Env("HOME="+home, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "XDG_DATA_HOME="),
		chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.Flag("no-sandbox", os.Geteuid() == 0),
		chromedp.Flag("host-resolver-rules", "MAP * 127.0.0.1"),
	)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // the browser starts
		t.Fatal(err)
	}
	return func(host, port string) (string, error) {
		ctx, cancel := chromedp.NewContext(ctx) // a tab
		defer cancel()
		if err := chromedp.Do(ctx, chromedp.Navigate("https://"+host+":"+port+"/")); err != nil {
			return "", err
		}
		return chromedp.Run(ctx, chromedp.Title())
	}
}
