package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/registry"
)

// FilesConfig is what Files needs. Pairs is required.
type FilesConfig struct {
	Pairs []FilePair

	// Zones are checked to be covered by the certificates; a zone that is not
	// is a warning in the log. Nil checks nothing.
	Zones *registry.Zones

	// RecheckEvery is how often the files are read again even if the system
	// has told of no change. Zero means one minute.
	RecheckEvery time.Duration

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil means time.Now
}

// Files presents certificates from files. While Run runs, files that change
// are loaded again; connections that stand are not touched. New files that
// cannot be used leave the old certificate in use.
type Files struct {
	zones   *registry.Zones
	recheck time.Duration
	log     *slog.Logger
	now     func() time.Time
	expiry  *prometheus.GaugeVec

	index atomic.Pointer[pairIndex]

	mu    sync.Mutex // guards the following
	files []*watched
}

// A watched pair is the state of one FilePair over time.
type watched struct {
	pair    *pair     // in use
	failure string    // of the newest attempt to load; logged already
	warned  time.Time // when its coming end was last told
}

// NewFiles loads every pair; an error names the file and what is wrong with
// it. A certificate that has expired is complained of in the log and used
// nevertheless: clients refuse it, but the rest of the gateway works.
func NewFiles(cfg FilesConfig) (*Files, error) {
	if len(cfg.Pairs) == 0 {
		return nil, errors.New("certificate files: none given")
	}
	if cfg.RecheckEvery < 0 {
		return nil, fmt.Errorf("certificate files: recheck every %s: want more than nothing", cfg.RecheckEvery)
	}
	f := &Files{zones: cfg.Zones, recheck: cfg.RecheckEvery, log: cfg.Log, now: cfg.Now}
	if f.recheck == 0 {
		f.recheck = time.Minute
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.now == nil {
		f.now = time.Now
	}
	for _, p := range cfg.Pairs {
		cert, key, sum, err := readPair(p)
		if err != nil {
			return nil, err
		}
		loaded, err := parsePair(p, cert, key, sum)
		if err != nil {
			return nil, err
		}
		f.files = append(f.files, &watched{pair: loaded})
	}
	var err error
	if f.expiry, err = newFileExpiry(cfg.Metrics); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publishLocked()
	f.warnOfEndsLocked()
	f.warnOfZonesLocked()
	return f, nil
}

// GetCertificate returns the certificate for the name that a client asks for:
//
//  1. one with exactly this name
//  2. one with a wildcard for it
//  3. that of the first pair: for any other name, or none
//
// Where several fit, the first that the client can verify (say, ECDSA before
// RSA) is taken.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.index.Load().find(hello), nil
}

// quiet is how long files must rest after a change before they are read, so
// that a certificate and its key are seen together.
const quiet = 300 * time.Millisecond

// Run loads files again when they change, and warns of those about to expire,
// until ctx ends. It watches the folders rather than the files, because files
// are replaced by renaming and by swapping symbolic links; what that misses,
// reading them again from time to time does not.
func (f *Files) Run(ctx context.Context) error {
	var events <-chan fsnotify.Event // nil without a watcher: never ready
	var failures <-chan error
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("folders of certificates cannot be watched: changes are found when the files are next read", "every", f.recheck, "err", err)
	} else {
		defer w.Close()
		events, failures = w.Events, w.Errors
	}
	tick := time.NewTicker(f.recheck)
	defer tick.Stop()
	changed := time.NewTimer(0)
	defer changed.Stop()
	f.watch(w)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			changed.Reset(quiet)
		case err := <-failures:
			f.log.Warn("watching the folders of certificates", "err", err)
		case <-changed.C:
			f.check()
		case <-tick.C:
			f.watch(w) // a folder may have been made anew
			f.check()
		}
	}
}

// watch adds the folders of all files to w, which may be nil; those watched
// already stay so.
func (f *Files) watch(w *fsnotify.Watcher) {
	if w == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.files {
		for _, name := range []string{x.pair.Cert, x.pair.Key} {
			if err := w.Add(filepath.Dir(name)); err != nil {
				f.log.Debug("folder of a certificate not watched", "file", name, "err", err)
			}
		}
	}
}

