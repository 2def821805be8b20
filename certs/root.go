package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

const (
	// years is how long an authority lasts.
	years = 10
	// skew is how far the clocks of clients may lag behind ours.
	skew = time.Hour
)

// An address that an authority may sign for, beside its zones, is one that no
// public CA would vouch for: private or loopback. An API on such an address
// needs a certificate.
func privateNetworks() []netip.Prefix {
	return append(slices.Clone(registry.PrivateNetworks),
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("::1/128"),
	)
}

// An authority is a root, which users trust, and a signer below it, which
// signs leaves. Both are bound to the zones by critical name constraints.
//
// The root's own key signed the signer and was then forgotten, never having
// been on disk. This is not for secrecy alone: Java, for one, ignores the
// constraints of a root but heeds those of a signer. Whoever steals our key
// can impersonate nobody outside the zones.
type authority struct {
	root   *x509.Certificate
	signer *x509.Certificate
	key    *ecdsa.PrivateKey // of the signer
}

// newAuthority makes an authority for zones.
func newAuthority(zones []registry.Host, now time.Time) (*authority, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	mark, err := keyMark(&rootKey.PublicKey)
	if err != nil {
		return nil, err
	}
	rootTemplate := caTemplate("clonegate CA "+mark, zones, now)
	rootTemplate.MaxPathLen = 1
	root, err := signCA(rootTemplate, rootTemplate, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, fmt.Errorf("sign the root: %w", err)
	}
	signerTemplate := caTemplate("clonegate signer "+mark, zones, now)
	signerTemplate.MaxPathLenZero = true
	signer, err := signCA(signerTemplate, root, &key.PublicKey, rootKey)
	if err != nil {
		return nil, fmt.Errorf("sign the signer: %w", err)
	}
	return &authority{root, signer, key}, nil
}

// caTemplate returns what root and signer have in common. They vouch for
// servers only, not for mail, programs or people.
func caTemplate(name string, zones []registry.Host, now time.Time) *x509.Certificate {
	name += " " + string(zones[0])
	if len(name) > 64 { // ub-common-name, RFC 5280 appendix A.1
		name = name[:64]
	}
	template := &x509.Certificate{
		Subject:                     pkix.Name{Organization: []string{"clonegate"}, CommonName: name},
		NotBefore:                   now.Add(-skew),
		NotAfter:                    now.AddDate(years, 0, 0),
		BasicConstraintsValid:       true,
		IsCA:                        true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true,
	}
	for _, z := range zones {
		template.PermittedDNSDomains = append(template.PermittedDNSDomains, string(z))
	}
	for _, p := range privateNetworks() {
		template.PermittedIPRanges = append(template.PermittedIPRanges, &net.IPNet{
			IP:   p.Addr().AsSlice(),
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		})
	}
	return template
}

func signCA(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyMark returns a few digits that tell one authority from another.
func keyMark(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:4]), nil
}

// permits reports whether a name is one of the domains or below one (RFC 5280
// section 4.2.1.10).
func permits(domains []string, name string) bool {
	for _, d := range domains {
		if name == d || strings.HasSuffix(name, "."+d) {
			return true
		}
	}
	return false
}

// permitsAddr reports whether an address is in one of the networks.
func permitsAddr(networks []*net.IPNet, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n *net.IPNet) bool { return n.Contains(a.AsSlice()) })
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
