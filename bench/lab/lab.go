// Package lab is the table on which servers are compared: it finds and starts
// them, reads from /proc what each has cost, collects figures over rounds, and
// writes them down as Markdown beside the goals they have to meet.
//
// It knows neither HTTP nor DNS; bench/http and bench/dns are its two users.
// It runs on Linux.
package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Zone is the zone of all clones. It has an underscore, as real ones may.
const Zone = "test_envs.internal.example.com"

// Workers is how many threads or processes every server gets.
const Workers = 2

// FreePort returns an address on 127.0.0.1 whose port is free for both TCP and
// UDP now.
func FreePort() (netip.AddrPort, error) {
	for range 50 {
		tcp, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return netip.AddrPort{}, err
		}
		addr := tcp.Addr().(*net.TCPAddr).AddrPort()
		udp, err := net.ListenPacket("udp4", addr.String())
		tcp.Close()
		if err == nil {
			udp.Close()
			return addr, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("no port of 127.0.0.1 is free for both TCP and UDP")
}

// Until calls ready every 50 ms until it returns nil. The error is ready's
// last if that takes longer than within.
func Until(ctx context.Context, within time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", within, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// machine describes the machine for a table's caption.
func machine() string {
	cpu := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel := "Linux"
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel += " " + strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%d cores of %s, %s, %s", runtime.NumCPU(), cpu, kernel, runtime.Version())
}

// commit names the commit of the repository at dir, for a table's caption.
func commit(ctx context.Context, dir string) string {
	out, err := exec.CommandContext(ctx, "git", "-C", dir, "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return "unknown commit"
	}
	return strings.TrimSpace(string(out))
}
