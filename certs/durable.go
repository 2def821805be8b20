package certs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// writeDurably writes a file aside, syncs it and renames it into place, so
// that after a crash the file is whole or not there. What an earlier crash
// left aside is overwritten.
func writeDurably(name string, data []byte, perm os.FileMode) error {
	aside := name + ".new"
	if err := writeSynced(aside, data, perm); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), remove(aside))
	}
	if err := os.Rename(aside, name); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), remove(aside))
	}
	return syncDir(filepath.Dir(name))
}

func writeSynced(name string, data []byte, perm os.FileMode) error {
	// Removed first, so that the mode is that of a file made here.
	if err := remove(name); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(perm), f.Sync(), f.Close())
}

// remove deletes a file that may not be there.
func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
