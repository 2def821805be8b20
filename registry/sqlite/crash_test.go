package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// TestKill kills a process that writes, again and again, and looks for
// everything it had acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	acknowledged, commits := uint64(0), 0
	for range 25 {
		for _, seq := range writeUntilKilled(t, path, rand.IntN(5) == 0) {
			acknowledged = max(acknowledged, seq)
			commits++
		}
		s := open(t, path)
		checkKept(t, s, acknowledged)
		if t.Failed() {
			return
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if commits < 25 {
		t.Errorf("the killed processes acknowledged %d commits; that proves little", commits)
	}
	t.Logf("%d commits acknowledged in 25 lives", commits)
}

// TestKillFirstStart kills processes while they make a file, or soon after.
func TestKillFirstStart(t *testing.T) {
	t.Parallel()
	for range 25 {
		path := filepath.Join(t.TempDir(), "registry.db")
		acknowledged := writeUntilKilled(t, path, true)
		s := open(t, path)
		checkKept(t, s, uint64(2*len(acknowledged)))
		s.Close()
	}
}

// writeUntilKilled returns the numbers that a writing process acknowledged
// before it was killed: at any moment, or once it has begun to write.
func writeUntilKilled(t *testing.T, path string, anyMoment bool) (acknowledged []uint64) {
	t.Helper()
	cmd := child(t, "write", path)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { cmd.Process.Kill() })
	}
	if anyMoment {
		kill()
	}
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		seq, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		acknowledged = append(acknowledged, seq)
		if len(acknowledged) == 1 && !anyMoment {
			kill()
		}
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("writing process ended by itself: %v", err)
	}
	return acknowledged
}

// checkKept checks that everything up to an event is there, that no event is
// missing, and that every clone is as the newest event of its own left it.
func checkKept(t *testing.T, s registry.Store, acknowledged uint64) {
	t.Helper()
	c, err := s.Load(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if c.Revision < acknowledged || c.Revision%2 != 0 {
		t.Errorf("the file ends at event %d; %d was acknowledged, in batches of two", c.Revision, acknowledged)
	}
	events, err := s.Events(t.Context(), 0, int(c.Revision)+10)
	if err != nil || len(events) != int(c.Revision) {
		t.Errorf("%d events, %v; want %d", len(events), err, c.Revision)
	}
	newest := map[registry.ID]uint64{}
	for i, e := range events {
		if e.Seq != uint64(i)+1 {
			t.Fatalf("event %d stands in place %d", e.Seq, i+1)
		}
		if e.Clone != "" {
			newest[e.Clone] = e.Seq
		}
	}
	for _, clone := range c.Clones {
		if clone.Revision != newest[clone.ID] {
			t.Errorf("clone %s is of revision %d; its newest event is %d", clone.ID, clone.Revision, newest[clone.ID])
		}
		delete(newest, clone.ID)
	}
	if len(newest) > 0 {
		t.Errorf("clones with events are missing: %v", newest)
	}
}

// childWrite commits to a file for ever, two events a time, and says up to
// which event each commit was acknowledged.
func childWrite(args []string) error {
	s, seq, err := openAgain(args[0])
	if err != nil {
		return err
	}
	for {
		b := batch(seq+1, clone(int(seq%50), seq+1))
		b.Events = append(b.Events, registry.Event{Seq: seq + 2})
		if err := s.Commit(context.Background(), b); err != nil {
			return err
		}
		seq += 2
		fmt.Println(seq)
		if seq%20 == 0 { // closing moves the log into the file and can be cut short too
			if err := s.Close(); err != nil {
				return err
			}
			if s, _, err = openAgain(args[0]); err != nil {
				return err
			}
		}
	}
}
