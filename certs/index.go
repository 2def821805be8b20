package certs

import (
	"crypto/tls"
	"strings"
)

// A pairIndex finds the certificates for a server name. It is immutable.
type pairIndex struct {
	exact    map[string][]*tls.Certificate
	wildcard map[string][]*tls.Certificate // by what stands behind "*."
	all      []*tls.Certificate
}

func newPairIndex(pairs []*pair) *pairIndex {
	ix := &pairIndex{
		exact:    map[string][]*tls.Certificate{},
		wildcard: map[string][]*tls.Certificate{},
	}
	for _, p := range pairs {
		ix.all = append(ix.all, p.cert)
		for _, name := range p.cert.Leaf.DNSNames {
			name = strings.ToLower(name)
			if parent, ok := strings.CutPrefix(name, "*."); ok {
				ix.wildcard[parent] = append(ix.wildcard[parent], p.cert)
			} else {
				ix.exact[name] = append(ix.exact[name], p.cert)
			}
		}
	}
	return ix
}

// find returns the certificate to present; see Files.GetCertificate.
func (ix *pairIndex) find(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(hello.ServerName)
	_, parent, _ := strings.Cut(name, ".")
	for _, fit := range [][]*tls.Certificate{ix.exact[name], ix.wildcard[parent], ix.all} {
		if len(fit) > 0 {
			return supported(hello, fit)
		}
	}
	return nil // not reached: there is at least one pair
}

// supported returns the first certificate whose signature the client can
// verify, or the first if there is none.
func supported(hello *tls.ClientHelloInfo, fit []*tls.Certificate) *tls.Certificate {
	if len(fit) == 1 {
		return fit[0]
	}
	// The name has been matched, or is nobody's; only the algorithms count.
	nameless := *hello
	nameless.ServerName = ""
	for _, c := range fit {
		if nameless.SupportsCertificate(c) == nil {
			return c
		}
	}
	return fit[0]
}
