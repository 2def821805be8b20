// Package archive turns a directory into a tar stream and back.
//
// Equal directories make equal streams: entries are sorted, and of times,
// owners and permissions only the owner's execute bit is kept. What comes back
// is trusted with nothing: an archive that could write outside its directory,
// bring devices or set-id bits, or unpack to more than its limits is refused,
// and the entry is named. The package knows no compression and no templates.
package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clonegate/clonegate/registry"
)

// Limits bound what an archive may hold. A zero field means its default.
type Limits struct {
	Entries int   // files, directories and links; 100,000
	Bytes   int64 // content of all files together; 8 GiB
}

// Defaults of Limits.
const (
	DefaultEntries = 100_000
	DefaultBytes   = 8 << 30
)

// MaxName bounds the path of an entry in octets.
const MaxName = 1024

// An EntryError says which entry of an archive is refused, and why. It is a
// registry.ErrInvalid.
type EntryError struct {
	Name   string
	Reason string
}

func (e *EntryError) Error() string {
	name := e.Name
	if len(name) > 200 {
		name = name[:200] + "…"
	}
	return fmt.Sprintf("entry %q %s", name, e.Reason)
}

// Is reports that an EntryError is a registry.ErrInvalid.
func (e *EntryError) Is(target error) bool { return target == registry.ErrInvalid }

// errTruncated is an archive that ends too early, or is none.
var errTruncated = errors.New("it is cut short, or not a tar archive")

// A ledger holds what an archive has had so far, and says whether one more
// entry may follow. Reading and writing obey the same rules, so that what was
// packed can always be unpacked.
type ledger struct {
	limits  Limits
	bytes   int64
	entries map[string]kind
}

type kind byte

const (
	implied kind = iota + 1 // a directory that only stands in the path of others
	directory
	file
	link
)

func newLedger(l Limits) *ledger {
	if l.Entries == 0 {
		l.Entries = DefaultEntries
	}
	if l.Bytes == 0 {
		l.Bytes = DefaultBytes
	}
	return &ledger{limits: l, entries: map[string]kind{}}
}

// admit checks an entry by its clean name, "a/b" for a directory too. target
// is where a link leads, size the content of a file.
func (l *ledger) admit(name string, k kind, target string, size int64) error {
	refuse := func(format string, args ...any) error {
		return &EntryError{name, fmt.Sprintf(format, args...)}
	}
	if reason := badName(name); reason != "" {
		return refuse("%s", reason)
	}
	if had, twice := l.entries[name]; twice && (had != implied || k != directory) {
		return refuse("stands twice in the archive")
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		switch l.entries[dir] {
		case 0:
			l.entries[dir] = implied
		case file, link:
			return refuse("lies below %q, which is not a directory", dir)
		}
	}
	if k == link {
		if reason := badTarget(name, target); reason != "" {
			return refuse("%s", reason)
		}
	}
	l.entries[name] = k
	if len(l.entries) > l.limits.Entries {
		return refuse("is one more than the %d entries that are allowed", l.limits.Entries)
	}
	if size < 0 || size > l.limits.Bytes-l.bytes {
		return refuse("makes the content larger than the %d bytes that are allowed", l.limits.Bytes)
	}
	l.bytes += size
	return nil
}

// badName says what is wrong with the name of an entry.
func badName(name string) string {
	switch {
	case path.IsAbs(name):
		return "has an absolute path"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "has a name that is not plain UTF-8 text"
	case !fs.ValidPath(name) || name == ".":
		return "leads outside the template, or its path is not in its shortest form"
	case len(name) > MaxName:
		return fmt.Sprintf("has a path of %d octets; at most %d", len(name), MaxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 255 {
			return "has a name longer than 255 octets"
		}
	}
	return ""
}

// badTarget says what is wrong with where a link leads. Only leading ".."
// are taken, and only as many as there are real directories above the link:
// then no chain of links can lead outside.
func badTarget(name, target string) string {
	switch {
	case path.IsAbs(target):
		return fmt.Sprintf("is a link to the absolute path %q; make it relative", target)
	case target == "" || len(target) > MaxName || strings.ContainsFunc(target, unicode.IsControl) || !utf8.ValidString(target):
		return "is a link to an empty, overlong or unprintable path"
	case path.Clean(target) != strings.TrimSuffix(target, "/"):
		return fmt.Sprintf("is a link to %q, which is not in its shortest form", target)
	}
	if to := path.Join(path.Dir(name), target); to == ".." || strings.HasPrefix(to, "../") {
		return fmt.Sprintf("is a link to %q, outside the template", target)
	}
	return ""
}
