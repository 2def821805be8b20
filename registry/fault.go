package registry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A FaultKind is what a fault does.
type FaultKind string

// The kinds of faults. Those that begin with "dns-" befall questions to the
// clone's resolver, the others requests to its services.
const (
	FaultLatency     FaultKind = "latency"   // requests wait
	FaultAbort       FaultKind = "abort"     // the gateway answers with a status of its own
	FaultReset       FaultKind = "reset"     // connections break
	FaultBandwidth   FaultKind = "bandwidth" // octets trickle
	FaultDNSServfail FaultKind = "dns-servfail"
	FaultDNSNXDomain FaultKind = "dns-nxdomain"
	FaultDNSDelay    FaultKind = "dns-delay"
	FaultDNSDrop     FaultKind = "dns-drop" // no answer comes
)

// IsDNS reports whether faults of the kind befall DNS.
func (k FaultKind) IsDNS() bool { return strings.HasPrefix(string(k), "dns-") }

// delays reports whether faults of the kind have a delay.
func (k FaultKind) delays() bool { return k == FaultLatency || k == FaultDNSDelay }

// A Direction is which of the octets a bandwidth is about.
type Direction string

// The directions, as the client sees them.
const (
	DirectionBoth Direction = "both"
	DirectionUp   Direction = "up"   // what clients send
	DirectionDown Direction = "down" // what they receive
)

// Milliseconds is a whole number of milliseconds, as the API writes short
// durations.
type Milliseconds uint32

// Duration returns m as a time.Duration.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// FaultSpec says what a fault does, and to what.
type FaultSpec struct {
	Kind      FaultKind    `json:"kind" enum:"latency,abort,reset,bandwidth,dns-servfail,dns-nxdomain,dns-delay,dns-drop" doc:"What goes wrong; dns- kinds befall questions to the clone's resolver, the others requests to its services."`
	Percent   int          `json:"percent,omitempty" doc:"How many of a hundred requests or questions it befalls, at random. Default 100."`
	Service   string       `json:"service,omitempty" doc:"Only requests to this service. Default: to every one."`
	Path      string       `json:"path,omitempty" doc:"Only requests whose path begins like this, as in /api/."`
	Name      string       `json:"name,omitempty" doc:"Of a dns- kind: the name, or *.NAME for all beneath a name, or * for all, which is the default."`
	Delay     Milliseconds `json:"delay_ms,omitempty" doc:"Of latency and dns-delay: how long it takes, in milliseconds; at most 60000, and 10000 for DNS."`
	Jitter    Milliseconds `json:"jitter_ms,omitempty" doc:"By how many milliseconds the delay varies both ways, at random; at most the delay."`
	Status    int          `json:"status,omitempty" doc:"Of abort: the status of the answer, 400 to 599."`
	Rate      int64        `json:"rate,omitempty" doc:"Of bandwidth: octets a second, 1024 to 1073741824, which all that it befalls share."`
	Direction Direction    `json:"direction,omitempty" enum:"both,up,down" doc:"Of bandwidth: up is what clients send, down what they receive. Default both."`
}

// A FaultRequest asks for a fault.
type FaultRequest struct {
	FaultSpec
	For Seconds `json:"for,omitempty" doc:"Seconds until it ends by itself; at most 86400. Default 600."`
}

// A Fault is a trouble that a clone has on purpose, for a while, so that its
// owner sees how the software takes it. It outlives registrations and restarts
// of the daemon, and dies with the life of the clone.
type Fault struct {
	ID uint64 `json:"id" doc:"Number of the event that tells of its beginning."`
	FaultSpec
	By      string    `json:"by" doc:"Who asked for it."`
	Created time.Time `json:"created"`
	Until   time.Time `json:"until" doc:"When it ends by itself."`
}

// Bounds of faults.
const (
	maxFaults     = 16 // of one clone
	maxFaultLife  = 24 * time.Hour
	faultLife     = 10 * time.Minute
	maxLatency    = 60 * time.Second
	maxDNSDelay   = 10 * time.Second
	minRate       = 1024
	maxRate       = 1 << 30
	maxPathPrefix = 1024
)

// FaultsAt returns the faults of c that have not ended at now.
func (c *Clone) FaultsAt(now time.Time) []*Fault {
	return slices.DeleteFunc(slices.Clone(c.Faults), func(f *Fault) bool { return !now.Before(f.Until) })
}

