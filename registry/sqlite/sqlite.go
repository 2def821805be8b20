// Package sqlite keeps the registry in one SQLite file, for one daemon on one
// machine. What Commit has acknowledged survives kill -9 and a power cut.
//
// The file belongs on a local disk: on NFS and most other network file systems
// neither locks nor syncs hold what this package relies on. While it is open
// two files lie beside it, FILE-wal and FILE-shm; they are part of it, so a
// backup is made with "sqlite3 FILE 'VACUUM INTO …'" and never by copying FILE
// alone. FILE.lock keeps a second daemon out.
//
// The package applies no rules and knows none. It is the only one that imports
// SQLite, and its errors are those of package registry.
package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"os"

	"github.com/clonegate/clonegate/registry"
)

// Config is what a Store may be told. The zero Config is fine.
type Config struct {
	// KeepEvents is how many of the newest events are kept; a few thousand
	// more may be there. Zero means 1,000,000.
	KeepEvents uint64
}

// A Store is a registry.Store in a file. Its methods may be called at the same
// time: readers wait for nobody, writers for one another.
type Store struct {
	path  string
	keep  uint64
	lock  *os.File
	write *sql.DB // one connection: the only one that writes
	read  *sql.DB
}

var _ registry.Store = (*Store)(nil)

// Open opens the registry in the file at path, which it makes if there is none
// (mode 0600), and brings its schema up to date. It looks at the file before
// it changes anything: one that is damaged, of a newer schema, of another
// program, or in use by another process is refused and left as it was.
func Open(ctx context.Context, path string, cfg Config) (_ *Store, err error) {
	s := &Store{path: path, keep: cmp.Or(cfg.KeepEvents, 1_000_000)}
	if s.lock, err = takeLock(path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.prepareFile(ctx); err != nil {
		return nil, err
	}
	s.write = openPool(path, writer)
	s.write.SetMaxOpenConns(1)
	if err := migrate(ctx, s.write); err != nil {
		return nil, s.fail("update the schema of", err)
	}
	s.read = openPool(path, reader)
	s.read.SetMaxOpenConns(4)
	s.read.SetMaxIdleConns(4)
	return s, nil
}

// Check returns nil if the registry in the file at path is sound and Open would
// take it. It reads only: an older schema stays as it is. The error is an
// fs.ErrNotExist if there is no file.
func Check(ctx context.Context, path string) error {
	if _, err := os.Stat(path + ".lock"); err == nil { // a lock that is missing is held by nobody
		lock, err := takeLock(path)
		if err != nil {
			return err
		}
		defer releaseLock(lock)
	}
	return (&Store{path: path}).checkFile(ctx)
}

// Close waits for work in progress, moves what lies in the write-ahead log
// into the file, and lets go of it.
func (s *Store) Close() error {
	// Readers go first, so that none of them keeps the log from being emptied.
	if err := s.read.Close(); err != nil {
		return errors.Join(s.fail("close", err), s.close())
	}
	_, err := s.write.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return errors.Join(s.fail("close", err), s.close())
}

// close releases whatever Open took, the lock last.
func (s *Store) close() error {
	var errs []error
	if s.read != nil {
		errs = append(errs, s.fail("close", s.read.Close()))
	}
	if s.write != nil {
		errs = append(errs, s.fail("close", s.write.Close()))
	}
	return errors.Join(append(errs, releaseLock(s.lock))...)
}
