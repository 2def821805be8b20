package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"
)

// A FilePair names the files of one certificate, both in PEM form.
type FilePair struct {
	Cert string // the certificate, followed by the intermediate ones
	Key  string // its private key, without a passphrase
}

// A pair is what was found in the files of a FilePair.
type pair struct {
	FilePair
	cert *tls.Certificate // Leaf is set
	sum  [sha256.Size]byte
}

// readPair reads both files and returns them with a digest of the two.
func readPair(p FilePair) (cert, key []byte, sum [sha256.Size]byte, err error) {
	if cert, err = os.ReadFile(p.Cert); err != nil {
		return nil, nil, sum, fmt.Errorf("certificate: %w", err)
	}
	if key, err = os.ReadFile(p.Key); err != nil {
		return nil, nil, sum, fmt.Errorf("key of certificate %s: %w", p.Cert, err)
	}
	sum = sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(cert), cert, key))
	return cert, key, sum, nil
}

// parsePair makes a pair of the contents of its files.
func parsePair(p FilePair, cert, key []byte, sum [sha256.Size]byte) (*pair, error) {
	if err := checkCertificateText(p.Cert, cert); err != nil {
		return nil, err
	}
	if err := checkKeyText(p.Key, key); err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", p.Cert, p.Key, err)
	}
	for i, raw := range c.Certificate[1:] {
		if _, err := x509.ParseCertificate(raw); err != nil {
			return nil, fmt.Errorf("certificate %s: certificate %d in the file: %w", p.Cert, i+2, err)
		}
	}
	if len(c.Leaf.DNSNames)+len(c.Leaf.IPAddresses) == 0 {
		return nil, fmt.Errorf("certificate %s: it names no host (no subject alternative name), so every client would refuse it", p.Cert)
	}
	return &pair{p, &c, sum}, nil
}

// checkCertificateText explains the usual mistakes better than a parser does.
func checkCertificateText(file string, text []byte) error {
	block, _ := pem.Decode(text)
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return fmt.Errorf("certificate %s: the file is empty", file)
	case block == nil && isDER(text):
		return fmt.Errorf("certificate %s: the file is in DER form; make it PEM: openssl x509 -inform der -in %s -out %s", file, file, file+".pem")
	case block == nil:
		return fmt.Errorf("certificate %s: no PEM block in the file", file)
	case strings.HasSuffix(block.Type, "PRIVATE KEY") && !bytes.Contains(text, []byte("BEGIN CERTIFICATE")):
		return fmt.Errorf("certificate %s: the file holds a private key; are cert and key swapped?", file)
	}
	return nil
}

func checkKeyText(file string, text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return fmt.Errorf("key %s: the file is empty", file)
	}
	holds := ""
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return fmt.Errorf("key %s: the key is encrypted; write it without a passphrase: openssl pkey -in %s -out %s", file, file, file+".plain")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil
		case holds == "":
			holds = block.Type
		}
	}
	if holds == "" {
		return fmt.Errorf("key %s: no PEM block in the file", file)
	}
	return fmt.Errorf("key %s: no private key in the file, but a PEM block %q; are cert and key swapped?", file, holds)
}

func isDER(text []byte) bool {
	_, err := x509.ParseCertificate(text)
	return err == nil
}

// unusable says why clients refuse the pair at this time, or nil.
func (p *pair) unusable(now time.Time) error {
	switch {
	case !now.Before(p.cert.Leaf.NotAfter):
		return fmt.Errorf("certificate %s expired at %s", p.Cert, stamp(p.cert.Leaf.NotAfter))
	case now.Before(p.cert.Leaf.NotBefore):
		return fmt.Errorf("certificate %s is not valid before %s", p.Cert, stamp(p.cert.Leaf.NotBefore))
	}
	return nil
}

// endsSoon reports whether the pair should have been replaced by now: in the
// last third of its life, or two weeks before its end if that is later.
func (p *pair) endsSoon(now time.Time) bool {
	life := p.cert.Leaf.NotAfter.Sub(p.cert.Leaf.NotBefore)
	return p.cert.Leaf.NotAfter.Sub(now) < min(life/3, 14*24*time.Hour)
}
