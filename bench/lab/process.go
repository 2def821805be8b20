package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A Process is a program that was started for a test, with all its children.
type Process struct {
	PID int
	Log string // file that holds what it wrote

	name  string
	ended chan struct{}
}

// Start starts a program in dir. What it writes goes to dir/name.log.
func Start(dir, name, program string, args ...string) (*Process, error) {
	p := &Process{name: name, Log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	// HOME keeps programs from reading or writing the user's own settings.
	cmd.Env = append(os.Environ(), fmt.Sprint("GOMAXPROCS=", Workers), "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that all of it can be ended
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.PID = cmd.Process.Pid
	go p.wait(cmd)
	return p, nil
}

func (p *Process) wait(cmd *exec.Cmd) {
	cmd.Wait() // the exit status of what we end says nothing
	close(p.ended)
}

// Stop ends the process and its children: politely, and after 3 s by force.
func (p *Process) Stop() {
	syscall.Kill(p.PID, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(3 * time.Second):
	}
	syscall.Kill(-p.PID, syscall.SIGKILL) // the group: whoever is left of it
	<-p.ended
	os.Truncate(p.Log, 0) // access logs are large
}

// Ready waits until probe succeeds. The error of a process that ends, or is not
// ready within 30 s, shows the end of its log.
func (p *Process) Ready(ctx context.Context, probe func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.ended:
			cancel(fmt.Errorf("it has ended"))
		case <-ctx.Done():
		}
	}()
	err := Until(ctx, 30*time.Second, probe)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	text, _ := os.ReadFile(p.Log)
	return fmt.Errorf("%s: %w; its log ends with:\n%s", p.name, err, text[max(0, len(text)-800):])
}
