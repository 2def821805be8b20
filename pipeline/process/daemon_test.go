package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/pipeline/process"
)

// beDaemon prepares clone 1 and starts a process, says so, then starts one
// after another until it is killed.
func beDaemon(dir string) {
	p, err := process.New(process.Config{Dir: dir})
	if err == nil {
		_, err = p.Prepare(context.Background(), order("1", os.Getenv("CLONEGATE_TEST_INSTANCE"), nil))
	}
	for i := 0; err == nil; i++ {
		err = p.Start(context.Background(), "1", shell(os.Getenv("CLONEGATE_TEST_INSTANCE"), fmt.Sprintf("h%d", i), "sleep 1000"))
		if i == 0 {
			fmt.Println("started")
		}
		if os.Getenv("CLONEGATE_TEST_ONE") != "" {
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// killedDaemon runs a daemon on dir and kills it some time after its first
// process was started.
func killedDaemon(t *testing.T, dir, instance string, after time.Duration, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "CLONEGATE_TEST_DAEMON="+dir, "CLONEGATE_TEST_INSTANCE="+instance)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
		t.Fatalf("daemon said %q, %v", line, err)
	}
	time.Sleep(after)
	must(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Fatal("the daemon ended by itself")
	}
}

func TestProcessesOutliveTheDaemon(t *testing.T) {
	dir := t.TempDir()
	killedDaemon(t, dir, "outlive", 0, "CLONEGATE_TEST_ONE=1")
	pids := carriers(t, "outlive")
	if len(pids) == 0 {
		t.Fatal("nothing outlived the daemon")
	}
	p := open(t, process.Config{Dir: dir})
	if held := p.Held(); len(held) != 1 || held[0] != "1" {
		t.Fatalf("held: %v, want clone 1", held)
	}
	site := prepare(t, p, order("1", "other", nil))
	if site.Instance != "outlive" {
		t.Errorf("instance is %q now, want it kept", site.Instance)
	}
	// Started once, it is not started again.
	start(t, p, "1", shell("outlive", "h0", "exit 1"))
	if now := carriers(t, "outlive"); len(now) != len(pids) {
		t.Errorf("processes %v were taken over, now there are %v", pids, now)
	}
	// Its end is noticed, though it is no child of ours.
	proc, err := os.FindProcess(recordedPID(t, dir, "h0"))
	must(t, err)
	must(t, proc.Kill())
	if exit := wait(t, p, "1", "h0"); exit.OK || !strings.Contains(exit.Status, "not known") {
		t.Errorf("got %+v, want an unknown status", exit)
	}
	must(t, p.Stop(t.Context(), "1"))
	if left := carriers(t, "outlive"); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

func recordedPID(t *testing.T, dir, name string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "1", "process.json"))
	must(t, err)
	var state struct{ Processes map[string]struct{ PID int } }
	must(t, json.Unmarshal(data, &state))
	return state.Processes[name].PID
}

func TestEndedWhileTheDaemonWasAway(t *testing.T) {
	dir := t.TempDir()
	killedDaemon(t, dir, "away", 0, "CLONEGATE_TEST_ONE=1")
	proc, err := os.FindProcess(recordedPID(t, dir, "h0"))
	must(t, err)
	must(t, proc.Kill())
	eventually(t, "its end", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", proc.Pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	p := open(t, process.Config{Dir: dir})
	if exit := wait(t, p, "1", "h0"); exit.Status != "ended while clonegate was not running" {
		t.Errorf("got %+v", exit)
	}
}

// TestAnotherProcessWithTheSameID has a state file that names a process which
// is not the one that was started.
func TestAnotherProcessWithTheSameID(t *testing.T) {
	stranger := exec.Command("sleep", "1000")
	must(t, stranger.Start())
	defer func() {
		must(t, stranger.Process.Kill())
		_ = stranger.Wait()
	}()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	for name, tt := range map[string]struct{ boot, want string }{
		"this boot":    {strings.TrimSpace(string(boot)), "ended while clonegate was not running"},
		"another boot": {"00000000", "ended when the machine went down"},
	} {
		dir := t.TempDir()
		must(t, os.Mkdir(filepath.Join(dir, "1"), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "1", "process.json"), fmt.Appendf(nil,
			`{"instance":"stranger","boot":%q,"subnet":"127.80.1.0/24","hosts":{"db":30},"prepared":true,"processes":{"db":{"level":0,"pid":%d,"start":12345}}}`,
			tt.boot, stranger.Process.Pid), 0o600))
		p := open(t, process.Config{Dir: dir})
		if exit := wait(t, p, "1", "db"); exit.Status != tt.want {
			t.Errorf("%s: got %q, want %q", name, exit.Status, tt.want)
		}
		must(t, p.Stop(t.Context(), "1"))
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/environ", stranger.Process.Pid)); err != nil {
			t.Fatalf("%s: the stranger was ended: %v", name, err)
		}
	}
}

// TestDaemonKilledAtAnyMoment kills a daemon while it starts one process after
// another. The next one can end them all, whatever was recorded.
func TestDaemonKilledAtAnyMoment(t *testing.T) {
	for round := range 12 {
		dir, instance := t.TempDir(), fmt.Sprintf("moment%d", round)
		killedDaemon(t, dir, instance, time.Duration(round)*1300*time.Microsecond)
		p, err := process.New(process.Config{Dir: dir})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		// What is not recorded does not run.
		running := 0
		for _, name := range p.Processes("1") {
			quick, stop := context.WithTimeout(t.Context(), time.Millisecond)
			if _, err := p.Wait(quick, "1", name); err != nil {
				running++
			}
			stop()
		}
		if now := leaders(t, instance); now != running {
			t.Errorf("round %d: %d processes run, %d of them are known", round, now, running)
		}
		must(t, p.Stop(t.Context(), "1"))
		if left := carriers(t, instance); len(left) > 0 {
			t.Errorf("round %d: processes are left: %v", round, left)
		}
		must(t, p.Remove(t.Context(), "1"))
		cancel()
		must(t, <-ended)
	}
}

// leaders counts the sessions among the processes that carry an instance.
func leaders(t *testing.T, instance string) int {
	t.Helper()
	n := 0
	for _, pid := range carriers(t, instance) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if fields[3] == fmt.Sprint(pid) {
			n++
		}
	}
	return n
}
