package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/certs"
	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
	"github.com/clonegate/clonegate/registry"
)

type getCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// foreign returns certificates of which left of 90 days is left.
func foreign(t *testing.T, left time.Duration) getCertificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(left)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "An Authority"},
		NotBefore: until.Add(-90 * 24 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}
}

// present serves handshakes until the test ends.
func present(t *testing.T, get getCertificate) (addr string) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", certs.TLSConfig(get))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func(conn net.Conn) {
				defer conn.Close()
				_ = conn.(*tls.Conn).Handshake()
			}(conn)
		}
	}()
	return ln.Addr().String()
}

func TestDoctorLooksAtWhatTheAuthorityIssued(t *testing.T) {
	data := t.TempDir()
	zones, err := registry.NewZones("test_envs.example.com", "test-envs.example.com")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.NewCA(certs.CAConfig{Dir: data, Zones: zones, Names: func(string) (string, []string) { return "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	good := foreign(t, 80*24*time.Hour)
	const directory = "certificates.acme.directory=https://ca.example.com/dir"
	for _, tc := range []struct {
		name string
		set  []string
		get  getCertificate
		want string // status and detail
	}{
		{"issued", []string{directory}, good, "ok issued by An Authority, until "},
		{"not issued yet", []string{directory}, ca.GetCertificate, "warn no certificate has been issued for test-envs.example.com: the internal CA stands in"},
		{"the wildcard is missing", []string{directory}, func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if strings.HasPrefix(hello.ServerName, "doctor.") {
				return ca.GetCertificate(hello)
			}
			return good(hello)
		}, "warn no certificate has been issued for doctor.test-envs.example.com"},
		{"not renewed", []string{directory}, foreign(t, 20*24*time.Hour), "warn the certificate for test-envs.example.com ends at "},
		{"without ACME", nil, good, " "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := append([]string{"zone=test_envs.example.com", "zone_aliases=test-envs.example.com", "dns.listen=:53"}, tc.set...)
			cfg, _, err := config.Load(config.Sources{Set: set})
			if err != nil {
				t.Fatal(err)
			}
			d := &doctor{cfg: cfg, data: data, running: &daemon.Addresses{Gateway: daemon.GatewayAddresses{Listen: present(t, tc.get)}}}
			f := d.checkAuthority(t.Context())
			if got := f.Status + " " + f.Detail; !strings.HasPrefix(got, tc.want) || (f.Status == statusWarn) != (f.Fix != "") {
				t.Errorf("got %q, to do %q; want %q", got, f.Fix, tc.want)
			}
			if f := d.checkTrust(); f.Check == "" {
				t.Error("trust in the internal CA, which certifies the zone with an underscore, is not looked at")
			}
			d.cfg.Zone, d.cfg.ZoneAliases = "test-envs.example.com", nil
			if f := d.checkTrust(); (f.Check == "") != (len(tc.set) > 0) {
				t.Errorf("with no other zone, trust is looked at: %+v", f)
			}
		})
	}
}
