package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the origin, as the program itself is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == originJob {
		if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// TestSmoke runs every test on every gateway that this machine has, on a small
// scale: figures mean nothing, but every one of them is there.
func TestSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED: -short leaves out the bench")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "clonegate")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", binary, "../../cmd/clonegate").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Programs that the bench has built itself before are taken from there.
	programs, err := filepath.Abs("../../build/bench/bin")
	if err == nil {
		err = os.Symlink(programs, filepath.Join(dir, "bin"))
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-smoke", "-clonegate", binary, "-dir", dir}
	var stdout, stderr strings.Builder
	err = run(t.Context(), args, &stdout, &stderr)
	for line := range strings.Lines(stderr.String()) {
		t.Log(strings.TrimSpace(line))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(goalFigures(20), sideFigures()...) {
		if !strings.Contains(stdout.String(), "\n| "+f.Name) {
			t.Errorf("the tables have no row %q:\n%s", f.Name, stdout.String())
		}
	}
}
