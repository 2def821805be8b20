package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A leaf is what one set of names is served with for a while.
type leaf struct {
	cert  *tls.Certificate
	from  time.Time // NotBefore
	renew time.Time // two thirds of its life later
	until time.Time // NotAfter
}

// fresh reports whether l can be presented. One that is not valid yet was
// signed by a clock that has since gone back.
func (l *leaf) fresh(now time.Time) bool {
	return l != nil && !now.Before(l.from) && now.Before(l.renew)
}

// sign makes a leaf for names and addresses, valid from an hour ago until
// lifetime from now, or the signer's end.
//
// Every leaf has a key of its own: to make one costs less than the signature,
// and no key outlives the leaf it was made for. The subject is empty and the
// alternative names critical, as RFC 5280 section 4.1.2.6 asks and Java
// insists; crypto/x509 marks them so. Leaf is not filled in: servers do not
// read it, and ten thousand parsed copies are not small.
func (a *authority) sign(names []string, ips []net.IP, now time.Time, lifetime time.Duration) (*leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	l := &leaf{from: now.Add(-skew), until: now.Add(lifetime)}
	if l.until.After(a.signer.NotAfter) {
		l.until = a.signer.NotAfter
	}
	l.renew = now.Add(l.until.Sub(now) / 3 * 2)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		DNSNames:              names,
		IPAddresses:           ips,
		NotBefore:             l.from,
		NotAfter:              l.until,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.signer, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	l.cert = &tls.Certificate{Certificate: [][]byte{der, a.signer.Raw}, PrivateKey: key}
	return l, nil
}

// A slot holds the leaf of one set of names and has the next one signed when
// it is due. Callers that come while one is being signed wait for that one.
type slot struct {
	names []string
	ips   []net.IP

	current atomic.Pointer[leaf]
	signing sync.Mutex // held while the next leaf is made
}

// certificate returns a leaf for the slot that is valid now.
func (s *slot) certificate(ca *CA) (*tls.Certificate, error) {
	now := ca.now()
	l := s.current.Load()
	if !l.fresh(now) {
		var err error
		if l, err = s.next(ca, now); err != nil {
			return nil, err
		}
	}
	ca.metrics.presented(l)
	return l.cert, nil
}

func (s *slot) next(ca *CA, now time.Time) (*leaf, error) {
	s.signing.Lock()
	defer s.signing.Unlock()
	if l := s.current.Load(); l.fresh(now) {
		return l, nil
	}
	l, err := ca.authority.sign(s.names, s.ips, now, ca.lifetime)
	if err != nil {
		return nil, fmt.Errorf("internal CA: sign a leaf for %q: %w", s.names, err)
	}
	s.current.Store(l)
	ca.metrics.issued.Inc()
	ca.log.Debug("leaf signed", "names", s.names, "until", stamp(l.until))
	return l, nil
}
