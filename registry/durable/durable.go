// Package durable writes files so that a crash at any moment leaves either
// the old content or the new, never a part of one: write aside, sync, rename,
// sync the directory. What a crash leaves aside is removed when the same file
// is written again.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/clonegate/clonegate/registry"
)

// WriteFile makes data the content of the file name. perm is exact, whatever
// the umask. A full disk is a registry.ErrFull.
func WriteFile(name string, data []byte, perm fs.FileMode) error {
	return write(name, data, perm, os.Rename)
}

// CreateFile is WriteFile for a file that must not be there yet: the error is
// an fs.ErrExist if it is.
func CreateFile(name string, data []byte, perm fs.FileMode) error {
	return write(name, data, perm, os.Link)
}

// write puts a file that was written aside in its place by place.
func write(name string, data []byte, perm fs.FileMode, place func(aside, name string) error) error {
	dir, prefix := filepath.Dir(name), ".aside-"+filepath.Base(name)+"-"
	if err := sweep(dir, prefix); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f, err := createAside(dir, prefix)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, Full(err))
	}
	defer f.Close()
	defer os.Remove(f.Name()) // nothing is left of it after a rename
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(perm), f.Sync()); err == nil {
		err = place(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, Full(err))
	}
	return SyncDir(dir)
}

// createAside makes a file that sweep leaves alone as long as it is open.
func createAside(dir, prefix string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, prefix+"*")
		if err != nil {
			return nil, err
		}
		syscall.Flock(int(f.Fd()), syscall.LOCK_EX) // a file system without locks has no sweep either
		if _, err := os.Lstat(f.Name()); err == nil {
			return f, nil
		}
		f.Close() // swept before it was locked
	}
}

// sweep removes what writers that were killed left behind: files that nobody
// holds a lock on.
func sweep(dir, prefix string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || !e.Type().IsRegular() {
			continue
		}
		left := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(left, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue // gone by now, or not ours
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			os.Remove(left)
		}
		f.Close()
	}
	return nil
}

// Rename gives a file, whose content has been synced, its final name.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return Full(err)
	}
	return SyncDir(filepath.Dir(to))
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return Full(errors.Join(d.Sync(), d.Close()))
}

// Full makes an error that comes from a full disk a registry.ErrFull, and
// returns every other as it is.
func Full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &fullError{err}
	}
	return err
}

type fullError struct{ err error }

func (e *fullError) Error() string        { return e.err.Error() }
func (e *fullError) Unwrap() error        { return e.err }
func (e *fullError) Is(target error) bool { return target == registry.ErrFull }
