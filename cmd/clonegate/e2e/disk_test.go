package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

// mountSmallDisk puts a disk of a few MiB, which only this process and its
// children see, in place of a directory, and runs a command again and again.
func mountSmallDisk(args []string) error {
	if err := syscall.Mount("tmpfs", args[0], "tmpfs", 0, "size=4m,mode=700"); err != nil {
		return err
	}
	for {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		fmt.Fprintln(os.Stderr, cmd.Run())
		time.Sleep(50 * time.Millisecond)
	}
}

// TestFullDisk fills the disk under a daemon. Requests go on, writes are
// refused with the reason, and with space everything is as it was.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	// On a full disk nothing new can be told of, so the ports are fixed.
	g := newGateway(t, fmt.Sprintf("gateway: {listen: \"127.0.0.1:%s\", redirect: off}\napi: {listen: \"127.0.0.1:%s\"}", freePort(t), freePort(t)))
	g.onSmallDisk()
	g.waitReady()
	backend := startBackend(t, says("hello"))
	g.register("1234", serving("6f1c", backend))
	visitor := g.visitor()
	serves := func(when string) {
		t.Helper()
		g.get(visitor, g.url("www-1234", "/")).is(t, "clone 1234 "+when, 200, "hello")
	}
	serves("before")

	ballast := filepath.Join(g.data, "ballast")
	fill(t, ballast)
	if err := os.Truncate(ballast, size(t, ballast)-256<<10); err != nil {
		t.Fatal(err)
	}
	acknowledged := g.registerUntilFull()
	if acknowledged < 10 {
		t.Errorf("%d registrations before the disk was full; that proves little", acknowledged)
	}
	serves("on a full disk")
	if _, err := g.api.Renew(t.Context(), "1234", "6f1c"); err != nil {
		t.Errorf("renewal on a full disk: %v", err)
	}
	var refusal *client.Error
	if _, err := g.api.Health(t.Context()); !errors.As(err, &refusal) || refusal.Status != 503 {
		t.Errorf("health on a full disk: %v, want 503", err)
	}
	_, stderr, status := g.cliAt("register", "77", "--service", "www=127.0.4.10:8080", "--instance", "x")
	if status != 1 {
		t.Errorf("register on a full disk: exit status %d, want 1", status)
	}
	has(t, "register on a full disk", stderr, "disk is full", "Free some space")

	syscall.Kill(g.at.PID, syscall.SIGKILL)
	eventually(t, 20*time.Second, "a daemon starts on the full disk", g.askReady)
	serves("after a start on a full disk")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "there is space to register", func() string {
		if _, _, err := g.api.Register(t.Context(), "78", serving("a", backend), false); err != nil {
			return err.Error()
		}
		return ""
	})
	if _, err := g.api.Health(t.Context()); err != nil {
		t.Errorf("health with space again: %v", err)
	}
	found := map[registry.ID]bool{}
	for c, err := range g.api.Clones(t.Context(), api.CloneFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		found[c.ID] = true
	}
	for i := range acknowledged {
		if id := registry.ID("d" + strconv.Itoa(i)); !found[id] {
			t.Errorf("clone %s was acknowledged and is lost", id)
		}
	}
	if !found["78"] || !found["1234"] {
		t.Errorf("found %d clones without 78 or 1234", len(found))
	}
	t.Logf("%d registrations acknowledged before the disk was full", acknowledged)
}

// onSmallDisk runs the daemon, and restarts it, on a disk that nobody else sees.
func (g *gateway) onSmallDisk() {
	g.t.Helper()
	if err := os.MkdirAll(g.data, 0o700); err != nil {
		g.t.Fatal(err)
	}
	log, err := os.Create(g.log)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Args[0], g.data, binary, "serve", "--config", g.config)
	cmd.Env = append(os.Environ(), "E2E_JOB=mount a small disk")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) {
		g.t.Skipf("NOT TESTED: this machine lets nobody mount a small disk: %v", err)
	} else if err != nil {
		g.t.Fatal(err)
	}
	g.process = &process{cmd, make(chan struct{})}
	go func(p *process) { cmd.Wait(); close(p.exit) }(g.process)
	g.supervised = true
	g.data = fmt.Sprintf("/proc/%d/root%s", g.pid(), g.data)
	g.root = filepath.Join(g.data, "ca.pem")
}

// cliAt runs a command that finds the daemon by flags, for its data directory
// is on another disk.
func (g *gateway) cliAt(args ...string) (stdout, stderr string, status int) {
	g.t.Helper()
	return cli(g.t, append([]string{"--api", g.at.API.URL, "--token-file", filepath.Join(g.data, "admin.token")}, args...)...)
}

// fill leaves no space on the disk of a file that it makes.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

func size(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// registerUntilFull registers clones until the disk is full, and returns how
// many were acknowledged.
func (g *gateway) registerUntilFull() (acknowledged int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	for {
		_, _, err := g.api.Register(ctx, registry.ID("d"+strconv.Itoa(acknowledged)), serving("a", "127.0.4.10:8080"), false)
		if errors.Is(err, registry.ErrFull) {
			return acknowledged
		}
		if err != nil {
			g.t.Fatalf("registration %d on a filling disk: %v, want ErrFull", acknowledged, err)
		}
		acknowledged++
	}
}
