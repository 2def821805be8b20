package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/clonegate/clonegate/registry"
)

// An untrustedError says that an endpoint is not who its service says it is.
type untrustedError struct{ found, want string }

func (e *untrustedError) Error() string {
	return fmt.Sprintf("its certificate %s; want %s", e.found, e.want)
}

// newTrust returns how TLS with an endpoint is set up. No two endpoints share
// it, so a session with one is never resumed with another.
func newTrust(s *registry.TLS) *tls.Config {
	c := &tls.Config{
		ServerName: s.ServerName(),
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		// What is asked of a certificate is checked below, on resumption, too, and
		// by errors that say what was found. A clone's certificate is a copy of
		// production's or its own: without a word about it, the address has to do.
		InsecureSkipVerify: true,
		ClientSessionCache: tls.NewLRUClientSessionCache(2),
	}
	if s != nil && (s.Verify != "" || s.Pin != "") {
		// The registry has checked what it keeps; a set that could not be read
		// would be empty and trust nobody.
		roots, err := s.Roots()
		if err != nil {
			roots = x509.NewCertPool()
		}
		c.VerifyConnection = func(state tls.ConnectionState) error {
			return checkTrust(s, roots, state.PeerCertificates)
		}
	}
	return c
}

// tlsConfig returns how TLS with the endpoint is set up. Copies of production know
// themselves by its names, so that is what they are asked for if their service
// says nothing else.
func (e *endpoint) tlsConfig() *tls.Config {
	name := e.known.Load()
	if e.trust.ServerName != "" || name == nil {
		return e.trust
	}
	c := e.trust.Clone()
	c.ServerName = *name
	return c
}

// checkTrust checks the chain that an endpoint has shown, its leaf first.
func checkTrust(s *registry.TLS, roots *x509.CertPool, chain []*x509.Certificate) error {
	leaf := chain[0]
	if sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo); s.Pin != "" && s.Pin != registry.PinOf(sum) {
		return &untrustedError{"has the key " + registry.PinOf(sum), s.Pin}
	}
	if s.Verify == "" {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: s.Verify, Roots: roots, Intermediates: between}); err != nil {
		return &untrustedError{
			fmt.Sprintf("is for %s, from %q: %v", certNames(leaf), leaf.Issuer, err), "a valid one for " + s.Verify,
		}
	}
	return nil
}

// certNames names what a certificate is for.
func certNames(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return fmt.Sprintf("%q", c.Subject)
	case len(names) > 8:
		names = append(names[:8:8], "…")
	}
	return strings.Join(names, ", ")
}
