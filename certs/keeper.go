package certs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// Keep says for which names below the zones certificates shall be kept on
// behalf of key, beside the zones' own: subs stand before the zone and may be
// wildcards, such as "*.1234". They replace those of an earlier call; none at
// all lets go of the key. Names with an underscore are left out.
//
// What is asked for at once by more keys than the configuration allows waits
// until a key is let go; such names get the fallback's certificate meanwhile.
// The authority is asked for at most ten certificates in ten seconds. Keep
// does not block, and may be called before Run.
func (a *ACME) Keep(key string, subs []string) { a.wishes.set(key, subs) }

// wishes is what Keep was called with, for the keeper to fulfil.
type wishes struct {
	changed chan struct{} // has room for one; not empty if news is not

	mu   sync.Mutex
	news map[string][]string // guarded by mu; by key, nothing to let go
}

func newWishes() wishes {
	return wishes{changed: make(chan struct{}, 1), news: map[string][]string{}}
}

func (w *wishes) set(key string, subs []string) {
	w.mu.Lock()
	w.news[key] = subs
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *wishes) take() map[string][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	news := w.news
	w.news = map[string][]string{}
	return news
}

// A keeper obtains certificates. Only the goroutine of run touches its fields.
type keeper struct {
	*ACME
	cache   *certmagic.Cache
	options certmagic.CacheOptions // of cache
	cfg     *certmagic.Config
	jobs    sync.WaitGroup

	kept    map[string]map[string]*job // by key and name
	waiting map[string][]string        // subs of the keys for which there is no room
}

// A job is the attempt to have a certificate; once it has one, the cache
// renews that.
type job struct {
	stop context.CancelFunc
	done chan struct{}
}

// cleanEvery is how often certificates that nobody renews any more are looked
// for on disk; they are removed when they have been expired for cleanAfter.
const (
	cleanEvery = 24 * time.Hour
	cleanAfter = 14 * 24 * time.Hour
)

// run renews certificates, and does what Keep asks for, until ctx ends.
func (k *keeper) run(ctx context.Context, storage certmagic.Storage) {
	clean := time.NewTicker(cleanEvery)
	defer clean.Stop()
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			look.Reset(k.look(ctx))
		case <-k.wishes.changed:
			for key, subs := range k.wishes.take() {
				k.fulfil(ctx, key, subs)
			}
			k.admit(ctx)
		case <-clean.C:
			err := certmagic.CleanStorage(ctx, storage, certmagic.CleanStorageOptions{
				Logger: newZap(k.log), ExpiredCerts: true, ExpiredCertGracePeriod: cleanAfter,
			})
			if err != nil {
				k.log.Error("expired certificates are left on disk", "dir", k.ACME.cfg.Dir, "err", err)
			}
		}
	}
}

// mostUntilLook is how often certificates are looked at for renewal, unless
// those of the authority live so short that a twentieth of their life is less.
const mostUntilLook = 10 * time.Minute

// look renews what is due, and returns how long after that it wants to look
// again.
func (k *keeper) look(ctx context.Context) time.Duration {
	k.options.RenewCheckInterval = k.untilNextLook()
	k.cache.SetOptions(k.options) // with less than five looks left, certmagic renews at once
	if err := k.cache.RenewManagedCertificates(ctx); err != nil {
		k.log.Error("certificates are not looked at for renewal", "err", err)
	}
	return k.options.RenewCheckInterval
}

func (k *keeper) untilNextLook() time.Duration {
	wait := mostUntilLook
	for _, name := range k.names() {
		held := k.cache.AllMatchingCertificates(name)
		if len(held) == 0 {
			return time.Second // how long it will live is not known yet
		}
		for _, c := range held {
			wait = min(wait, c.Lifetime()/20)
		}
	}
	return max(wait, time.Second)
}

// fulfil changes for which names certificates are kept on behalf of a key, or
// has the key wait.
func (k *keeper) fulfil(ctx context.Context, key string, subs []string) {
	jobs, known := k.kept[key]
	names := k.below(subs)
	switch {
	case !known && len(names) == 0:
		delete(k.waiting, key)
		return
	case !known && len(k.kept) >= k.ACME.cfg.Keys:
		if len(k.waiting) == 0 {
			k.log.Warn("there is no room for more certificates for nested names: from now on some wait", "key", key, "most", k.ACME.cfg.Keys)
		}
		k.waiting[key] = subs
		return
	case !known:
		delete(k.waiting, key)
		jobs = map[string]*job{}
		k.kept[key] = jobs
	}
	for name, j := range jobs {
		if !slices.Contains(names, name) {
			j.stop()
			<-j.done
			delete(jobs, name)
			if !k.keeps(name) {
				k.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
			}
		}
	}
	for _, name := range names {
		if jobs[name] == nil {
			jobs[name] = k.start(ctx, name)
		}
	}
	if len(jobs) == 0 {
		delete(k.kept, key)
	}
}

// keeps reports whether a name is kept on behalf of any key: one that moves
// from key to key may have come to the new one already.
func (k *keeper) keeps(name string) bool {
	for _, jobs := range k.kept {
		if jobs[name] != nil {
			return true
		}
	}
	return false
}

// admit gives the places that have become free to those who wait, in any order.
func (k *keeper) admit(ctx context.Context) {
	for key, subs := range k.waiting {
		if len(k.kept) >= k.ACME.cfg.Keys {
			return
		}
		k.fulfil(ctx, key, subs)
	}
}

// below returns the names for subs in the zones that are certified.
func (k *keeper) below(subs []string) []string {
	var names []string
	for _, z := range k.zones {
		for _, sub := range subs {
			if name := sub + "." + string(z); len(name) <= maxName && !hasUnderscore(name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// start begins to obtain the certificate for a name, unless it is on disk.
func (k *keeper) start(ctx context.Context, name string) *job {
	ctx, stop := context.WithCancel(ctx)
	j := &job{stop, make(chan struct{})}
	k.jobs.Go(func() {
		defer close(j.done)
		defer stop()
		k.obtain(ctx, name)
	})
	return j
}

// restart is how long after certmagic has given up it is asked again. It tries
// for 30 days by itself, ever more seldom, unless the disk is at fault.
const restart = 10 * time.Minute

// obtain returns when the certificate is there, or ctx has ended.
func (k *keeper) obtain(ctx context.Context, name string) {
	for {
		err := k.cfg.ObtainCertAsync(ctx, name)
		if err == nil {
			_, err = k.cfg.CacheManagedCertificate(ctx, name)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		k.log.Error("no certificate could be obtained", "name", name, "again", restart, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restart):
		}
	}
}
