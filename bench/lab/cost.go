package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of CPU times in /proc (USER_HZ is 100 on Linux).
const tick = 10 * time.Millisecond

// stat returns the fields of /proc/PID/stat behind the command's name, which
// may itself hold spaces: the first is the state (field 3 of proc_pid_stat(5)).
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// Tree returns the given processes and all that descend from them.
func Tree(pids ...int) []int {
	children := map[int][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if f := stat(pid); len(f) > 1 {
			parent, _ := strconv.Atoi(f[1])
			children[parent] = append(children[parent], pid)
		}
	}
	tree := append([]int(nil), pids...)
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// CPU returns the user and system time that the trees of the given processes
// have used, in steps of 10 ms. Children that have ended and been waited for,
// as workers before a reload, count.
func CPU(pids ...int) time.Duration {
	const utime, cstime = 11, 14 // fields 14 to 17 of proc_pid_stat(5)
	var total time.Duration
	for _, pid := range Tree(pids...) {
		f := stat(pid)
		if len(f) <= cstime {
			continue
		}
		for _, field := range f[utime : cstime+1] {
			ticks, _ := strconv.ParseInt(field, 10, 64)
			total += time.Duration(ticks) * tick
		}
	}
	return total
}

// OwnCPU returns the user and system time that this process has used.
func OwnCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Memory is what a server takes, in KiB. Pages that several processes share
// are divided among them (PSS).
type Memory struct {
	Whole   int64
	Private int64 // of that, what no file holds: not the program itself
}

// MemoryOf returns the memory of the trees of the given processes.
func MemoryOf(pids ...int) Memory {
	var m Memory
	for _, pid := range Tree(pids...) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "Pss:":
				m.Whole += kib
			case "Pss_Anon:":
				m.Private += kib
			}
		}
	}
	return m
}

// Busy returns the CPU time that the whole machine has spent so far on
// anything but idling and waiting for disks, stolen time included.
func Busy() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(first) {
		const idle, iowait, steal = 4, 5, 8 // the columns of proc_stat(5), behind "cpu"
		if i == 0 || i == idle || i == iowait || i > steal {
			continue
		}
		ticks, _ := strconv.ParseInt(field, 10, 64)
		busy += time.Duration(ticks) * tick
	}
	return busy
}

// A Meter measures what was used between its start and its end.
type Meter struct {
	server, helpers []int

	start              time.Time
	busy, cpu, own, by time.Duration
}

// A Cost is what a Meter has measured.
type Cost struct {
	Elapsed time.Duration
	Server  time.Duration // CPU of the server under test
	Own     time.Duration // CPU of this process, the generator
	Foreign time.Duration // CPU of whatever is no part of the test
}

// StartMeter starts measuring the server's processes; helpers are further
// processes that belong to the test, as what stands behind the server.
func StartMeter(server, helpers []int) *Meter {
	return &Meter{
		server: server, helpers: helpers,
		cpu: CPU(server...), by: CPU(helpers...), own: OwnCPU(), busy: Busy(), start: time.Now(),
	}
}

// Stop returns what was used since the start.
func (m *Meter) Stop() Cost {
	c := Cost{Elapsed: time.Since(m.start), Own: OwnCPU() - m.own, Server: CPU(m.server...) - m.cpu}
	c.Foreign = max(0, Busy()-m.busy-c.Own-c.Server-(CPU(m.helpers...)-m.by))
	return c
}

// Micros and Millis are units that figures are shown in.
func Micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
