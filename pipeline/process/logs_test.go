package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/process"
	"github.com/clonegate/clonegate/registry"
)

func logs(t *testing.T, p *process.Provider, q pipeline.LogQuery) string {
	t.Helper()
	var b bytes.Buffer
	must(t, p.Logs(t.Context(), "1", q, &b))
	return b.String()
}

func TestLogs(t *testing.T) {
	p := open(t, process.Config{})
	prepare(t, p, order("1", "logs", nil))
	if err := p.Logs(t.Context(), "1", pipeline.LogQuery{Tail: 5}, new(bytes.Buffer)); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("before anything was started: got %v, want registry.ErrNotFound", err)
	}
	start(t, p, "1", shell("logs", "db", "echo one; echo two >&2; echo three"), shell("logs", "web1", `echo alpha; printf 'beta, not ended'`))
	wait(t, p, "1", "db")
	wait(t, p, "1", "web1")
	for _, tt := range []struct {
		name string
		q    pipeline.LogQuery
		want string
	}{
		{"one host", pipeline.LogQuery{Names: []string{"db"}, Tail: -1}, "one\ntwo\nthree\n"},
		{"its last lines", pipeline.LogQuery{Names: []string{"db"}, Tail: 2}, "two\nthree\n"},
		{"no line", pipeline.LogQuery{Names: []string{"db"}, Tail: 0}, ""},
		{"more than there are", pipeline.LogQuery{Names: []string{"db"}, Tail: 99}, "one\ntwo\nthree\n"},
		{"every host", pipeline.LogQuery{Tail: 1}, "db   | three\nweb1 | beta, not ended\n"},
		{"in the order asked for", pipeline.LogQuery{Names: []string{"web1", "db"}, Tail: 1}, "web1 | beta, not ended\ndb   | three\n"},
	} {
		if got := logs(t, p, tt.q); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	err := p.Logs(t.Context(), "1", pipeline.LogQuery{Names: []string{"../../x"}}, new(bytes.Buffer))
	if !errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), "there is output of db, web1") {
		t.Errorf("unknown host: got %v, want the known ones named", err)
	}
}

// A shared buffer is written by one goroutine and read by another.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestFollow(t *testing.T) {
	p := open(t, process.Config{})
	site := prepare(t, p, order("1", "follow", map[string]string{"data/x": ""}))
	start(t, p, "1", shell("follow", "db", `echo before; while [ ! -e data/go ]; do sleep 0.01; done; printf 'be'; sleep 0.3; echo hind; sleep 1000`))
	eventually(t, "output", func() bool { return len(p.Tail("1", "db", 1)) == 1 })
	var b shared
	ended := make(chan error, 1)
	go func() { ended <- p.Logs(context.Background(), "1", pipeline.LogQuery{Tail: 10, Follow: true}, &b) }()
	eventually(t, "what was there", func() bool { return b.String() == "before\n" })
	must(t, os.WriteFile(filepath.Join(site.Dir, "data/go"), nil, 0o644))
	eventually(t, "what came", func() bool { return strings.Contains(b.String(), "hind") })
	if got, want := b.String(), "before\nbehind\n"; got != want {
		t.Errorf("got %q, want %q: lines stay whole", got, want)
	}
	must(t, p.Stop(t.Context(), "1"))
	must(t, p.Remove(t.Context(), "1"))
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Error("following did not end with the clone")
	}
}

func TestOutputIsBounded(t *testing.T) {
	p := open(t, process.Config{LogBytes: 20_000})
	prepare(t, p, order("1", "bounded", nil))
	start(t, p, "1", shell("bounded", "db", `i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "line $i"; done; sleep 2.2; echo last; sleep 1000`))
	dir := filepath.Join(logDir(t, p), "db.log")
	eventually(t, "rotation", func() bool {
		old, err := os.Stat(dir + ".1")
		return err == nil && old.Size() == 20_000
	})
	eventually(t, "what came after", func() bool { return strings.HasSuffix(logs(t, p, pipeline.LogQuery{Tail: -1}), "last\n") })
	info, err := os.Stat(dir)
	must(t, err)
	if info.Size() > 20_000 {
		t.Errorf("the file has %d bytes after it was rotated", info.Size())
	}
	lines := strings.Split(strings.TrimSpace(logs(t, p, pipeline.LogQuery{Tail: 101})), "\n")
	if len(lines) != 101 || lines[99] != "line 3000" || lines[0] != "line 2901" {
		t.Errorf("the last 101 lines reach from %q to %q, %d of them; want from line 2901 over both files", lines[0], lines[len(lines)-1], len(lines))
	}
}

// logDir returns where the output of clone 1 lies.
func logDir(t *testing.T, p *process.Provider) string {
	t.Helper()
	site := prepare(t, p, order("1", "", nil))
	return filepath.Join(filepath.Dir(site.Dir), "logs")
}

func TestOutputIsCollected(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-25 * time.Hour)
	for i := range 6 {
		d := filepath.Join(dir, fmt.Sprint(100+i))
		must(t, os.MkdirAll(filepath.Join(d, "logs"), 0o700))
		must(t, os.WriteFile(filepath.Join(d, "logs", "db.log"), nil, 0o600))
		when := time.Now().Add(-time.Duration(i) * time.Minute)
		if i == 5 {
			when = old
		}
		must(t, os.Chtimes(d, when, when))
	}
	must(t, os.Mkdir(filepath.Join(dir, "Not-An-ID"), 0o700))
	left := func() []string {
		entries, err := os.ReadDir(dir)
		must(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	open(t, process.Config{Dir: dir, KeptLogs: 100})
	eventually(t, "too old", func() bool { return len(left()) == 6 })
	open(t, process.Config{Dir: dir, KeptLogs: 3})
	eventually(t, "too many", func() bool { return len(left()) == 4 })
	if diff := cmp.Diff([]string{"100", "101", "102", "Not-An-ID"}, left()); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}
