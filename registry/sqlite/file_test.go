package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/sqlite"
)

func TestFilesAreOurs(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "registry.db")
	s := open(t, path)
	seed(t, s, 10)
	for _, name := range []string{path, path + "-wal", path + "-shm", path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close, %s is left: %v", path+suffix, err)
		}
	}
}

func TestOddPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"relative.db", "a b?mode=ro#c%20d&é.db", ":memory:", "file:x.db"} {
		s := open(t, path)
		seed(t, s, 1)
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v; want a database", path, info, err)
		}
	}
}

func TestOneProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	cmd := child(t, "hold", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "open\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	want := fmt.Sprintf("registry %s: process %d has it open; stop that one or choose another data directory", path, cmd.Process.Pid)
	if _, err := sqlite.Open(t.Context(), path, sqlite.Config{}); err == nil || err.Error() != want {
		t.Errorf("Open beside another process: %v\nwant: %s", err, want)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if _, err := sqlite.Open(t.Context(), path, sqlite.Config{}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("Open twice in one process: %v, want a refusal", err)
	}
}

// TestOtherPrograms has another program, which knows nothing of our lock, hold
// SQLite's.
func TestOtherPrograms(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	s := open(t, path)
	seq := seed(t, s, 1)
	other := raw(t, path)
	hold := func(query string) {
		t.Helper()
		if _, err := other.Exec(query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}

	hold("BEGIN IMMEDIATE")
	released := time.AfterFunc(50*time.Millisecond, func() { other.Exec("ROLLBACK") })
	defer released.Stop()
	if err := s.Commit(t.Context(), batch(seq+1, clone(0, seq+1))); err != nil {
		t.Errorf("commit while another program writes for a moment: %v; want it to wait", err)
	}

	hold("BEGIN IMMEDIATE")
	if _, err := s.Load(t.Context(), 0); err != nil {
		t.Errorf("load while another program writes: %v", err)
	}
	err := s.Commit(t.Context(), batch(seq+2, clone(0, seq+2)))
	if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "another program has held it for 5 seconds") {
		t.Errorf("commit while another program writes for long: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Commit(ctx, batch(seq+2, clone(0, seq+2))); !errors.Is(err, registry.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("commit nobody waits for: %v", err)
	}
	hold("ROLLBACK")
	if err := s.Commit(t.Context(), batch(seq+2, clone(0, seq+2))); err != nil {
		t.Errorf("commit once the other program is done: %v", err)
	}

	hold("INSERT INTO events (seq, value) VALUES (1000, '{}')")
	if err := s.Commit(t.Context(), batch(seq+3, clone(0, seq+3))); err == nil || !strings.Contains(err.Error(), "another program has written to the file") {
		t.Errorf("commit after another program has added an event: %v", err)
	}
}

// raw returns one connection to a file that none of our rules hold for.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}
