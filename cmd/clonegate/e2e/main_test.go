package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) {
	if job, ok := jobs[os.Getenv("E2E_JOB")]; ok {
		if err := job(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Servers stand where only root looks.
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	os.Exit(run(m))
}

// jobs is what the test binary does when a test runs it as another program.
var jobs = map[string]func(args []string) error{
	"mount a small disk": mountSmallDisk,
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "clonegate-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "clonegate")
	if err := build(binary, "..", raced); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shopDir = filepath.Join(dir, "shop")
	return m.Run()
}

// build builds a command, to look for data races if race is true.
func build(output, pkg string, race bool) error {
	args := []string{"build", "-o", output}
	if race {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, pkg)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// shopDir is the template of the example shop; shopTemplate makes it.
var shopDir string

var stageShop = sync.OnceValue(func() error {
	const source = "../../../examples/shop"
	if err := os.MkdirAll(filepath.Join(shopDir, "bin"), 0o755); err != nil {
		return err
	}
	if err := build(filepath.Join(shopDir, "bin/shop"), source+"/cmd/shop", false); err != nil {
		return err
	}
	for _, name := range []string{"template.yaml", "startup.sh"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(shopDir, name), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return os.CopyFS(filepath.Join(shopDir, "data"), os.DirFS(source+"/data"))
})

// shopTemplate returns the directory of the example shop, ready to publish. It
// is shared and must not be changed.
func shopTemplate(t *testing.T) string {
	t.Helper()
	if err := stageShop(); err != nil {
		t.Fatal(err)
	}
	return shopDir
}

// need skips the test, loudly, if a program of a Debian package is missing.
func need(t *testing.T, programs map[string]string) {
	t.Helper()
	for name, pkg := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Logf("NOT TESTED: %s is missing; install it with  apt-get install %s", name, pkg)
			t.SkipNow()
		}
	}
}

// long skips the test if tests are to be short.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}

// eventually waits until something holds: until why is empty.
func eventually(t *testing.T, within time.Duration, what string, why func() string) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		reason := why()
		if reason == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it did not come true within %s that %s: %s", within, what, reason)
		}
	}
}

// output runs a program that must succeed within a minute and returns what it
// prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		var stderr string
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = string(e.Stderr)
		}
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr)
	}
	return string(out)
}

// has checks that a text holds every part.
func has(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q:\n%.3000s", what, part, text)
		}
	}
}
