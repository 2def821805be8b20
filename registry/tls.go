package registry

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// TLS says how sure the gateway must be of an endpoint that speaks https. The
// zero TLS trusts whoever answers: clones have copies of production's
// certificates, or their own. Verify and Pin may be combined; both must hold.
type TLS struct {
	Name   string `json:"name,omitempty" doc:"The server name that endpoints are asked for (SNI). Default: verify."`
	Verify string `json:"verify,omitempty" doc:"The name or address that the endpoint's certificate must be valid for."`
	CA     string `json:"ca,omitempty" doc:"Certificates in PEM that verify goes by. Default: the gateway machine's own."`
	Pin    string `json:"pin,omitempty" doc:"sha256: and 64 hexadecimal digits: the hash of the public key (SubjectPublicKeyInfo) that the endpoint's certificate must have."`
}

// ServerName returns the name that an endpoint is asked for, "" if none.
func (t *TLS) ServerName() string {
	if t == nil {
		return ""
	}
	if t.Name != "" {
		return t.Name
	}
	return t.Verify
}

// maxCA bounds the certificates of one service in octets.
const maxCA = 64 << 10

// Check reports what cannot be meant.
func (t *TLS) Check() error {
	for field, name := range map[string]string{"name": t.Name, "verify": t.Verify} {
		if name == "" {
			continue
		}
		if h, err := ParseHost(name); err != nil || string(h) != name {
			if addr, ipErr := netip.ParseAddr(name); ipErr != nil || addr.Zone() != "" || field == "name" {
				return fmt.Errorf("%s %q is not a host name in lower case", field, clip(name))
			}
		}
	}
	if t.CA != "" {
		if t.Verify == "" {
			return errors.New("ca is of no use without verify, the name that the certificate must be valid for")
		}
		if _, err := t.Roots(); err != nil {
			return err
		}
	}
	if digits, ok := strings.CutPrefix(t.Pin, pinPrefix); t.Pin != "" {
		raw, err := hex.DecodeString(digits)
		if !ok || err != nil || len(raw) != sha256.Size || digits != strings.ToLower(digits) {
			return fmt.Errorf("pin %q is not sha256: and 64 hexadecimal digits in lower case", clip(t.Pin))
		}
	}
	return nil
}

const pinPrefix = "sha256:"

// PinOf returns the hash of a public key as Pin spells it.
func PinOf(sum [sha256.Size]byte) string { return pinPrefix + hex.EncodeToString(sum[:]) }

// Roots returns the certificates of CA, nil for the machine's own.
func (t *TLS) Roots() (*x509.CertPool, error) {
	if t.CA == "" {
		return nil, nil
	}
	if len(t.CA) > maxCA {
		return nil, fmt.Errorf("ca has %d octets; at most %d", len(t.CA), maxCA)
	}
	pool := x509.NewCertPool()
	rest, n := []byte(t.CA), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fmt.Errorf("ca holds a PEM block %q that is no certificate", clip(block.Type))
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("ca is not certificates in PEM alone")
	}
	return pool, nil
}
