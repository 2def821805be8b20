package daemon_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
)

// TestLockOfADeadDaemon has somebody else hold the lock of a data directory: a
// child of a daemon that was killed is waited for, a living daemon is not.
func TestLockOfADeadDaemon(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	held, err := os.Create(filepath.Join(dir, "clonegate.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	fd := int(held.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	held.WriteString(strconv.Itoa(dead.Process.Pid))
	time.AfterFunc(200*time.Millisecond, func() { unix.Flock(fd, unix.LOCK_UN) })
	lock, err := daemon.LockData(dir)
	if err != nil {
		t.Fatalf("a dead daemon's lock, given up after 200 ms: %v", err)
	}
	defer lock.Close()
	began := time.Now()
	_, err = daemon.LockData(dir)
	if inUse, ok := errors.AsType[*daemon.InUseError](err); !ok || inUse.Process != strconv.Itoa(os.Getpid()) {
		t.Errorf("a living daemon's lock: %v, want InUseError naming %d", err, os.Getpid())
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("a living daemon was waited for %s", took)
	}
}

func TestRuns(t *testing.T) {
	dir := t.TempDir()
	if daemon.Runs(dir) {
		t.Error("a daemon runs where none ever ran")
	}
	lock, err := daemon.LockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !daemon.Runs(dir) {
		t.Error("no daemon runs where one has the lock")
	}
	lock.Close()
	if daemon.Runs(dir) {
		t.Error("a daemon runs where it has given up the lock")
	}
}
