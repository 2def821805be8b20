package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootID returns a string that differs after every boot of the machine.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// startTime returns when a process was started, in clock ticks since boot:
// with the process ID it names one process for the whole of this boot. ok is
// false if there is no such process or it has ended (a zombie has).
func startTime(pid int) (ticks uint64, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The second field is the program's name in parentheses, which may hold
	// anything; see proc_pid_stat(5).
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return 0, false
	}
	fields := strings.Fields(string(data[i+1:]))
	const state, start = 0, 19 // fields 3 and 22 of the whole line
	if len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return 0, false
	}
	ticks, err = strconv.ParseUint(fields[start], 10, 64)
	return ticks, err == nil
}

// A found process is one that carries an instance in its environment.
type found struct {
	pid  int
	host string
}

// find returns every process with CLONEGATE_INSTANCE set to instance, wherever
// it has moved to, sessions and parents being no matter. Processes that have
// ended have no environment any more.
func find(instance string) ([]found, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []found
	want := "CLONEGATE_INSTANCE=" + instance
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		f := found{pid: pid}
		carries := false
		for v := range strings.SplitSeq(environ(pid), "\x00") {
			if v == want {
				carries = true
			} else if host, ok := strings.CutPrefix(v, "CLONEGATE_HOST="); ok {
				f.host = host
			}
		}
		if carries {
			all = append(all, f)
		}
	}
	return all, nil
}

// environ returns the environment a process was started with, "" if it cannot
// be read: then the process has ended or belongs to somebody else.
func environ(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	return string(data)
}

// killFound ends processes that carry instance and that pick selects, and
// looks again until there are none. What a process starts meanwhile carries
// the instance too.
func killFound(ctx context.Context, instance string, patience time.Duration, pick func(found) bool) error {
	deadline := time.Now().Add(patience)
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		all, err := find(instance)
		if err != nil {
			return err
		}
		var left []string
		for _, f := range all {
			if pick(f) {
				left = append(left, strconv.Itoa(f.pid))
				if err := killSure(f.pid, instance); err != nil {
					return err
				}
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %s do not end, even by SIGKILL; look at them with ps -fp %s", strings.Join(left, ", "), strings.Join(left, ","))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// killSure kills a process if it still carries instance: between the look and
// the kill its ID may have become another's, but not once we hold its pidfd.
func killSure(pid int, instance string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !strings.Contains("\x00"+environ(pid), "\x00CLONEGATE_INSTANCE="+instance+"\x00") {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// openPidfd returns a file for a process, by which one can wait for its end
// without a thread: it becomes readable then.
func openPidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd "+strconv.Itoa(pid)), nil
}

// awaitEnd blocks until the process behind f has ended, and returns
// fs.ErrClosed if f is closed first.
func awaitEnd(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var pollErr error
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			pollErr = err
			return true
		}
		return n > 0
	})
	if errors.Is(err, os.ErrClosed) {
		return fs.ErrClosed
	}
	return errors.Join(err, pollErr)
}
