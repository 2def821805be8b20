package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// TestFullDisk fills a disk of 3 MiB that only a process of ours sees.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	cmd := child(t, "fill disk", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) {
		t.Skipf("NOT TESTED: this machine lets nobody mount a small disk: %v; TestFileSizeLimit does without", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestFileSizeLimit does the same with a limit on the size of files.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	if err := child(t, "fill file size", t.TempDir()).Run(); err != nil {
		t.Fatal(err)
	}
}

func childFillDisk(args []string) error {
	if err := syscall.Mount("tmpfs", args[0], "tmpfs", 0, "size=3m"); err != nil {
		return err
	}
	ballast := filepath.Join(args[0], "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	return fill(filepath.Join(args[0], "registry.db"), func() error { return os.Remove(ballast) })
}

func childFillFileSize(args []string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = 2 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	return fill(filepath.Join(args[0], "registry.db"), func() error {
		limit.Cur = 16 << 20
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
	})
}

// fill commits to a file until its disk is full, and checks that nothing
// acknowledged is lost then, that a start is possible even so, and that the
// store works again once makeSpace was called.
func fill(path string, makeSpace func() error) error {
	ctx := context.Background()
	s, seq, err := openAgain(path)
	if err != nil {
		return err
	}
	for err == nil && seq < 10_000 {
		if err = s.Commit(ctx, batch(seq+1, clone(int(seq), seq+1))); err == nil {
			seq++
		}
	}
	fmt.Fprintf(os.Stderr, "after %d commits: %v\n", seq, err)
	for range 3 {
		err := s.Commit(ctx, batch(seq+1, clone(int(seq), seq+1)))
		if !errors.Is(err, registry.ErrFull) || errors.Is(err, registry.ErrUnavailable) {
			return fmt.Errorf("commit on a full disk: %v, want ErrFull", err)
		}
	}
	check := func(when string) error {
		c, err := s.Load(ctx, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		if c.Revision != seq || len(c.Clones) != int(seq) {
			return fmt.Errorf("%s: revision %d with %d clones, want %d of each", when, c.Revision, len(c.Clones), seq)
		}
		return nil
	}
	if err := check("load on a full disk"); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "close on a full disk: %v\n", s.Close())
	if s, _, err = openAgain(path); err != nil {
		return fmt.Errorf("open on a full disk: %w", err)
	}
	if err := check("load on a disk full since before"); err != nil {
		return err
	}
	if err := makeSpace(); err != nil {
		return err
	}
	for range 10 {
		if err := s.Commit(ctx, batch(seq+1, clone(int(seq), seq+1))); err != nil {
			return fmt.Errorf("commit once there is space again: %w", err)
		}
		seq++
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close once there is space again: %w", err)
	}
	if s, _, err = openAgain(path); err != nil {
		return err
	}
	return errors.Join(check("load at the end"), s.Close())
}
