package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// certified returns the zones for which the ACME authority issues; none if
// there is no authority.
func (d *doctor) certified() []registry.Host {
	var zones []registry.Host
	if d.cfg == nil || d.cfg.Certificates.ACME.Directory == "" {
		return nil
	}
	for _, z := range append([]registry.Host{d.cfg.Zone}, d.cfg.ZoneAliases...) {
		if !strings.Contains(string(z), "_") {
			zones = append(zones, z)
		}
	}
	return zones
}

// wantsTrust reports whether anything is certified by the internal CA alone:
// a zone, or an API that speaks https.
func (d *doctor) wantsTrust() bool {
	certified := d.certified()
	return len(certified) == 0 || len(certified) <= len(d.cfg.ZoneAliases) || !d.cfg.API.Listen.AddrPort().Addr().IsLoopback()
}

// checkAuthority looks at the certificates that the running gateway presents
// where an ACME authority issues them.
func (d *doctor) checkAuthority(ctx context.Context) finding {
	const check = "ACME"
	zones := d.certified()
	if len(zones) == 0 || d.running == nil {
		return finding{}
	}
	ca, err := d.ca()
	if err != nil {
		return finding{} // checkTrust says so
	}
	var leaf *x509.Certificate
	for _, z := range zones {
		for _, name := range []string{string(z), "doctor." + string(z)} {
			chain, err := presented(ctx, d.running.Gateway.Listen, name)
			if err != nil {
				return finding{check, statusFail, fmt.Sprintf("the gateway presents no certificate for %s: %v", name, err), "see the daemon's log"}
			}
			leaf = chain[0]
			const fix = "the daemon's log says why (room=certs); the authority must reach dns.listen by the zone's delegation: see docs/certificates.md"
			if ca != nil && signedBelow(ca, chain) {
				return finding{check, statusWarn, "no certificate has been issued for " + name + ": the internal CA stands in", fix}
			}
			if life := leaf.NotAfter.Sub(leaf.NotBefore); time.Until(leaf.NotAfter) < life/4 {
				return finding{check, statusWarn, fmt.Sprintf("the certificate for %s ends at %s and has not been renewed", name, leaf.NotAfter.UTC().Format(time.RFC3339)), fix}
			}
		}
	}
	return finding{check, statusOK, fmt.Sprintf("%s, until %s", issuerOf(leaf), leaf.NotAfter.UTC().Format(time.RFC3339)), ""}
}

// presented returns the certificates that a server presents for a name.
// Nothing is told or asked, so none is verified.
func presented(ctx context.Context, addr, name string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return nil, errors.New("the handshake shows none")
	}
	return chain, nil
}

// signedBelow reports whether a root, by way of the others, signed the first
// certificate of a chain.
func signedBelow(root *x509.Certificate, chain []*x509.Certificate) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err == nil
}

func issuerOf(cert *x509.Certificate) string {
	if name := cert.Issuer.CommonName; name != "" {
		return "issued by " + name
	}
	return "issued by " + cert.Issuer.String()
}
