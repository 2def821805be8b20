package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/process"
	"github.com/clonegate/clonegate/registry"
)

// TestMain lets the test binary be the daemon that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CLONEGATE_TEST_DAEMON"); dir != "" {
		beDaemon(dir)
	}
	goleak.VerifyTestMain(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open returns a running provider; what it still runs ends with the test.
func open(t *testing.T, cfg process.Config) *process.Provider {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Grace == 0 {
		cfg.Grace = 5 * time.Second
	}
	p, err := process.New(cfg)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		for _, id := range p.Held() {
			must(t, p.Stop(context.Background(), id))
		}
		cancel()
		must(t, <-ended)
	})
	return p
}

// order prepares a clone whose files are those given.
func order(id registry.ID, instance string, files map[string]string) pipeline.Order {
	return pipeline.Order{
		ID: id, Instance: instance, Data: []string{"data"},
		Hosts: map[string]pipeline.OrderedHost{"db": {Address: 30}, "web": {Address: 10, Ports: []uint16{8080}}},
		Unpack: func(_ context.Context, dest string) error {
			if err := os.Mkdir(dest, 0o755); err != nil {
				return err
			}
			for name, content := range files {
				full := filepath.Join(dest, name)
				if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(full, []byte(content), 0o755); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func prepare(t *testing.T, p *process.Provider, o pipeline.Order) *pipeline.Site {
	t.Helper()
	site, err := p.Prepare(t.Context(), o)
	must(t, err)
	return site
}

// shell returns a process that runs a script.
func shell(instance, name, script string) pipeline.Process {
	return pipeline.Process{
		Name: name, Run: []string{"sh", "-c", script},
		Env: map[string]string{"CLONEGATE_INSTANCE": instance, "CLONEGATE_HOST": name},
	}
}

func start(t *testing.T, p *process.Provider, id registry.ID, procs ...pipeline.Process) {
	t.Helper()
	for _, proc := range procs {
		must(t, p.Start(t.Context(), id, proc))
	}
}

// carriers returns the processes that carry an instance in their environment.
func carriers(t *testing.T, instance string) []int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	var pids []int
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err == nil && bytes.Contains(append([]byte{0}, data...), []byte("\x00CLONEGATE_INSTANCE="+instance+"\x00")) {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func wait(t *testing.T, p *process.Provider, id registry.ID, name string) pipeline.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	exit, err := p.Wait(ctx, id, name)
	must(t, err)
	return exit
}

func TestOneLife(t *testing.T) {
	p := open(t, process.Config{})
	site := prepare(t, p, order("1", "i1", map[string]string{"bin/db": "#!/bin/sh\necho hello from $PWD; exec sleep 1000\n", "data/rows": "1"}))
	if again := prepare(t, p, order("1", "i2", nil)); !cmp.Equal(site, again, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		t.Errorf("prepared again as %+v, want %+v", again, site)
	}
	db := site.Addresses["db"].As4()
	if !process.DefaultPool.Contains(site.Addresses["db"]) || db[3] != 30 || site.Addresses["web"].As4()[3] != 10 {
		t.Errorf("addresses %v, want .30 and .10 in %s", site.Addresses, process.DefaultPool)
	}
	if info, err := os.Stat(site.Private); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("private directory: %v, %v; want 0700", info.Mode(), err)
	}
	proc := pipeline.Process{Name: "db", Run: []string{"bin/db"}, Env: map[string]string{"CLONEGATE_INSTANCE": "i1", "CLONEGATE_HOST": "db"}}
	start(t, p, "1", proc, proc) // the second time it runs already
	eventually(t, "output", func() bool { return len(p.Tail("1", "db", 5)) == 1 })
	if diff := cmp.Diff([]string{"hello from " + site.Dir}, p.Tail("1", "db", 5)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if pids := carriers(t, "i1"); len(pids) != 1 {
		t.Errorf("%d processes run, want 1", len(pids))
	}
	must(t, p.Stop(t.Context(), "1"))
	if exit := wait(t, p, "1", "db"); exit.OK || exit.Status != "was killed by signal 15 (terminated)" {
		t.Errorf("ended as %+v, want by SIGTERM", exit)
	}
	err := p.Start(t.Context(), "1", proc)
	if exit, ok := errors.AsType[*pipeline.ExitError](err); !ok || exit.Name != "db" {
		t.Errorf("started again: got %v, want an *ExitError", err)
	}
	must(t, p.Remove(t.Context(), "1"))
	if held := p.Held(); len(held) != 0 {
		t.Errorf("still held: %v", held)
	}
	if _, err := os.Stat(site.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the files are still there: %v", err)
	}
	if len(p.Tail("1", "db", 5)) != 1 {
		t.Error("the output is gone with the clone")
	}
	must(t, p.Stop(t.Context(), "1"))
	must(t, p.Remove(t.Context(), "1"))
}

func TestNothingOfTheDaemonIsInherited(t *testing.T) {
	t.Setenv("CLONEGATE_SECRET_OF_THE_DAEMON", "x")
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	// As left open by whoever started the daemon: without close-on-exec.
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), syscall.F_SETFD, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	p := open(t, process.Config{})
	prepare(t, p, order("1", "inherit", nil))
	start(t, p, "1", shell("inherit", "db", `env | grep -v ^_= | cut -d= -f1 | sort | tr '\n' ' '; echo
ls /proc/self/fd | grep -v '^3$' | tr '\n' ' '; echo
readlink /proc/$$/fd/0
read -r line || echo no input
cut -d' ' -f5,6,7 /proc/$$/stat; echo $$`))
	if exit := wait(t, p, "1", "db"); !exit.OK {
		t.Errorf("ended as %+v", exit)
	}
	got := p.Tail("1", "db", 10)
	if len(got) != 6 {
		t.Fatalf("got %q", got)
	}
	for name := range strings.FieldsSeq(got[0]) {
		switch name {
		case "CLONEGATE_HOST", "CLONEGATE_INSTANCE", "PATH", "HOME", "LANG", "TZ", "TMPDIR", "PWD", "OLDPWD", "SHLVL":
		default:
			t.Errorf("variable %s came along", name)
		}
	}
	pid := got[5]
	want := []string{got[0], "0 1 2 ", "/dev/null", "no input", pid + " " + pid + " 0", pid}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("descriptors, input, group and session (-want +got):\n%s", diff)
	}
}

func TestExits(t *testing.T) {
	p := open(t, process.Config{})
	prepare(t, p, order("1", "exits", nil))
	for name, tt := range map[string]struct {
		script string
		want   pipeline.Exit
	}{
		"zero":   {"exit 0", pipeline.Exit{OK: true, Status: "ended with exit status 0"}},
		"three":  {"exit 3", pipeline.Exit{Status: "ended with exit status 3"}},
		"killed": {"kill -9 $$", pipeline.Exit{Status: "was killed by signal 9 (killed)"}},
	} {
		start(t, p, "1", shell("exits", name, tt.script))
		if got := wait(t, p, "1", name); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
	if got := wait(t, p, "1", "never"); got.Status != "does not run" {
		t.Errorf("never started: got %+v", got)
	}
	if got := wait(t, p, "77", "db"); got.Status != "does not run" {
		t.Errorf("unknown clone: got %+v", got)
	}
}

func TestStartRefuses(t *testing.T) {
	p := open(t, process.Config{})
	prepare(t, p, order("1", "refuse", map[string]string{"bin/bad": "#!/no/such/interpreter\n"}))
	for program, want := range map[string]string{
		"bin/missing":          "no such file",
		"bin/bad":              "the interpreter in its first line",
		"no-such-program-here": "executable file not found in $PATH",
	} {
		proc := shell("refuse", "db", "")
		proc.Run = []string{program}
		err := p.Start(t.Context(), "1", proc)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "start db") {
			t.Errorf("%s: got %v, want %q", program, err, want)
		}
	}
	if err := p.Start(t.Context(), "2", shell("x", "db", "")); err == nil || !strings.Contains(err.Error(), "not prepared") {
		t.Errorf("not prepared: got %v", err)
	}
	// What could not be started can be tried again.
	start(t, p, "1", shell("refuse", "db", "exit 0"))
}

// TestEscapees has a host whose descendants leave its group, its session and
// its family, ignore SIGTERM and survive its end.
func TestEscapees(t *testing.T) {
	p := open(t, process.Config{Grace: 200 * time.Millisecond})
	prepare(t, p, order("1", "escape", nil))
	start(t, p, "1",
		shell("escape", "db", `trap "" TERM
setsid sh -c 'trap "" TERM; (sleep 1000 &) ; sleep 1001' &
(setsid setsid sh -c 'while :; do sleep 1002; done' &)
sh -c 'setsid sh -c "sleep 1003 & exit" & exit'
while :; do sleep 1004; done`),
		shell("escape", "web", `(setsid sleep 1005 &); exit 0`),
	)
	wait(t, p, "1", "web")
	eventually(t, "seven processes", func() bool { return len(carriers(t, "escape")) >= 7 })
	must(t, p.Stop(t.Context(), "1"))
	if left := carriers(t, "escape"); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if exit := wait(t, p, "1", "db"); exit.Status != "was killed by signal 9 (killed)" {
		t.Errorf("db: got %+v, want it killed after the grace", exit)
	}
}

func TestStopLeavesOthersAlone(t *testing.T) {
	p := open(t, process.Config{})
	for _, id := range []registry.ID{"1", "2"} {
		prepare(t, p, order(id, "alone-"+string(id), nil))
		start(t, p, id, shell("alone-"+string(id), "db", "sleep 1000"))
	}
	must(t, p.Stop(t.Context(), "1"))
	if len(carriers(t, "alone-1")) != 0 || len(carriers(t, "alone-2")) == 0 {
		t.Errorf("clone 1 runs %v, clone 2 runs %v; want none and some", carriers(t, "alone-1"), carriers(t, "alone-2"))
	}
}

func TestStopOrder(t *testing.T) {
	p := open(t, process.Config{})
	site := prepare(t, p, order("1", "order", map[string]string{"data/x": ""}))
	for level, name := range []string{"db", "api", "web", "startup"} {
		proc := shell("order", name, `trap 'sleep 0.05; echo '$CLONEGATE_HOST' >> data/order; exit' TERM; echo up; while :; do sleep 0.01; done`)
		proc.Level = level
		start(t, p, "1", proc)
		eventually(t, name, func() bool { return len(p.Tail("1", name, 1)) == 1 })
	}
	must(t, p.Stop(t.Context(), "1"))
	got, err := os.ReadFile(filepath.Join(site.Dir, "data/order"))
	must(t, err)
	if want := "startup\nweb\napi\ndb\n"; string(got) != want {
		t.Errorf("stopped in the order %q, want %q", got, want)
	}
}

func TestFilesOutsideDataAreProtected(t *testing.T) {
	p := open(t, process.Config{})
	files := map[string]string{"data/rows": "1", "data/deep/er": "2", "bin/db": "x", "top": "y"}
	one := prepare(t, p, order("1", "p1", files))
	two := prepare(t, p, order("2", "p2", files))
	for name, want := range map[string]fs.FileMode{"data/rows": 0o755, "data/deep/er": 0o755, "bin/db": 0o555, "top": 0o555} {
		info, err := os.Stat(filepath.Join(one.Dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	must(t, os.WriteFile(filepath.Join(one.Dir, "data/rows"), []byte("changed"), 0o644))
	if got, err := os.ReadFile(filepath.Join(two.Dir, "data/rows")); err != nil || string(got) != "1" {
		t.Errorf("the other clone reads %q, %v; want its own copy", got, err)
	}
	if one.Addresses["db"] == two.Addresses["db"] {
		t.Errorf("both clones have address %s", one.Addresses["db"])
	}
	// What a clone made hard to remove is removed.
	must(t, os.MkdirAll(filepath.Join(one.Dir, "data/locked/in"), 0o755))
	must(t, os.WriteFile(filepath.Join(one.Dir, "data/locked/in/f"), nil, 0o400))
	must(t, os.Chmod(filepath.Join(one.Dir, "data/locked/in"), 0o500))
	must(t, os.Chmod(filepath.Join(one.Dir, "data/locked"), 0o500))
	must(t, p.Remove(t.Context(), "1"))
	if _, err := os.Stat(one.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("files are left: %v", err)
	}
}

func TestUnpackThatFails(t *testing.T) {
	p := open(t, process.Config{})
	o := order("1", "i", nil)
	good := o.Unpack
	o.Unpack = func(_ context.Context, dest string) error {
		must(t, os.Mkdir(dest, 0o755))
		return errors.New("no space left on device")
	}
	if _, err := p.Prepare(t.Context(), o); err == nil || err.Error() != "no space left on device" {
		t.Errorf("got %v, want the error of Unpack", err)
	}
	o.Unpack = good
	prepare(t, p, o)
	must(t, p.Remove(t.Context(), "1"))
}

func TestRemoveRefusesWhatRuns(t *testing.T) {
	p := open(t, process.Config{})
	prepare(t, p, order("1", "runs", nil))
	start(t, p, "1", shell("runs", "db", "sleep 1000"))
	if err := p.Remove(t.Context(), "1"); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("got %v, want it refused", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]process.Config{
		"no directory": {},
		"not loopback": {Dir: t.TempDir(), Pool: netip.MustParsePrefix("10.0.0.0/8")},
		"IPv6":         {Dir: t.TempDir(), Pool: netip.MustParsePrefix("::1/128")},
		"too small":    {Dir: t.TempDir(), Pool: netip.MustParsePrefix("127.0.0.0/25")},
		"everything":   {Dir: t.TempDir(), Pool: netip.MustParsePrefix("127.0.0.0/8")},
	} {
		if _, err := process.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "7"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "7", "process.json"), []byte("{cut"), 0o600))
	_, err := process.New(process.Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s/7/process.json", dir)) {
		t.Errorf("damaged state file: got %v, want it named", err)
	}
}
