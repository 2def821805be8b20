package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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

// A daemon that was killed while it started a program lives on in that child
// for a moment, between fork and exec, and with it the lock; and who asks whether
// a daemon runs has it for an instant.
const (
	lockPatience = 2 * time.Second
	lockInstant  = 100 * time.Millisecond
	lockPause    = 50 * time.Millisecond
)

// isAlive reports whether a process with this ID runs; one that is not known
// may.
func isAlive(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err != nil || n <= 0 || !errors.Is(unix.Kill(n, 0), unix.ESRCH)
}

// LockData locks a data directory that exists. The error is an *InUseError if
// another daemon has it.
func LockData(dir string) (*Lock, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	for patience := lockPatience; ; patience -= lockPause {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("data directory: lock %s: %w", name, err)
		}
		pid, _ := os.ReadFile(name)
		holder := strings.TrimSpace(string(pid))
		if patience <= 0 || patience <= lockPatience-lockInstant && isAlive(holder) {
			f.Close()
			return nil, &InUseError{Dir: dir, Process: holder}
		}
		time.Sleep(lockPause)
	}
	// For the message above only, and always as long: the lock holds without
	// it, and a full disk has room for what was there before.
	_, _ = f.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0)
	return &Lock{f}, nil
}

// Runs reports whether a daemon has a data directory. One that may not be looked
// into is taken to have one.
func Runs(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	defer f.Close() // and with it the lock
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
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