// check reads every file and takes what has changed into use.
func (f *Files) check() {
	f.mu.Lock()
	defer f.mu.Unlock()
	swapped := false
	for _, x := range f.files {
		loaded, err := f.reload(x.pair)
		if err != nil {
			if x.failure != err.Error() {
				x.failure = err.Error()
				f.log.Error("changed certificate files cannot be used: the old certificate stays in use", "file", x.pair.Cert, "until", stamp(x.pair.cert.Leaf.NotAfter), "err", err)
			}
			continue
		}
		x.failure = ""
		if loaded != x.pair {
			x.pair, x.warned, swapped = loaded, time.Time{}, true
			f.log.Info("certificate loaded", "file", loaded.Cert, "names", loaded.cert.Leaf.DNSNames, "until", stamp(loaded.cert.Leaf.NotAfter))
		}
	}
	if swapped {
		f.publishLocked()
		f.warnOfZonesLocked()
	}
	f.warnOfEndsLocked()
}

// reload returns old if the files have not changed. What no client would
// accept does not replace what they do.
func (f *Files) reload(old *pair) (*pair, error) {
	cert, key, sum, err := readPair(old.FilePair)
	if err != nil {
		return nil, err
	}
	if sum == old.sum {
		return old, nil
	}
	loaded, err := parsePair(old.FilePair, cert, key, sum)
	if err != nil {
		return nil, err
	}
	now := f.now()
	if err := loaded.unusable(now); err != nil && old.unusable(now) == nil {
		return nil, err
	}
	return loaded, nil
}

// publishLocked shows the loaded pairs to handshakes.
func (f *Files) publishLocked() {
	pairs := make([]*pair, len(f.files))
	for i, x := range f.files {
		pairs[i] = x.pair
		f.expiry.WithLabelValues(x.pair.Cert).Set(float64(x.pair.cert.Leaf.NotAfter.Unix()))
	}
	f.index.Store(newPairIndex(pairs))
}

// warnOfEndsLocked tells once a day of certificates that have ended or soon
// will.
func (f *Files) warnOfEndsLocked() {
	now := f.now()
	for _, x := range f.files {
		ends := x.pair.endsSoon(now)
		err := x.pair.unusable(now)
		if !ends && err == nil || now.Sub(x.warned) < 24*time.Hour {
			continue
		}
		x.warned = now
		until := stamp(x.pair.cert.Leaf.NotAfter)
		if err != nil {
			f.log.Error("clients refuse a certificate in use: replace its files", "file", x.pair.Cert, "until", until, "err", err)
		} else {
			f.log.Warn("a certificate ends soon: replace its files", "file", x.pair.Cert, "until", until)
		}
	}
}

// warnOfZonesLocked tells of certificates and zones that have nothing to do
// with each other, and of wildcards that some clients will not match.
func (f *Files) warnOfZonesLocked() {
	if f.zones == nil {
		return
	}
	covered := map[registry.Host]bool{}
	for _, x := range f.files {
		useful := false
		for _, z := range f.zones.Hosts() {
			if x.pair.cert.Leaf.VerifyHostname("www-1."+string(z)) == nil {
				useful, covered[z] = true, true
			}
		}
		if !useful {
			f.log.Warn("a certificate is for none of the zones", "file", x.pair.Cert, "names", x.pair.cert.Leaf.DNSNames, "zones", f.zones.Hosts())
		}
	}
	for _, z := range f.zones.Hosts() {
		switch {
		case !covered[z]:
			f.log.Warn("no certificate file has a wildcard for the zone: clients will refuse its names", "zone", z, "want", "*."+string(z))
		case strings.Contains(string(z), "_"):
			f.log.Warn("the zone has an underscore: OpenSSL and Python match no wildcard in it, Java no name at all; give it an alias with a hyphen, or use the internal CA", "zone", z)
		}
	}
}
