package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

// endWarning is how long before its end an authority is complained about.
const endWarning = 90 * 24 * time.Hour

// A caStore is the folder in which an authority is kept, in two files. ca.key
// holds all of it: the signer's key, its certificate and the root's. ca.pem is
// a copy of the root's certificate to hand out. So one rename makes an
// authority exist, and a crash at any time leaves nothing to mend but a copy.
type caStore struct {
	dir   string
	zones []registry.Host
	now   time.Time
	log   *slog.Logger
}

func (s caStore) keyFile() string  { return filepath.Join(s.dir, "ca.key") }
func (s caStore) rootFile() string { return filepath.Join(s.dir, "ca.pem") }

// open loads the authority, or makes it at first start.
func (s caStore) open() (*authority, error) {
	a, err := s.load()
	if errors.Is(err, fs.ErrNotExist) {
		a, err = s.create()
	}
	if err != nil {
		return nil, err
	}
	if err := s.check(a); err != nil {
		return nil, err
	}
	return a, s.keepRoot(a)
}

// wayOut says how to begin anew.
func (s caStore) wayOut() string {
	return fmt.Sprintf("move %s and %s away and start again: a new CA is made, which every machine must then be told to trust (clonegate trust)", s.keyFile(), s.rootFile())
}

// create makes an authority. A root without its authority means that somebody
// took ca.key away: to make another in silence would break everybody's trust.
func (s caStore) create() (*authority, error) {
	if _, err := os.Stat(s.rootFile()); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("internal CA: %s is there but %s is not: put it back from a backup, or %s", s.rootFile(), s.keyFile(), s.wayOut())
	}
	a, err := newAuthority(s.zones, s.now)
	if err != nil {
		return nil, fmt.Errorf("internal CA: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("internal CA: %w", err)
	}
	text := slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		certPEM(a.signer),
		certPEM(a.root),
	)
	if err := durable.WriteFile(s.keyFile(), text, 0o600); err != nil {
		return nil, fmt.Errorf("internal CA: %w", err)
	}
	s.log.Info("internal CA made: run clonegate trust on the machines that shall trust it", "root", s.rootFile(), "zones", s.zones)
	return a, nil
}

// load reads ca.key.
func (s caStore) load() (*authority, error) {
	text, err := os.ReadFile(s.keyFile())
	if err != nil {
		return nil, fmt.Errorf("internal CA: %w", err)
	}
	a, err := parseAuthority(text)
	if err != nil {
		return nil, fmt.Errorf("internal CA: %s: %w; put it back from a backup, or %s", s.keyFile(), err, s.wayOut())
	}
	info, err := os.Stat(s.keyFile())
	if err != nil {
		return nil, fmt.Errorf("internal CA: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		s.log.Warn("the key of the internal CA can be read by others: chmod 600 it", "file", s.keyFile(), "mode", info.Mode().Perm().String())
	}
	return a, nil
}

// parseAuthority reads what create wrote and demands that its parts belong
// together.
func parseAuthority(text []byte) (*authority, error) {
	var blocks []*pem.Block
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		blocks = append(blocks, b)
	}
	if len(blocks) != 3 || blocks[0].Type != "PRIVATE KEY" || blocks[1].Type != "CERTIFICATE" || blocks[2].Type != "CERTIFICATE" {
		return nil, fmt.Errorf("want a private key and two certificates, as clonegate wrote them; got %d PEM blocks", len(blocks))
	}
	key, err := x509.ParsePKCS8PrivateKey(blocks[0].Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("want an ECDSA key; got a %T", key)
	}
	signer, err := parseCA(blocks[1].Bytes)
	if err != nil {
		return nil, err
	}
	root, err := parseCA(blocks[2].Bytes)
	if err != nil {
		return nil, err
	}
	if !ec.PublicKey.Equal(signer.PublicKey) {
		return nil, errors.New("the key does not belong to the certificate behind it")
	}
	for _, signed := range []*x509.Certificate{signer, root} {
		if err := signed.CheckSignatureFrom(root); err != nil {
			return nil, fmt.Errorf("the second certificate did not sign %s: %w", signed.Subject.CommonName, err)
		}
	}
	return &authority{root, signer, ec}, nil
}

// parseCA returns a certificate and demands what makes a CA safe to trust:
// that it is bound to a few names.
func parseCA(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return nil, err
	case !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the certificate is not that of a CA")
	case !cert.PermittedDNSDomainsCritical || len(cert.PermittedDNSDomains) == 0:
		return nil, errors.New("the CA is not bound to zones by critical name constraints: whoever holds its key could impersonate every site")
	}
	return cert, nil
}

// check says why an authority found on disk cannot serve the zones now.
func (s caStore) check(a *authority) error {
	cert := a.signer // the root has the same dates and constraints
	switch {
	case s.now.Before(cert.NotBefore):
		return fmt.Errorf("internal CA: %s is valid from %s and it is %s here: set the clock right", s.keyFile(), stamp(cert.NotBefore), stamp(s.now))
	case !s.now.Before(cert.NotAfter):
		return fmt.Errorf("internal CA: %s expired at %s: %s", s.keyFile(), stamp(cert.NotAfter), s.wayOut())
	}
	for _, z := range s.zones {
		if !permits(cert.PermittedDNSDomains, string(z)) {
			return fmt.Errorf("internal CA: %s was made for %s and cannot sign for zone %s: %s", s.keyFile(), strings.Join(cert.PermittedDNSDomains, ", "), z, s.wayOut())
		}
	}
	for _, d := range cert.PermittedDNSDomains {
		if !slices.Contains(s.zones, registry.Host(d)) {
			s.log.Warn("the internal CA can also sign for a zone that is not configured", "file", s.keyFile(), "zone", d)
		}
	}
	if cert.NotAfter.Sub(s.now) < endWarning {
		s.log.Warn("the internal CA ends soon", "until", stamp(cert.NotAfter), "do", s.wayOut())
	}
	return nil
}

// keepRoot writes ca.pem if it is missing. Another root in its place may be
// what people trust, so that is for the operator to decide.
func (s caStore) keepRoot(a *authority) error {
	text, err := os.ReadFile(s.rootFile())
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.WriteFile(s.rootFile(), certPEM(a.root), 0o644); err != nil {
			return fmt.Errorf("internal CA: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("internal CA: %w", err)
	}
	if block, _ := pem.Decode(text); block == nil || !bytes.Equal(block.Bytes, a.root.Raw) {
		return fmt.Errorf("internal CA: %s is not the root of %s: put both back from one backup, or move %s away to have it written again", s.rootFile(), s.keyFile(), s.rootFile())
	}
	return nil
}

func certPEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
