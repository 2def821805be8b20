package certs

import (
	"context"
	"sync"

	"github.com/caddyserver/certmagic"
)

// A disk keeps accounts, keys and certificates of ACME in a folder, files with
// mode 0600. Its locks are in memory: one process uses the folder, and after a
// crash nothing has to be unlocked.
type disk struct {
	certmagic.FileStorage

	mu    sync.Mutex
	locks map[string]chan struct{} // guarded by mu; closed when unlocked
}

func newDisk(dir string) *disk {
	return &disk{FileStorage: certmagic.FileStorage{Path: dir}, locks: map[string]chan struct{}{}}
}

// Lock waits until nobody else holds the lock of that name.
func (d *disk) Lock(ctx context.Context, name string) error {
	for {
		held := d.tryLock(name)
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TryLock is Lock without waiting; it reports whether the lock was got.
func (d *disk) TryLock(_ context.Context, name string) (bool, error) {
	return d.tryLock(name) == nil, nil
}

// tryLock takes the lock and returns nil, or returns what is closed when it
// is let go.
func (d *disk) tryLock(name string) (held chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if held, ok := d.locks[name]; ok {
		return held
	}
	d.locks[name] = make(chan struct{})
	return nil
}

// Unlock lets go of what Lock or TryLock took.
func (d *disk) Unlock(_ context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if held, ok := d.locks[name]; ok {
		close(held)
		delete(d.locks, name)
	}
	return nil
}
