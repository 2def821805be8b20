package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file in a data directory that its one daemon keeps locked.
const lockName = "clonegate.lock"

// A Lock keeps every other daemon off a data directory. It ends with the
// process, however that ends.
type Lock struct {
	f *os.File
}

// An InUseError says that another daemon has the data directory.
type InUseError struct {
	Dir     string
	Process string // its process ID, "" if it is not known
}

func (e *InUseError) Error() string {
	who := "another process"
	if e.Process != "" {
		who = "process " + e.Process
	}
	return fmt.Sprintf("data directory %s is in use by %s; stop that daemon, or give this one its own directory with --data", e.Dir, who)
}

// LockData locks a data directory that exists. The error is an *InUseError if
// another daemon has it.
func LockData(dir string) (*Lock, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory: lock %s: %w", name, err)
		}
		pid, _ := os.ReadFile(name)
		return nil, &InUseError{Dir: dir, Process: strings.TrimSpace(string(pid))}
	}
	// For the message above only, and always as long: the lock holds without
	// it, and a full disk has room for what was there before.
	_, _ = f.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0)
	return &Lock{f}, nil
}

// Close gives the directory free. The file stays: removing it could take it
// from under the next daemon.
func (l *Lock) Close() error { return l.f.Close() }

// MakeData makes a data directory that only this user may look into. One that
// is there already and is empty, or ours, is closed to others; if it holds
// something else, open is true where others may look into it.
func MakeData(dir string) (open bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return false, fmt.Errorf("data directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return false, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("data directory: %w", err)
	}
	ours := len(entries) == 0
	for _, e := range entries {
		ours = ours || e.Name() == lockName
	}
	if !ours {
		return true, nil
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return false, fmt.Errorf("data directory: %w", err)
	}
	return false, nil
}
