package daemon

import (
	"context"
	"crypto/tls"
	"net/netip"
	"slices"

	"github.com/clonegate/clonegate/certs"
	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
)

// A certificateSource is where the certificates of the gateway and the API
// come from.
type certificateSource struct {
	gateway func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	api     func(*tls.ClientHelloInfo) (*tls.Certificate, error) // nil: the API speaks plain http
	root    func() []byte                                        // nil without a CA of our own
	forget  func(key string)                                     // of leafNames; the same

	challenges *dnsd.Challenges // nil without ACME
}

// openCertificates loads certificate files, or the internal CA if there are
// none, and lets an ACME authority go before that if one is configured.
func (d *Daemon) openCertificates(context.Context) error {
	if len(d.cfg.Certificates.Files) > 0 {
		return d.openCertificateFiles()
	}
	ca, err := certs.NewCA(certs.CAConfig{
		Dir: d.cfg.Data, Zones: d.zones, Names: leafNames(d.registry.View()),
		Log: d.log.With("room", "certs"), Metrics: d.metrics,
	})
	if err != nil {
		return err
	}
	d.certificates = certificateSource{gateway: ca.GetCertificate, root: ca.RootPEM, forget: ca.Forget}
	if d.cfg.Certificates.ACME.Directory != "" {
		if err := d.openACME(); err != nil {
			return err
		}
	}
	listen := addrOf(d.sockets.api).Addr()
	if listen.IsLoopback() {
		return nil
	}
	addrs := []netip.Addr{listen}
	if listen.IsUnspecified() {
		all, err := machineAddresses()
		if err != nil {
			return err
		}
		// The CA signs for no others; who calls by those needs certificate files.
		addrs = slices.DeleteFunc(all, func(a netip.Addr) bool { return !isPrivate(a) })
	}
	d.certificates.api, err = ca.ServerCertificate(nil, addrs)
	return err
}

func (d *Daemon) openCertificateFiles() error {
	pairs := make([]certs.FilePair, len(d.cfg.Certificates.Files))
	for i, f := range d.cfg.Certificates.Files {
		pairs[i] = certs.FilePair{Cert: f.Cert, Key: f.Key}
	}
	files, err := certs.NewFiles(certs.FilesConfig{
		Pairs: pairs, Zones: d.zones, Log: d.log.With("room", "certs"), Metrics: d.metrics,
	})
	if err != nil {
		return err
	}
	d.certificates = certificateSource{gateway: files.GetCertificate}
	if !addrOf(d.sockets.api).Addr().IsLoopback() {
		d.certificates.api = files.GetCertificate
	}
	d.parts = append(d.parts, part{"certificates", files.Run})
	return nil
}

// isPrivate reports whether nobody outside this organisation has an address.
func isPrivate(a netip.Addr) bool {
	return a.IsLoopback() || slices.ContainsFunc(registry.PrivateNetworks, func(p netip.Prefix) bool { return p.Contains(a) })
}
