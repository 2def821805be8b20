package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process is a program that a test has started.
type process struct {
	cmd  *exec.Cmd
	exit chan struct{} // closed when it has ended
}

// startProcess starts a program that ends with the test at the latest.
func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, make(chan struct{})}
	go func() { cmd.Wait(); close(p.exit) }()
	t.Cleanup(p.kill)
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(s os.Signal) { p.cmd.Process.Signal(s) }

// kill ends it as a crash does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.exit
}

func (p *process) ended() bool {
	select {
	case <-p.exit:
		return true
	default:
		return false
	}
}

// wait waits until it has ended, and returns whether it has.
func (p *process) wait(within time.Duration) bool {
	select {
	case <-p.exit:
		return true
	case <-time.After(within):
		return false
	}
}

// status returns how it ended.
func (p *process) status() string {
	<-p.exit
	return p.cmd.ProcessState.String()
}

// A running process is one of /proc.
type running struct {
	pid     int
	parent  int
	command string
	env     []string
}

func (r running) String() string {
	return fmt.Sprintf("%d (child of %d): %s", r.pid, r.parent, r.command)
}

// processes returns every process of this machine whose environment may be
// read.
func processes(t *testing.T) []running {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var all []running
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		at := func(name string) []byte {
			text, _ := os.ReadFile(filepath.Join("/proc", e.Name(), name)) // it may have ended
			return text
		}
		r := running{pid: pid, command: string(bytes.ReplaceAll(at("cmdline"), []byte{0}, []byte{' '}))}
		if stat := at("stat"); len(stat) > 0 {
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			if fields[0] == "Z" {
				continue
			}
			r.parent, _ = strconv.Atoi(fields[1])
		}
		r.env = strings.Split(string(at("environ")), "\x00")
		all = append(all, r)
	}
	return all
}

// clonesOf returns the processes of clones whose files are below a data
// directory, and their children, which inherit the environment.
func clonesOf(t *testing.T, data string) []running {
	t.Helper()
	return slices.DeleteFunc(processes(t), func(r running) bool {
		return !slices.ContainsFunc(r.env, func(pair string) bool { return strings.HasPrefix(pair, "CLONEGATE_DIR="+data+"/") })
	})
}

// hostsOf returns the processes of one clone by their host, without children.
func hostsOf(t *testing.T, data, id string) map[string]running {
	t.Helper()
	all := clonesOf(t, data)
	hosts := map[string]running{}
	for _, r := range all {
		if !slices.Contains(r.env, "CLONEGATE_ID="+id) || slices.ContainsFunc(all, func(p running) bool { return p.pid == r.parent }) {
			continue
		}
		for _, pair := range r.env {
			if host, ok := strings.CutPrefix(pair, "CLONEGATE_HOST="); ok {
				hosts[host] = r
			}
		}
	}
	return hosts
}

// killClones ends what is left of a test's clones.
func killClones(t *testing.T, data string) {
	t.Helper()
	for range 3 { // what was just forked may have escaped
		for _, r := range clonesOf(t, data) {
			syscall.Kill(r.pid, syscall.SIGKILL)
		}
	}
}

// noClones expects that nothing of a data directory's clones runs.
func noClones(t *testing.T, data string, within time.Duration) {
	t.Helper()
	eventually(t, within, "no process of a clone is left", func() string {
		left := clonesOf(t, data)
		if len(left) == 0 {
			return ""
		}
		return fmt.Sprint(left)
	})
}
