package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/registry"
)

// ACMEConfig is what ACME needs. Directory, Dir, Zones, Challenges, DNSServer
// and Fallback are required.
type ACMEConfig struct {
	// Directory is the URL of the authority's directory. To use it means to
	// agree to its terms.
	Directory string

	// Root is a PEM file with the root that signed the certificate of the
	// directory itself, if this machine does not trust it. Empty: none.
	Root string

	// Email is where the authority may write to. Empty: nowhere.
	Email string

	// AccountKeyID and AccountKey bind us to an account that the operator has
	// with the authority, if it asks for that (RFC 8555 section 7.3.4); the key
	// is in base64url form. Both or none.
	AccountKeyID, AccountKey string

	// Dir is where accounts, keys and certificates are kept. It is made if
	// need be, and no other process may use it.
	Dir string

	// Zones are the domains to be certified, each with its wildcard: all that
	// have no underscore. There must be one.
	Zones *registry.Zones

	// Challenges answers the authority's questions.
	Challenges Challenges

	// DNSServer is the address and port at which the server behind Challenges
	// answers: it is asked which zone a name lies in.
	DNSServer string

	// Fallback presents a certificate for whatever ACME has none for.
	Fallback func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// Keys bounds for how many keys certificates are kept; see Keep. Zero
	// means 100.
	Keys int

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil means time.Now
}

// ACME presents certificates that a certificate authority issued by the ACME
// protocol (RFC 8555): one for every zone, one for its wildcard, and those
// asked for by Keep. While Run runs they are obtained, and renewed when a third
// of their life is left or the authority asks for it (RFC 9773); a handshake
// never causes that, whatever name it asks for. The authority is shown by the
// DNS-01 challenge that we answer for the zones.
//
// While the authority cannot be reached, what was issued is presented until it
// expires.
type ACME struct {
	cfg     ACMEConfig
	zones   []registry.Host // those that are certified
	roots   *x509.CertPool  // nil: those of the system
	log     *slog.Logger
	now     func() time.Time
	metrics *acmeMetrics
	wishes  wishes

	loaded chan struct{}    // closed when cache is set, and holds what is on disk
	cache  *certmagic.Cache // set by Run
}

// NewACME checks the configuration. It is an error if every zone has an
// underscore.
func NewACME(cfg ACMEConfig) (*ACME, error) {
	if cfg.Directory == "" || cfg.Dir == "" || cfg.Zones == nil || cfg.Challenges == nil || cfg.DNSServer == "" || cfg.Fallback == nil {
		return nil, errors.New("ACME: Directory, Dir, Zones, Challenges, DNSServer and Fallback are required")
	}
	if (cfg.AccountKeyID == "") != (cfg.AccountKey == "") {
		return nil, errors.New("ACME: an external account needs both its key's ID and the key")
	}
	if cfg.Keys < 0 {
		return nil, fmt.Errorf("ACME: keys %d: want more than nothing", cfg.Keys)
	}
	if cfg.Keys == 0 {
		cfg.Keys = 100
	}
	a := &ACME{cfg: cfg, log: cfg.Log, now: cfg.Now, wishes: newWishes(), loaded: make(chan struct{})}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	for _, z := range cfg.Zones.Hosts() {
		if !hasUnderscore(string(z)) {
			a.zones = append(a.zones, z)
		}
	}
	if len(a.zones) == 0 {
		return nil, fmt.Errorf("ACME: no authority issues for a name with an underscore, as in %v: give the zone an alias with a hyphen, or use the internal CA", cfg.Zones.Hosts())
	}
	var err error
	if a.roots, err = readRoots(cfg.Root); err != nil {
		return nil, err
	}
	a.metrics, err = newACMEMetrics(cfg.Metrics, a)
	return a, err
}

// hasUnderscore reports whether no ACME authority issues for a name (CA/Browser
// Forum ballot SC12).
func hasUnderscore(name string) bool { return strings.Contains(name, "_") }

// readRoots returns the certificates in a PEM file, nil if there is no file.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ACME: root of the directory: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ACME: root of the directory: no certificate in PEM form in %s", file)
	}
	return pool, nil
}

