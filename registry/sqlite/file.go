package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// takeLock takes the lock that keeps other processes out for as long as the
// file it returns is open. The lock is a file of its own: opening and closing
// the database a second time would end the locks that SQLite itself holds on
// it (POSIX locks belong to the process).
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("registry %s: lock %s: %w; put it on a local disk", path, f.Name(), err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, fmt.Errorf("registry %s: process %s has it open; stop that one or choose another data directory",
			path, cmp.Or(strings.TrimSpace(string(pid)), "of unknown number"))
	}
	// For the message above only; the lock holds without it, on a full disk too.
	if err := f.Truncate(0); err == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return f, nil
}

// releaseLock ends the lock outright: closing alone would leave it to a child
// that another goroutine is just starting, until that child runs its program.
func releaseLock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// prepareFile makes the file if there is none and checks it otherwise.
func (s *Store) prepareFile(ctx context.Context) error {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		return s.create(ctx)
	}
	return s.checkFile(ctx)
}

// checkFile refuses what is no registry that this program can open.
func (s *Store) checkFile(ctx context.Context) error {
	switch info, err := os.Stat(s.path); {
	case err != nil:
		return fmt.Errorf("registry %s: %w", s.path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("registry %s: is not a file", s.path)
	case info.Size() == 0:
		// SQLite would begin anew here, and every clone would be forgotten.
		return fmt.Errorf("registry %s: is empty, so it was cut off; "+
			"restore a backup, or remove it to begin with an empty registry", s.path)
	}
	return s.inspect(ctx)
}

// create makes the file, with its schema, aside and puts it in place at once:
// a first start that is cut short leaves nothing that looks like a registry
// that was lost.
func (s *Store) create(ctx context.Context) error {
	if _, err := os.Stat(s.path + "-wal"); err == nil {
		return fmt.Errorf("registry %s: is missing, but its log %s-wal is there; "+
			"restore a backup, or remove the log to begin with an empty registry", s.path, s.path)
	}
	draft := s.path + ".new"
	removeDatabase(draft)
	defer removeDatabase(draft) // once it is in place there is nothing to remove
	f, err := os.OpenFile(draft, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return s.fail("create", err)
	}
	if err := f.Close(); err != nil {
		return s.fail("create", err)
	}
	db := openPool(draft, writer)
	db.SetMaxOpenConns(1)
	err = migrate(ctx, db)
	if err == nil {
		_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)") // and syncs it
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return s.fail("create", err)
	}
	if err := os.Rename(draft, s.path); err != nil {
		return s.fail("create", err)
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return s.fail("create", err)
	}
	return s.fail("create", errors.Join(dir.Sync(), dir.Close()))
}

// removeDatabase removes a database that nobody has open, and what lies beside it.
func removeDatabase(path string) {
	for _, suffix := range []string{"-wal", "-shm", ""} {
		os.Remove(path + suffix)
	}
}
