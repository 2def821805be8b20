// Package durable writes files so that a crash at any moment leaves either
// the old content or the new, never a part of one: write aside, sync, rename,
// sync the directory.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/clonegate/clonegate/registry"
)

// WriteFile makes data the content of the file name. perm is exact, whatever
// the umask. A full disk is a registry.ErrFull.
func WriteFile(name string, data []byte, perm fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".aside-")
	if err != nil {
		return Full(err)
	}
	defer os.Remove(f.Name()) // nothing is left of it after the rename
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(perm), f.Sync(), f.Close())
	if err != nil {
		return Full(err)
	}
	return Rename(f.Name(), name)
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
