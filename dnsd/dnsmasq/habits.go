package dnsmasq

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Bounds of edns-packet-max: what every client takes, and what is read of an
// upstream server at most.
const (
	minEDNSSize = 512
	maxEDNSSize = 4096
)

// firstUserPort is where max-port's range begins unless min-port says.
const firstUserPort = 1024

// staleDay is how long use-stale-cache keeps answers unless it says.
const staleDay = 24 * time.Hour

// staleEver stands for "without an end".
const staleEver = 10 * 365 * staleDay

// retryAfter is when fast-dns-retry asks again unless it says; dnsmasq's 1 s
// would be slower than without the option.
const retryAfter = 200 * time.Millisecond

// addHabits adds the options about upstream servers as a whole, and about
// bounds.
func addHabits(o map[string]option) {
	flag := func(set func(*Config), but string) option {
		return option{value: never, not: but, parse: func(p *parser, _ string) error { set(p.Config); return nil }}
	}
	o["strict-order"] = flag(func(c *Config) { c.Habits.StrictOrder = true }, "")
	o["all-servers"] = flag(func(c *Config) { c.Habits.AllServers = true }, "")
	o["dns-loop-detect"] = flag(func(*Config) {}, alwaysLoop)
	o["bind-dynamic"] = flag(func(c *Config) { c.BindDynamic = true }, alwaysFollow)
	o["clear-on-reload"] = flag(func(*Config) {}, alwaysReload)
	o["cache-rr"] = option{not: alwaysCache, parse: func(p *parser, v string) error { _, err := types(v); return err }}
	o["dns-forward-max"] = option{once: true, parse: func(p *parser, v string) (err error) { p.Habits.MaxWaiting, err = count(v); return err }}
	o["max-tcp-connections"] = option{once: true, not: ownTCP, parse: func(p *parser, v string) (err error) {
		p.Habits.MaxConns, err = count(v)
		return err
	}}
	o["edns-packet-max"] = option{once: true, parse: (*parser).ednsSize}
	o["query-port"] = option{once: true, parse: func(p *parser, v string) error {
		n, err := number(v, math.MaxUint16)
		port := uint16(n)
		p.Habits.SourcePort = &port
		return err
	}}
	o["min-port"] = option{once: true, parse: func(p *parser, v string) (err error) { p.Habits.FirstPort, err = portNumber(v); return err }}
	o["max-port"] = option{once: true, parse: func(p *parser, v string) (err error) { p.Habits.LastPort, err = portNumber(v); return err }}
	o["use-stale-cache"] = option{once: true, value: optional, not: ownStale, parse: (*parser).useStale}
	o["fast-dns-retry"] = option{once: true, value: optional, parse: (*parser).fastRetry}
}

// count reads a number above 0.
func count(s string) (int, error) {
	n, err := number(s, math.MaxInt32)
	if err == nil && n == 0 {
		err = errors.New("0 would let nothing through; write a number above it")
	}
	return n, err
}

func portNumber(s string) (uint16, error) {
	n, err := number(s, math.MaxUint16)
	if err == nil && n == 0 {
		err = errors.New("0 is no port; write one from 1 to 65535")
	}
	return uint16(n), err
}

func (p *parser) ednsSize(value string) error {
	n, err := number(value, math.MaxUint16)
	if err != nil {
		return err
	}
	p.Habits.EDNSSize = min(max(n, minEDNSSize), maxEDNSSize)
	if p.Habits.EDNSSize != n {
		p.remark = fmt.Sprintf("as %d: every client takes %d octets, and no more than %d are read", p.Habits.EDNSSize, minEDNSSize, maxEDNSSize)
	}
	return nil
}

// useStale reads use-stale-cache[=seconds], 0 for ever.
func (p *parser) useStale(value string) error {
	p.Habits.StaleFirst, p.Habits.StaleFor = true, staleDay
	if value == "" {
		return nil
	}
	n, err := number(value, math.MaxInt32)
	p.Habits.StaleFor = min(time.Duration(n)*time.Second, staleEver)
	if n == 0 {
		p.Habits.StaleFor = staleEver
	}
	return err
}

// fastRetry reads fast-dns-retry[=first[,total]], both in milliseconds.
func (p *parser) fastRetry(value string) error {
	p.Habits.Retry = retryAfter
	if value == "" {
		p.remark = fmt.Sprintf("after %v each", retryAfter)
		return nil
	}
	for i, f := range fields(value) {
		n, err := count(f)
		if err != nil {
			return err
		}
		switch d := time.Duration(n) * time.Millisecond; i {
		case 0:
			p.Habits.Retry = d
		case 1:
			p.Habits.Patience = d
		default:
			return fmt.Errorf("%q is not understood; write first,total in milliseconds", f)
		}
	}
	return nil
}

// finishPorts makes a range of what min-port and max-port say.
func (p *parser) finishPorts() {
	h := &p.Habits
	switch {
	case h.FirstPort == 0 && h.LastPort == 0:
		return
	case h.LastPort == 0:
		h.LastPort = math.MaxUint16
	case h.FirstPort == 0:
		h.FirstPort = min(firstUserPort, h.LastPort)
	}
	if h.FirstPort > h.LastPort {
		p.at = p.seen["max-port"]
		p.fail("max-port", "%d is below min-port, which is %d", h.LastPort, h.FirstPort)
	}
}
