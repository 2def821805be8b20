package lab_test

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

func TestTable(t *testing.T) {
	r := &lab.Results{Servers: []string{lab.Ours, "nginx", "HAProxy", "Caddy"}, Rivals: []string{"nginx", "HAProxy"}}
	for server, values := range map[string][]float64{
		lab.Ours: {17, 16, 19}, "nginx": {24, 25, 26}, "HAProxy": {20, 40}, "Caddy": {5},
	} {
		for _, v := range values {
			r.Add("cpu", server, v)
		}
	}
	r.Add("cut", lab.Ours, 0)
	r.Add("cut", "nginx", 150)
	r.Add("broken", lab.Ours, 1)
	r.Add("broken", "nginx", 2)
	r.Fail("broken", lab.Ours, "one of three")

	best := []lab.Goal{{Than: lab.Best, Max: 0.85}}
	got := r.Table([]lab.Figure{
		{Key: "cpu", Name: "CPU", Unit: "µs", Goals: []lab.Goal{{Than: lab.Best, Max: 0.85}, {Than: "Caddy", Max: 0.25}}},
		{Key: "cut", Name: "cut", Goals: []lab.Goal{{Max: 0}}},
		{Key: "broken", Name: "broken", Goals: best},
		{Key: "nowhere", Name: "nowhere", Goals: best},
	})
	want := `|  | clonegate | nginx | HAProxy | Caddy | ours against the goal |
|---|---|---|---|---|---|
| CPU, µs | 17.0 (16.0–19.0) | 25.0 (24.0–26.0) | 30.0 (20.0–40.0) | 5.00 | 0.68 of nginx ≤ 0.85: ok; 3.40 of Caddy ≤ 0.25: **no** |
| cut | 0 | 150 | – | – | ≤ 0: ok |
| broken | 1.00 (**failed in 1**) | 2.00 | – | – | 0.50 of nginx ≤ 0.85: **no** |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWriteSection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	const text = "# x\n<!-- begin a -->\nold\n<!-- end a -->\n<!-- begin b -->\n<!-- end b -->\nrest\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{"a", "b", "a"} {
		if err := lab.WriteSection(file, section, "new "+section+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const want = "# x\n<!-- begin a -->\n\nnew a\n\n<!-- end a -->\n<!-- begin b -->\n\nnew b\n\n<!-- end b -->\nrest\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := lab.WriteSection(file, "c", "new"); err == nil {
		t.Error("a section that does not exist was written")
	}
}

// TestCost starts a shell that spins in a child of its own, and finds the time.
func TestCost(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	p, err := lab.Start(t.TempDir(), "spin", sh, "-c", `sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo spun; exec sleep 60' & wait`)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	meter := lab.StartMeter([]int{p.PID}, nil)
	err = p.Ready(t.Context(), func(context.Context) error {
		if text, _ := os.ReadFile(p.Log); !strings.Contains(string(text), "spun") {
			return errors.New("still spinning")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cost := meter.Stop()
	if cost.Server <= 0 || cost.Server > 2*cost.Elapsed {
		t.Errorf("CPU of the child is %s in %s", cost.Server, cost.Elapsed)
	}
	if n := len(lab.Tree(p.PID)); n != 2 {
		t.Errorf("%d processes in the tree; want a shell and what it runs", n)
	}
	if m := lab.MemoryOf(p.PID); m.Private <= 0 || m.Private >= m.Whole || m.Whole > 100<<10 {
		t.Errorf("two small programs take %+v KiB", m)
	}
}

func TestReadyTellsWhy(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	p, err := lab.Start(t.TempDir(), "broken", sh, "-c", "echo no such zone >&2; exit 1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	err = p.Ready(t.Context(), func(context.Context) error { return errors.New("no answer") })
	if err == nil || !strings.Contains(err.Error(), "it has ended") || !strings.Contains(err.Error(), "no such zone") {
		t.Errorf("got %v; want that it has ended, and its log", err)
	}
}
