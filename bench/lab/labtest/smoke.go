// Package labtest runs benches on a small scale, in tests.
package labtest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/bench/lab"
)

// Main runs the tests of a bench, or its backend: the test binary is what the
// program is otherwise. Call it from TestMain.
func Main(m *testing.M, b *lab.Bench) {
	if len(os.Args) == 3 && os.Args[1] == lab.BackendJob {
		if err := b.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// Smoke runs every test on every server that this machine has, on a small
// scale: figures mean nothing, but every one of them is there. The caller's
// package lies two folders below the root.
func Smoke(t *testing.T, b *lab.Bench) {
	t.Helper()
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
	var stdout, stderr strings.Builder
	err = b.Run(t.Context(), []string{"-smoke", "-clonegate", binary, "-dir", dir}, &stdout, &stderr)
	for line := range strings.Lines(stderr.String()) {
		t.Log(strings.TrimSpace(line))
	}
	if errors.Is(err, lab.ErrMissing) {
		t.Skipf("NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(b.Goals(lab.SmokeClones), b.Sides...) {
		if !strings.Contains(stdout.String(), "\n| "+f.Name) {
			t.Errorf("the tables have no row %q:\n%s", f.Name, stdout.String())
		}
	}
}
