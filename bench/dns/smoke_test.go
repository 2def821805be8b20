package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the upstream, as the program itself is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == upstreamJob {
		if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// TestSmoke runs every test on every server that this machine has, on a small
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
	var stdout, stderr strings.Builder
	err = run(t.Context(), []string{"-smoke", "-clonegate", binary, "-dir", dir}, &stdout, &stderr)
	for line := range strings.Lines(stderr.String()) {
		t.Log(strings.TrimSpace(line))
	}
	if errors.Is(err, errNoDnsperf) {
		t.Skipf("NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(goalFigures(), sideFigures()...) {
		if !strings.Contains(stdout.String(), "\n| "+f.Name) {
			t.Errorf("the tables have no row %q:\n%s", f.Name, stdout.String())
		}
	}
}

func TestParseOutcome(t *testing.T) {
	const text = `Statistics:

  Queries sent:         1000
  Queries completed:    998 (99.80%)
  Queries lost:         2 (0.20%)

  Response codes:       NOERROR 997 (99.90%), SERVFAIL 1 (0.10%)
  Average packet size:  request 50, response 66
  Run time (s):         0.010000
  Queries per second:   99800.000000
`
	got, err := parseOutcome(text)
	want := outcome{done: 998, lost: 2, rate: 99800, codes: "NOERROR 997 (99.90%), SERVFAIL 1 (0.10%)"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if got.only("NOERROR") {
		t.Error("a SERVFAIL passed for NOERROR only")
	}
	if _, err := parseOutcome("Error: no server"); err == nil {
		t.Error("a run without statistics passed")
	}
}
