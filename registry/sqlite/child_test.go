package sqlite_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry/sqlite"
)

// childVariable makes the test binary be one of the children below instead of
// running tests, so that a test can kill or starve a process of its own.
const childVariable = "CLONEGATE_SQLITE_TEST_CHILD"

var children = map[string]func(args []string) error{
	"write":          childWrite,
	"hold":           childHold,
	"fill disk":      childFillDisk,
	"fill file size": childFillFileSize,
}

func TestMain(m *testing.M) {
	if name, args, ok := strings.Cut(os.Getenv(childVariable), ": "); ok {
		if err := children[name](strings.Fields(args)); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child returns a command that runs one of the children.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+name+": "+strings.Join(args, " "))
	cmd.Stderr = t.Output()
	return cmd
}

// childHold opens a file, says so, and keeps it open until its input ends.
func childHold(args []string) error {
	s, _, err := openAgain(args[0])
	if err != nil {
		return err
	}
	fmt.Println("open")
	io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

// openAgain opens a file and returns the number of its newest event.
func openAgain(path string) (*sqlite.Store, uint64, error) {
	s, err := sqlite.Open(context.Background(), path, sqlite.Config{})
	if err != nil {
		return nil, 0, err
	}
	c, err := s.Load(context.Background(), 0)
	if err != nil {
		return nil, 0, err
	}
	return s, c.Revision, nil
}