// GetCertificate returns the certificate for the name that a client asks for:
//
//  1. one that was issued for the name or its wildcard, and has not expired
//  2. what the fallback says
//
// The first calls wait until Run has read what is on disk.
func (a *ACME) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if a.certifies(hello.ServerName) {
		var gone <-chan struct{}
		if ctx := hello.Context(); ctx != nil {
			gone = ctx.Done()
		}
		select {
		case <-a.loaded:
		case <-gone:
			return nil, errors.New("ACME: the client left before certificates were read from disk")
		}
		if cert := a.find(strings.ToLower(hello.ServerName)); cert != nil {
			return cert, nil
		}
	}
	return a.cfg.Fallback(hello)
}

// certifies reports whether a server name, as a client sent it, lies in one of
// the zones that are certified.
func (a *ACME) certifies(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	_, zone, ok := a.cfg.Zones.Split(strings.ToLower(name))
	return ok && !hasUnderscore(string(zone))
}

// find returns a certificate for a name that has not expired, nil if there is
// none. It may be called when loaded is closed.
func (a *ACME) find(name string) *tls.Certificate {
	now := a.now()
	for _, c := range a.cache.AllMatchingCertificates(name) {
		if c.Leaf != nil && now.Before(c.Leaf.NotAfter) {
			return &c.Certificate
		}
	}
	return nil
}

// Run obtains and renews certificates until ctx ends. It may be called once.
func (a *ACME) Run(ctx context.Context) error {
	zap := newZap(a.log)
	var cfg *certmagic.Config
	options := certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return cfg, nil },
		Logger:           zap,
	}
	cache := certmagic.NewCache(options)
	defer cache.Stop()
	storage := newDisk(a.cfg.Dir)
	cfg = certmagic.New(cache, certmagic.Config{
		Storage: storage,
		Logger:  zap,
		OnEvent: a.note,
		// A handshake waits for nobody else, and the large authorities no
		// longer answer.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	})
	cfg.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(cfg, a.issuer())}
	k := &keeper{ACME: a, cache: cache, options: options, cfg: cfg, kept: map[string]map[string]*job{}, waiting: map[string][]string{}}
	missing := k.load(ctx)
	a.cache = cache
	close(a.loaded)
	for _, name := range missing {
		k.start(ctx, name)
	}
	k.run(ctx, storage)
	k.jobs.Wait()
	return nil
}

// issuer says how certificates are asked for.
func (a *ACME) issuer() certmagic.ACMEIssuer {
	zap := newZap(a.log)
	issuer := certmagic.ACMEIssuer{
		CA:                      a.cfg.Directory,
		Email:                   a.cfg.Email,
		Agreed:                  true,
		TrustedRoots:            a.roots,
		DisableHTTPChallenge:    true,
		DisableTLSALPNChallenge: true,
		DNS01Solver: &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
			DNSProvider: challengeProvider{a.cfg.Challenges},
			Resolvers:   []string{a.cfg.DNSServer},
			// What Challenges.Set was told is answered already.
			PropagationTimeout: -1,
			Logger:             zap,
		}},
		Logger: zap,
	}
	if a.cfg.AccountKeyID != "" {
		issuer.ExternalAccount = &acme.EAB{KeyID: a.cfg.AccountKeyID, MACKey: a.cfg.AccountKey}
	}
	return issuer
}

// names returns the names that are always certified.
func (a *ACME) names() []string {
	var names []string
	for _, z := range a.zones {
		names = append(names, string(z), "*."+string(z))
	}
	return names
}

// load reads the certificates of the zones from disk and returns the names of
// those that are not there.
func (k *keeper) load(ctx context.Context) (missing []string) {
	for _, name := range k.names() {
		_, err := k.cfg.CacheManagedCertificate(ctx, name)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			k.log.Error("a certificate on disk cannot be used: another is obtained", "name", name, "dir", k.ACME.cfg.Dir, "err", err)
		}
		missing = append(missing, name)
	}
	return missing
}

// note counts and logs what happens to certificates.
func (a *ACME) note(_ context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtained":
		if data["renewal"] == true {
			a.metrics.renewed.Inc()
			a.log.Info("certificate renewed", "name", data["identifier"])
			return nil
		}
		a.metrics.issued.Inc()
		a.log.Info("certificate issued", "name", data["identifier"])
	case "cert_failed":
		a.metrics.failed.Inc()
	}
	return nil
}
