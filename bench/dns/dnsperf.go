package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A dnsperf asks as fast as it is answered.
type dnsperf struct {
	program string
	server  netip.AddrPort
	file    string // names to ask for
	dur     time.Duration
	once    bool // ask for each name once, which may end it earlier
}

// An outcome is what dnsperf says about a run.
type outcome struct {
	done, lost int
	rate       float64 // answers per second
	codes      string  // as in "NOERROR 1000 (100.00%)"
}

// run asks, with 16 sockets and at most 200 queries on their way.
func (d dnsperf) run(ctx context.Context) (outcome, error) {
	args := []string{
		"-s", d.server.Addr().String(), "-p", strconv.Itoa(int(d.server.Port())), "-d", d.file,
		"-c", "16", "-T", "1", "-q", "200", "-t", "2",
		"-l", strconv.Itoa(max(1, int(d.dur.Seconds()))), // it takes whole seconds
	}
	if d.once {
		args = append(args, "-n", "1")
	}
	out, err := exec.CommandContext(ctx, d.program, args...).CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("dnsperf %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return parseOutcome(string(out))
}

// parseOutcome reads the statistics that dnsperf prints.
func parseOutcome(text string) (outcome, error) {
	field := func(name string) string {
		m := regexp.MustCompile(name + `:\s+(.*)`).FindStringSubmatch(text)
		if m == nil {
			return ""
		}
		return strings.TrimSpace(m[1])
	}
	number := func(name string) (int, error) {
		first, _, _ := strings.Cut(field(name), " ")
		return strconv.Atoi(first)
	}
	o := outcome{codes: field("Response codes")}
	var err error
	if o.done, err = number("Queries completed"); err != nil {
		return outcome{}, fmt.Errorf("dnsperf printed no count of queries: %s", text)
	}
	if o.lost, err = number("Queries lost"); err != nil {
		return outcome{}, fmt.Errorf("dnsperf printed no count of lost queries: %s", text)
	}
	if o.rate, err = strconv.ParseFloat(field("Queries per second"), 64); err != nil {
		return outcome{}, fmt.Errorf("dnsperf printed no rate: %s", text)
	}
	return o, nil
}

// only reports whether every answer had one response code.
func (o outcome) only(code string) bool {
	return strings.HasPrefix(o.codes, code+" ") && !strings.Contains(o.codes, ",")
}
