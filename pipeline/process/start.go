package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

// inherited names what a process gets of the daemon's own environment.
var inherited = []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}

// Start starts a process in a session of its own, with its output going
// straight to its log file. The state file says that it is about to be started
// before it is, and which it is after: killed in between, the next Provider
// finds the process by its environment.
func (p *Provider) Start(_ context.Context, id registry.ID, proc pipeline.Process) error {
	c := p.clone(id)
	if c == nil {
		return fmt.Errorf("start %s: clone %s is not prepared", proc.Name, id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.state.Processes[proc.Name]; r != nil && r.PID != 0 {
		if r.Ended == "" {
			return nil
		}
		return &pipeline.ExitError{Name: proc.Name, Exit: r.exit()}
	}
	r := &recorded{Level: proc.Level}
	c.state.Processes[proc.Name] = r
	c.state.Boot = p.boot
	if err := c.saveLocked(); err != nil {
		return fmt.Errorf("start %s: %w", proc.Name, err)
	}
	cmd, err := c.exec(proc)
	if err != nil {
		delete(c.state.Processes, proc.Name)
		return errors.Join(fmt.Errorf("start %s: %w", proc.Name, err), c.saveLocked())
	}
	r.PID = cmd.Process.Pid
	r.Start, _ = startTime(r.PID) // zero if it has ended already
	w, err := watchProcess(r.PID, cmd.Wait)
	if err == nil {
		err = c.saveLocked()
	}
	if err != nil {
		// What is not recorded or not watched must not run.
		killGroup(r.PID, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
		delete(c.state.Processes, proc.Name)
		return fmt.Errorf("start %s: %w", proc.Name, err)
	}
	c.watched[proc.Name] = w
	go c.followLife(proc.Name, w)
	p.log.Info("process started", "clone", id, "host", proc.Name, "pid", r.PID)
	return nil
}

// exec starts the program. Whoever else is just being started may hold the
// program open for writing, as it was unpacked, until the exec that follows its
// fork (golang.org/issue/22315); so a busy program is tried again for a while.
func (c *clone) exec(proc pipeline.Process) (*exec.Cmd, error) {
	out, err := os.OpenFile(c.logFile(proc.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, durable.Full(err)
	}
	defer out.Close()
	for pause := time.Millisecond; ; pause *= 2 {
		cmd := c.command(proc, out)
		err := cmd.Start()
		switch {
		case err == nil:
			return cmd, nil
		case errors.Is(err, syscall.ETXTBSY) && pause <= busyPause:
			time.Sleep(pause)
		case errors.Is(err, fs.ErrNotExist) && strings.Contains(proc.Run[0], "/"):
			return nil, fmt.Errorf("%w; if the file is there, the interpreter in its first line or its dynamic loader is not", err)
		default:
			return nil, err
		}
	}
}

// busyPause is the longest pause before a busy program is tried again.
const busyPause = time.Second

// command returns how the program is started, with its output going to out.
func (c *clone) command(proc pipeline.Process, out *os.File) *exec.Cmd {
	program := proc.Run[0]
	if strings.Contains(program, "/") && !filepath.IsAbs(program) {
		program = filepath.Join(c.files(), program)
	}
	cmd := exec.Command(program, proc.Run[1:]...)
	cmd.Args[0] = proc.Run[0]
	cmd.Dir = c.files()
	cmd.Stdout, cmd.Stderr = out, out // stdin is /dev/null
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{} // nil would mean ours
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	for name, value := range proc.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	slices.Sort(cmd.Env)
	return cmd
}

// killGroup signals every process of a group. That there is none left is no
// news.
func killGroup(pid int, sig syscall.Signal) {
	_ = syscall.Kill(-pid, sig)
}
