package dnsd

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// An InjectedFault is a trouble that the resolver of one clone makes on purpose, so
// that its owners see how their software takes it.
type InjectedFault struct {
	Clone registry.ID `json:"clone" doc:"Whose resolver makes trouble."`
	Name  string      `json:"name" doc:"The name, or *.NAME for all beneath a name, or * for all."`
	Kind  string      `json:"kind" enum:"servfail,nxdomain,delay,drop"`
	Delay int         `json:"delay_ms,omitempty" doc:"Of kind delay: how long an answer waits, in milliseconds; at most 10000."`
	Until time.Time   `json:"until" doc:"When it ends; at most a day from now."`
}

// The kinds of faults.
const (
	faultServfail = "servfail"
	faultNXDomain = "nxdomain"
	faultDelay    = "delay"
	faultDrop     = "drop"
)

// Bounds of faults.
const (
	maxFaults     = 256
	maxFaultDelay = 10 * time.Second
	maxFaultLife  = 24 * time.Hour
)

// Faults returns the faults that have not ended.
func (s *Server) Faults() []InjectedFault {
	out := []InjectedFault{}
	if all := s.faults.Load(); all != nil {
		for _, f := range *all {
			if s.now().Before(f.Until) {
				out = append(out, f)
			}
		}
	}
	return out
}

// AddFault makes trouble from now on, in the place of an earlier fault of the
// same clone, name and kind.
func (s *Server) AddFault(f InjectedFault) error {
	if err := f.check(s.now()); err != nil {
		return fmt.Errorf("fault: %w", err)
	}
	if f.Name != "*" {
		f.Name = canonical(dns.Fqdn(f.Name))
	}
	return s.changeFaults(func(all []InjectedFault) []InjectedFault {
		return append(slices.DeleteFunc(all, f.replaces), f)
	})
}

// RemoveFaults ends the faults of a clone and returns how many those were; an
// empty name means all of them.
func (s *Server) RemoveFaults(clone registry.ID, name string) (n int, err error) {
	if name != "" && name != "*" {
		name = canonical(dns.Fqdn(name))
	}
	err = s.changeFaults(func(all []InjectedFault) []InjectedFault {
		left := slices.DeleteFunc(slices.Clone(all), func(f InjectedFault) bool { return f.Clone == clone && (name == "" || name == f.Name) })
		n = len(all) - len(left)
		return left
	})
	return n, err
}

// changeFaults replaces the list of faults, without those that have ended.
func (s *Server) changeFaults(change func([]InjectedFault) []InjectedFault) error {
	for {
		old := s.faults.Load()
		all := change(s.Faults())
		if len(all) > maxFaults {
			return fmt.Errorf("fault: there are %d already; end some of them", maxFaults)
		}
		next := &all
		if len(all) == 0 {
			next = nil
		}
		if s.faults.CompareAndSwap(old, next) {
			return nil
		}
	}
}

func (f InjectedFault) replaces(old InjectedFault) bool {
	return old.Clone == f.Clone && old.Name == f.Name && old.Kind == f.Kind
}

func (f InjectedFault) check(now time.Time) error {
	if _, err := registry.ParseID(string(f.Clone)); err != nil {
		return err
	}
	if _, ok := dns.IsDomainName(f.Name); !ok {
		return fmt.Errorf("%q is not a domain name", clip(f.Name))
	}
	switch f.Kind {
	case faultServfail, faultNXDomain, faultDrop:
		if f.Delay != 0 {
			return fmt.Errorf("only kind delay has a delay, not %s", f.Kind)
		}
	case faultDelay:
		if d := time.Duration(f.Delay) * time.Millisecond; d <= 0 || d > maxFaultDelay {
			return fmt.Errorf("a delay of %d ms is not within 1 to %d", f.Delay, maxFaultDelay.Milliseconds())
		}
	default:
		return fmt.Errorf("%q is no kind; want servfail, nxdomain, delay or drop", clip(f.Kind))
	}
	if life := f.Until.Sub(now); life <= 0 || life > maxFaultLife {
		return fmt.Errorf("it would end at %s; want a time within the next %s", f.Until.Format(time.RFC3339), maxFaultLife)
	}
	return nil
}

// covers reports whether a name is one that the fault is about.
func (f *InjectedFault) covers(name string) bool {
	above, below := strings.CutPrefix(f.Name, "*.")
	switch {
	case f.Name == "*":
		return true
	case below:
		return name != above && isUnder(above, name)
	}
	return name == f.Name
}

// fault returns the fault that a question to this listener meets, nil if none.
func (f *front) fault(q *query) *InjectedFault {
	all := f.faults.Load()
	if all == nil || f.view == nil || f.view.clone == "" || !q.whole {
		return nil
	}
	for i := range *all {
		fault := &(*all)[i]
		if fault.Clone == f.view.clone && q.now.Before(fault.Until) && fault.covers(q.name) {
			return fault
		}
	}
	return nil
}

// result returns what stands in for the answer, nil if that is only late.
func (f *InjectedFault) result() *result {
	ede := &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeForgedAnswer, ExtraText: "fault on demand"}
	switch f.Kind {
	case faultServfail:
		return &result{rcode: dns.RcodeServerFailure, ede: ede, from: "fault"}
	case faultNXDomain:
		return &result{rcode: dns.RcodeNameError, ede: ede, from: "fault", bare: true}
	}
	return nil
}
