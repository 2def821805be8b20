package oci_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/clonegate/clonegate/pipeline/oci"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CLONEGATE_TEST_STORE"); dir != "" {
		importForEver(dir, os.Getenv("CLONEGATE_TEST_TEMPLATE"))
	}
	os.Exit(m.Run())
}

// importForEver stores one template after another and prints each digest once
// it has been acknowledged.
func importForEver(dir, template string) {
	s, err := oci.Open(oci.Config{Dir: dir})
	for i := 0; err == nil; i++ {
		err = os.WriteFile(template+"/data/x", fmt.Append(nil, os.Getpid(), i), 0o644)
		if err == nil {
			var a *oci.Artifact
			if a, err = s.Pack(context.Background(), template); err == nil {
				fmt.Println(a.Digest)
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	template := write(t, t.TempDir(), shop)
	var stored []string
	for round := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CLONEGATE_TEST_STORE="+dir, "CLONEGATE_TEST_TEMPLATE="+template)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for i := 0; i < 3 && lines.Scan(); i++ {
			stored = append(stored, lines.Text())
		}
		time.Sleep(time.Duration(round) * 700 * time.Microsecond)
		must(t, cmd.Process.Kill())
		for lines.Scan() {
			stored = append(stored, lines.Text())
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	s := open(t, dir)
	if len(stored) < 30 {
		t.Fatalf("only %d were stored", len(stored))
	}
	for _, d := range stored {
		if err := s.Verify(t.Context(), d); err != nil {
			t.Errorf("acknowledged, then killed: %v", err)
		}
	}
	if left := read(t, dir+"/ingest"); len(left) > 0 {
		t.Errorf("something was left: %v", left)
	}
}
