package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An authority signs certificates for the zone, which the daemon gets as files.
type authority struct {
	t    *testing.T
	root string // file with its own certificate
	cert string // file with the certificate that it signed last
	key  string // file with that one's key

	self   *x509.Certificate
	signer *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	dir := t.TempDir()
	a := &authority{t: t, root: filepath.Join(dir, "root.pem"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, key := a.make(template)
	self, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.self, a.signer = self, key
	a.write(a.root, "CERTIFICATE", der)
	return a
}

// make makes a key and a certificate for it; the first one signs itself.
func (a *authority) make(template *x509.Certificate) (der []byte, key *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.self, a.signer
	if parent == nil {
		parent, signer = template, key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// renew replaces the files by a certificate with another serial number, as a
// tool does that renews it.
func (a *authority) renew(serial int64) {
	a.t.Helper()
	der, key := a.make(&x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{zone, "*." + zone},
	})
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(a.cert, "CERTIFICATE", der)
	a.write(a.key, "PRIVATE KEY", text)
}

func (a *authority) write(file, kind string, der []byte) {
	a.t.Helper()
	fresh := file + ".new"
	if err := os.WriteFile(fresh, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(fresh, file); err != nil {
		a.t.Fatal(err)
	}
}

// config is what the daemon's configuration says of the files.
func (a *authority) config() string {
	return fmt.Sprintf("certificates: {files: [{cert: %s, key: %s}]}", a.cert, a.key)
}

// serialOf returns the serial number of the certificate that new connections
// get for a label.
func (g *gateway) serialOf(label string) int64 {
	g.t.Helper()
	cfg := g.transport().TLSClientConfig
	cfg.ServerName = label + "." + zone
	conn, err := tls.Dial("tcp", g.at.Gateway.Listen, cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}
