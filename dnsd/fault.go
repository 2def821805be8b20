package dnsd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// faults are the troubles that the resolver of a clone has on purpose, as of a
// revision of the directory.
type faults struct {
	revision uint64
	all      []*registry.Fault // only those of DNS; most often none
}

// presentFaults returns the faults of the view's clone, which some of may have
// ended. The clone is looked at only if anything has changed in the directory.
func (v *view) presentFaults() []*registry.Fault {
	if m, ok := v.rules.(*mirrored); ok && v.clone == "" {
		if v = m.view.Load(); v == nil {
			return nil
		}
	}
	if v.clone == "" {
		return nil
	}
	revision := v.dir.Revision() // before the clone, which then is as new or newer
	if known := v.faults.Load(); known != nil && known.revision == revision {
		return known.all
	}
	present := &faults{revision: revision}
	if c, ok := v.dir.Clone(v.clone); ok {
		for _, f := range c.Faults {
			if f.Kind.IsDNS() {
				present.all = append(present.all, f)
			}
		}
	}
	v.faults.Store(present)
	return present.all
}

// fault returns the fault that a client's question to this listener meets, nil
// if none. Of several that it could meet, the oldest comes first.
func (f *front) fault(q *query, client netip.Addr) *registry.Fault {
	if f.view == nil || !q.whole {
		return nil
	}
	for _, fault := range f.view.presentFaults() {
		if q.now.Before(fault.Until) && covers(fault.Name, q.name) && rand.IntN(100) < fault.Percent && f.view.admits(client) {
			return fault
		}
	}
	return nil
}

// covers reports whether a name, as a question has it, is one that a fault is
// about.
func covers(about, name string) bool {
	if about == "*" {
		return true
	}
	name = name[:len(name)-1]
	if above, below := strings.CutPrefix(about, "*."); below {
		rest, under := strings.CutSuffix(name, above)
		return under && strings.HasSuffix(rest, ".")
	}
	return name == about
}

// faultDelay returns how long a question waits for a fault at now: never
// nothing, which would be no delay.
func faultDelay(f *registry.Fault, now time.Time) time.Duration {
	d := f.Delay.Duration()
	if j := f.Jitter.Duration(); j > 0 {
		d += rand.N(2*j) - j
	}
	return max(1, min(d, f.Until.Sub(now)))
}

// faultResult returns what stands in for the answer.
func faultResult(f *registry.Fault) *result {
	ede := &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeForgedAnswer, ExtraText: fmt.Sprintf("fault %d on demand", f.ID)}
	if f.Kind == registry.FaultDNSNXDomain {
		return &result{rcode: dns.RcodeNameError, ede: ede, from: "fault", bare: true}
	}
	return &result{rcode: dns.RcodeServerFailure, ede: ede, from: "fault"}
}

// faultTexts says which faults questions for a name meet.
func (v *view) faultTexts(name string, now time.Time) []string {
	var out []string
	for _, f := range v.presentFaults() {
		if now.Before(f.Until) && covers(f.Name, name) {
			out = append(out, fmt.Sprintf("fault %d: %s, for another %s", f.ID, f, f.Until.Sub(now).Round(time.Second)))
		}
	}
	return out
}
