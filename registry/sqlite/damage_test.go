package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/sqlite"
)

// TestRefusedFiles opens files that must be refused, with words that help and
// without a byte of them changed.
func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	good := goodFile(t)
	garbage := bytes.Repeat([]byte("clonegate "), 1000)
	const damaged = "the file is damaged: stop clonegate, then put a backup in its place and remove registry.db-wal"
	for _, test := range []struct {
		name    string
		content []byte
		query   string // run on the file by another program
		want    string
	}{
		{name: "cut in half", content: good[:len(good)/2], want: damaged},
		{name: "cut within a page", content: good[:len(good)-1000], want: damaged},
		{name: "cut by one page", content: good[:len(good)-4096], want: damaged},
		{name: "cut after one page", content: good[:4096], want: damaged},
		{name: "cut within the header", content: good[:50], want: damaged},
		{name: "cut to nothing", content: nil, want: "is empty, so it was cut off; restore a backup, or remove it"},
		{name: "never a database", content: garbage, want: damaged},
		{name: "garbage in the middle", content: overwrite(good, len(good)/2, garbage), want: damaged},
		{name: "zeroes in the middle", content: overwrite(good, len(good)/2, make([]byte, 8192)), want: damaged},
		{name: "a flipped bit in the header of a page", content: overwrite(good, 3*4096, []byte{good[3*4096] ^ 1}), want: damaged},
		{
			name: "a newer schema", content: good,
			query: "INSERT INTO registry_schema (version_id, is_applied) VALUES (99, 1)",
			want:  "has schema version 99, and this clonegate knows versions up to 1; run the newer clonegate that wrote it",
		},
		{
			name:  "another program's",
			query: "CREATE TABLE bookmarks (url TEXT)",
			want:  "is a database of another program; choose another file",
		},
		{
			name: "another program's with its own number", content: good,
			query: "PRAGMA application_id = 7",
			want:  "is a database of another program",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "registry.db")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if test.query != "" {
				db := raw(t, path)
				if _, err := db.Exec(test.query); err != nil {
					t.Fatal(err)
				}
				db.Close()
			}
			before := readFile(t, path)
			if err := sqlite.Check(t.Context(), path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Check: %v, want %q", err, test.want)
			}
			s, err := sqlite.Open(t.Context(), path, sqlite.Config{})
			if err == nil {
				s.Close()
				t.Fatal("was opened")
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q\nwant the file's name and %q", err, test.want)
			}
			if !bytes.Equal(before, readFile(t, path)) {
				t.Error("the file was changed")
			}
			if _, err := os.Stat(path + "-wal"); err == nil {
				t.Error("a log was left beside it")
			}
		})
	}
}

// TestCheckOnlyReads checks files that Open would take and change.
func TestCheckOnlyReads(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	if err := sqlite.Check(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, goodFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	if _, err := db.Exec("DELETE FROM registry_schema WHERE version_id = 1"); err != nil { // as of an older program
		t.Fatal(err)
	}
	db.Close()
	before := readFile(t, path)
	if err := sqlite.Check(t.Context(), path); err != nil {
		t.Errorf("an older schema: %v", err)
	}
	if !bytes.Equal(before, readFile(t, path)) {
		t.Error("an older schema was changed")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside it: %v, %v; want nothing", entries, err)
	}
}

// TestNewerSchemaInTheLog has the newer schema in the log alone, as after a
// crash of the newer program.
func TestNewerSchemaInTheLog(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "good.db")
	if err := os.WriteFile(good, goodFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	db := raw(t, good)
	if _, err := db.Exec("INSERT INTO registry_schema (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "registry.db")
	for _, suffix := range []string{"", "-wal"} { // as they lie there while db is open
		if err := os.WriteFile(path+suffix, readFile(t, good+suffix), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := sqlite.Open(t.Context(), path, sqlite.Config{})
	if err == nil || !strings.Contains(err.Error(), "has schema version 99") {
		t.Errorf("error %v, want a refusal of version 99", err)
	}
	for _, suffix := range []string{"", "-wal"} {
		if !bytes.Equal(readFile(t, path+suffix), readFile(t, good+suffix)) {
			t.Errorf("%s was changed", path+suffix)
		}
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	orphan := filepath.Join(dir, "orphan.db")
	if err := os.WriteFile(orphan+"-wal", []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		orphan:                               "is missing, but its log " + orphan + "-wal is there",
		filepath.Join(dir, "no", "where.db"): "no such file or directory",
		dir:                                  "is not a file",
	} {
		_, err := sqlite.Open(t.Context(), path, sqlite.Config{})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s): %v, want %q", path, err, want)
		}
	}
}

// TestInterruptedFirstStart begins beside what a first start has left that was
// cut short.
func TestInterruptedFirstStart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	for _, suffix := range []string{".new", ".new-wal", ".new-shm"} {
		if err := os.WriteFile(path+suffix, []byte("half a page"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seed(t, open(t, path), 3)
	if left, _ := filepath.Glob(path + ".new*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDamagedValues(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	s := open(t, path)
	appendEvents(t, s, seed(t, s, 2000), 10, 1)
	db := raw(t, path)
	for _, query := range []string{
		`UPDATE clones SET value = '{"id":' WHERE id = '2500'`,
		`UPDATE events SET value = '{"seq":"' WHERE seq = 7`,
	} {
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	_, loadErr := s.Load(t.Context(), 0)
	_, cloneErr := s.Clone(t.Context(), "2500")
	_, eventsErr := s.Events(t.Context(), 0, 100)
	for _, test := range []struct {
		err  error
		want string
	}{
		{loadErr, "load registry " + path + ": clone 2500: unexpected end of JSON input; the file is damaged"},
		{cloneErr, "read clone 2500 from registry " + path},
		{eventsErr, "read events from registry " + path + ": event 7: "},
	} {
		if !errors.Is(test.err, registry.ErrUnavailable) || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("error %v\nwant an ErrUnavailable with %q", test.err, test.want)
		}
	}
}

// TestFlippedBytes flips single bytes anywhere. A flip may go unseen, since
// pages carry no checksums, but nothing worse than a clear error comes of it.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	good := goodFile(t)
	dir := t.TempDir()
	refused := 0
	const flips = 50
	for i := range flips {
		at := rand.IntN(len(good))
		path := filepath.Join(dir, fmt.Sprint(i, ".db"))
		if err := os.WriteFile(path, overwrite(good, at, []byte{good[at] ^ byte(1<<rand.IntN(8))}), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := sqlite.Open(t.Context(), path, sqlite.Config{})
		if err == nil {
			_, err = s.Load(t.Context(), 10)
			s.Close()
		}
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), path) {
				t.Errorf("byte %d flipped: error %q does not name the file", at, err)
			}
		}
	}
	t.Logf("%d of %d flips were noticed", refused, flips)
}

// goodFile returns the content of a closed registry of 300 clones and events.
func goodFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "good.db")
	s := open(t, path)
	appendEvents(t, s, seed(t, s, 300), 300, 100)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return readFile(t, path)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// overwrite returns a copy of content with other from an offset on.
func overwrite(content []byte, at int, other []byte) []byte {
	changed := bytes.Clone(content)
	copy(changed[at:], other)
	return changed
}