// String describes the fault in one line: "latency 200ms ± 50ms, 30 % of
// requests to api".
func (f *Fault) String() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	switch f.Kind {
	case FaultLatency, FaultDNSDelay:
		fmt.Fprintf(&b, " %s", f.Delay.Duration())
		if f.Jitter > 0 {
			fmt.Fprintf(&b, " ± %s", f.Jitter.Duration())
		}
	case FaultAbort:
		fmt.Fprintf(&b, " %d", f.Status)
	case FaultBandwidth:
		fmt.Fprintf(&b, " %d octets/s", f.Rate)
		if f.Direction != DirectionBoth {
			fmt.Fprintf(&b, " %s", f.Direction)
		}
	}
	b.WriteString(", ")
	if f.Percent < 100 {
		fmt.Fprintf(&b, "%d %% of ", f.Percent)
	}
	switch {
	case f.Kind.IsDNS():
		fmt.Fprintf(&b, "questions for %s", f.Name)
	case f.Service == "":
		b.WriteString("requests to every service")
	default:
		fmt.Fprintf(&b, "requests to %s", f.Service)
	}
	if f.Path != "" {
		fmt.Fprintf(&b, " under %s", f.Path)
	}
	return b.String()
}

// AddFault gives a clone a fault from now on. It is for the clone's owner and
// admins. Mistakes in req are FieldErrors; a clone whose life is over, or
// ending, is ErrEnded.
func (r *Registry) AddFault(ctx context.Context, by Actor, id ID, req FaultRequest) (*Fault, error) {
	spec, life, err := readFault(&req)
	if err != nil {
		return nil, err
	}
	var f *Fault
	err = r.write(ctx, func(t *tx) error {
		c, err := t.faulty(id, by)
		if err != nil {
			return err
		}
		if err := mayFault(c, spec.Service); err != nil {
			return err
		}
		if len(c.FaultsAt(t.now)) >= maxFaults {
			return &FieldError{Field: "kind", Rule: "faults", Detail: fmt.Sprintf("clone %s has %d faults already, which is the most; remove some", id, maxFaults)}
		}
		now := t.dropFaults(c, endedFaults(c, t.now), System, EventFaultExpired).clone()
		f = &Fault{ID: t.revision + 1, FaultSpec: *spec, By: by.Name(), Created: t.now, Until: t.now.Add(life)}
		now.Faults = append(slices.Clone(now.Faults), f)
		t.put(now, by, EventFaultAdded, fmt.Sprintf("fault %d for %s: %s", f.ID, life, f))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// RemoveFault ends a fault before its time, or all of a clone's if fault is 0,
// and returns those that it ended. It is for the clone's owner and admins. A
// fault that the clone does not have is ErrNotFound.
func (r *Registry) RemoveFault(ctx context.Context, by Actor, id ID, fault uint64) ([]*Fault, error) {
	var ended []*Fault
	err := r.write(ctx, func(t *tx) error {
		c, err := t.faulty(id, by)
		if err != nil {
			return err
		}
		ended = slices.DeleteFunc(slices.Clone(c.Faults), func(f *Fault) bool { return fault != 0 && f.ID != fault })
		if len(ended) == 0 && fault != 0 {
			return fmt.Errorf("fault %d of clone %s: %w; it may have ended by itself", fault, id, ErrNotFound)
		}
		t.dropFaults(c, ended, by, EventFaultRemoved)
		return nil
	})
	return ended, err
}

// faulty returns the living clone whose faults an actor is about to change.
func (t *tx) faulty(id ID, by Actor) (*Clone, error) {
	c, err := t.clone(id)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, fmt.Errorf("clone %s: %w", id, ErrNotFound)
	}
	if err := by.owns(c); err != nil {
		return nil, err
	}
	if c.State.Over() || c.State == Failed || c.Desired == WantGone {
		return nil, fmt.Errorf("clone %s: %w: it is %s%s", id, ErrEnded, c.State, endedBy(c))
	}
	return c, nil
}

// mayFault returns what is wrong if a clone has services, but not this one.
func mayFault(c *Clone, service string) error {
	if service == "" || len(c.Services) == 0 || c.Services[service] != nil {
		return nil
	}
	names := make([]string, 0, len(c.Services))
	for name := range c.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	return &FieldError{Field: "service", Rule: "service-unknown", Detail: fmt.Sprintf("clone %s has no service %q; it has %s", c.ID, clip(service), strings.Join(names, ", "))}
}

// endedFaults returns the faults of c that have ended at now.
func endedFaults(c *Clone, now time.Time) []*Fault {
	return slices.DeleteFunc(slices.Clone(c.Faults), func(f *Fault) bool { return now.Before(f.Until) })
}

// dropFaults takes faults from a clone, with an event for each, and returns what
// the clone is then.
func (t *tx) dropFaults(c *Clone, ended []*Fault, by Actor, typ string) *Clone {
	for _, f := range ended {
		now := c.clone()
		now.Faults = slices.DeleteFunc(slices.Clone(c.Faults), func(other *Fault) bool { return other == f })
		if len(now.Faults) == 0 {
			now.Faults = nil
		}
		t.put(now, by, typ, fmt.Sprintf("fault %d: %s", f.ID, f))
		c = now
	}
	return c
}

// readFault checks a request and fills in what it leaves out. The error is
// FieldErrors.
func readFault(req *FaultRequest) (*FaultSpec, time.Duration, error) {
	in := &reader{}
	spec, life := req.FaultSpec, cmp.Or(req.For.Duration(), faultLife)
	if life > maxFaultLife {
		in.faults.add("for", "fault-life", "%s; a fault ends after %s at most", life, maxFaultLife)
	}
	spec.Percent = cmp.Or(spec.Percent, 100)
	if spec.Percent < 1 || spec.Percent > 100 {
		in.faults.add("percent", "percent", "%d; want 1 to 100", req.Percent)
	}
	in.faultFields(&spec)
	switch spec.Kind {
	case FaultLatency:
		in.faultDelay(&spec, maxLatency)
	case FaultDNSDelay:
		in.faultDelay(&spec, maxDNSDelay)
	case FaultAbort:
		if spec.Status < 400 || spec.Status > 599 {
			in.faults.add("status", "status", "%d; want the status of an error, 400 to 599", spec.Status)
		}
	case FaultBandwidth:
		spec.Direction = cmp.Or(spec.Direction, DirectionBoth)
		if spec.Rate < minRate || spec.Rate > maxRate {
			in.faults.add("rate", "rate", "%d octets a second; want %d to %d", spec.Rate, minRate, maxRate)
		}
		if !slices.Contains([]Direction{DirectionBoth, DirectionUp, DirectionDown}, spec.Direction) {
			in.faults.add("direction", "direction", "%q is not known; want both, up or down", clip(string(spec.Direction)))
		}
	case FaultReset, FaultDNSServfail, FaultDNSNXDomain, FaultDNSDrop:
	default:
		in.faults.add("kind", "kind", "%q is no kind of fault; want latency, abort, reset, bandwidth, dns-servfail, dns-nxdomain, dns-delay or dns-drop", clip(string(spec.Kind)))
	}
	return &spec, life, in.faults.err()
}

// faultFields refuses what a kind has no use for, and checks what a fault is
// about.
func (in *reader) faultFields(spec *FaultSpec) {
	dns := spec.Kind.IsDNS()
	for _, field := range []struct {
		name  string
		given bool
		of    bool
	}{
		{"service", spec.Service != "", !dns},
		{"path", spec.Path != "", !dns},
		{"name", spec.Name != "", dns},
		{"delay_ms", spec.Delay != 0, spec.Kind.delays()},
		{"jitter_ms", spec.Jitter != 0, spec.Kind.delays()},
		{"status", spec.Status != 0, spec.Kind == FaultAbort},
		{"rate", spec.Rate != 0, spec.Kind == FaultBandwidth},
		{"direction", spec.Direction != "", spec.Kind == FaultBandwidth},
	} {
		if field.given && !field.of {
			in.faults.add(field.name, "fault-field", "faults of kind %s have none; leave it out", clip(string(spec.Kind)))
		}
	}
	if spec.Service != "" {
		if _, err := ParseLabel(spec.Service); err != nil {
			in.faults.add("service", "label", "%v", err)
		}
	}
	if p := spec.Path; p != "" && (p[0] != '/' || len(p) > maxPathPrefix || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' || r == '?' })) {
		in.faults.add("path", "path-prefix", "%q: want a path that begins with / in visible ASCII, without ? and #", clip(p))
	}
	if dns {
		in.faultName(spec)
	}
}

// faultName reads "db", "*.example.com" or "*".
func (in *reader) faultName(spec *FaultSpec) {
	if spec.Name = cmp.Or(spec.Name, "*"); spec.Name == "*" {
		return
	}
	name, below := strings.CutPrefix(spec.Name, "*.")
	host, err := ParseHost(name)
	if err != nil {
		in.faults.add("name", "host", "%v", err)
		return
	}
	if spec.Name = string(host); below {
		spec.Name = "*." + spec.Name
	}
}

func (in *reader) faultDelay(spec *FaultSpec, most time.Duration) {
	if d := spec.Delay.Duration(); d < time.Millisecond || d > most {
		in.faults.add("delay_ms", "delay", "%s; want 1ms to %s", d, most)
	}
	if spec.Jitter > spec.Delay {
		in.faults.add("jitter_ms", "jitter", "%s; want at most the delay of %s", spec.Jitter.Duration(), spec.Delay.Duration())
	}
}
