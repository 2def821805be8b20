package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "state.json")
	for _, content := range []string{"first, and longer", "second"} {
		if err := durable.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil || string(got) != content {
			t.Errorf("got %q, %v; want %q", got, err, content)
		}
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v; want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want state.json alone", entries, err)
	}
}

func TestCreateFileReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "token")
	if err := durable.CreateFile(name, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.CreateFile(name, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created twice: %v, want fs.ErrExist", err)
	}
	if got, err := os.ReadFile(name); string(got) != "first" {
		t.Errorf("got %q, %v; want what was there", got, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want token alone", entries, err)
	}
}

// TestKilledWriters finds what a writer left behind that was killed, beside that
// of one that still writes.
func TestKilledWriters(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".aside-state.json-1", ".aside-state.json-2", ".aside-other-3"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := os.Open(filepath.Join(dir, ".aside-state.json-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if err := syscall.Flock(int(alive.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "state.json"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if want := []string{".aside-other-3", ".aside-state.json-2", "state.json"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// TestWritersMeet lets many write one file at once: nobody takes away what
// another writes, and the file is whole.
func TestWritersMeet(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state.json")
	content := strings.Repeat("x", 10_000)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 5 {
				if err := durable.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if got, err := os.ReadFile(name); string(got) != content {
		t.Errorf("got %d octets, %v; want %d", len(got), err, len(content))
	}
}

func TestWriteFileLeavesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(name, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(name, []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want nothing left over", entries, err)
	}
}

func TestFull(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, true},
		{syscall.EDQUOT, true},
		{syscall.EACCES, false},
		{nil, false},
	} {
		if got := errors.Is(durable.Full(tt.err), registry.ErrFull); got != tt.want {
			t.Errorf("Full(%v) is ErrFull: %v, want %v", tt.err, got, tt.want)
		}
	}
}
