package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"github.com/clonegate/clonegate/registry"
)

// A failure is what SQLite reports, in words of the registry: kind is what
// callers branch on, cause is what there is to tell.
type failure struct {
	doing string // "commit to"
	path  string
	kind  error
	cause error
	hint  string // what to do about it
}

func (f *failure) Error() string {
	text := fmt.Sprintf("%s registry %s: %v", f.doing, f.path, f.cause)
	if f.hint != "" {
		text += "; " + f.hint
	}
	return text
}

func (f *failure) Unwrap() []error { return []error{f.kind, f.cause} }

// A damage is what contradicts itself in the file.
type damage string

func (d damage) Error() string { return string(d) }

// fail returns err as an error of the registry; nil stays nil.
func (s *Store) fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	f := &failure{doing: doing, path: s.path, kind: registry.ErrUnavailable, cause: err}
	se, _ := errors.AsType[sqlite3.Error](err)
	_, damaged := errors.AsType[damage](err)
	switch {
	case se.Code == sqlite3.ErrFull || noSpace(err) || noSpace(se.SystemErrno):
		f.kind = registry.ErrFull
		f.hint = "free space on its disk"
	case damaged || se.Code == sqlite3.ErrCorrupt || se.Code == sqlite3.ErrNotADB:
		f.hint = fmt.Sprintf("the file is damaged: stop clonegate, then put a backup in its place and remove %s-wal, "+
			"or save what can be read with: sqlite3 %q .recover | sqlite3 recovered.db", filepath.Base(s.path), s.path)
	case se.Code == sqlite3.ErrBusy:
		f.hint = "another program has held it for 5 seconds; end its transaction"
	}
	return f
}

// noSpace reports whether err is the operating system's word for a full disk,
// a used up quota, or a limit on the size of files.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
