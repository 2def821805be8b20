package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A ForwardRegistration is one forward rule of a Registration.
type ForwardRegistration struct {
	Zone    string   `json:"zone"`
	Servers []string `json:"servers" doc:"address or address:port each."`
}

func (in *reader) hosts(hosts map[string][]string) map[Host][]netip.Addr {
	if len(hosts) > maxHosts {
		in.faults.add("hosts", "hosts", "%d hosts; at most %d", len(hosts), maxHosts)
		return nil
	}
	var out map[Host][]netip.Addr
	for name, addrs := range hosts {
		field := "hosts." + clip(name)
		h, err := ParseHost(name)
		if err != nil {
			in.faults.add(field, "host", "%v", err)
			continue
		}
		if _, twice := out[h]; twice {
			in.faults.add(field, "host-twice", "host %s stands twice, in two spellings", h)
			continue
		}
		if len(addrs) > maxAddresses {
			in.faults.add(field, "host-addresses", "%d addresses; at most %d", len(addrs), maxAddresses)
			continue
		}
		if out == nil {
			out = map[Host][]netip.Addr{}
		}
		out[h] = in.addresses(field, addrs)
	}
	return out
}

func (in *reader) addresses(field string, addrs []string) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for i, s := range addrs {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			in.faults.add(fmt.Sprintf("%s[%d]", field, i), "host-address", "%q is not a plain IPv4 or IPv6 address", clip(s))
			continue
		}
		out = append(out, a)
	}
	return out
}

func (in *reader) records(records []Record) []Record {
	if len(records) > maxRecords {
		in.faults.add("records", "records", "%d records; at most %d", len(records), maxRecords)
		return nil
	}
	out := slices.Clone(records)
	for i := range out {
		rec, field := &out[i], fmt.Sprintf("records[%d]", i)
		rec.Type = strings.ToUpper(rec.Type)
		if rec.TTL == 0 {
			rec.TTL = 5
		}
		if rec.Name == "" || len(rec.Name) > MaxHostLen || rec.Type == "" || len(rec.Type) > 16 || len(rec.Data) > maxRecord || rec.TTL > maxRecordTTL {
			in.faults.add(field, "record", "want a name of 1 to %d octets, a type, at most %d octets of data and a ttl of at most %d seconds", MaxHostLen, maxRecord, maxRecordTTL)
			continue
		}
		if check := in.r.cfg.CheckRecord; check != nil {
			if err := check(*rec); err != nil {
				in.faults.add(field, "record", "%v", err)
			}
		}
	}
	return out
}

func (in *reader) forwards(forwards []ForwardRegistration) []Forward {
	if len(forwards) > maxForwards {
		in.faults.add("forward", "forward", "%d rules; at most %d", len(forwards), maxForwards)
		return nil
	}
	var out []Forward
	for i, f := range forwards {
		field := fmt.Sprintf("forward[%d]", i)
		zone, err := ParseHost(f.Zone)
		if err != nil {
			in.faults.add(field+".zone", "host", "%v", err)
		}
		if len(f.Servers) == 0 || len(f.Servers) > 8 {
			in.faults.add(field+".servers", "forward-servers", "want 1 to 8 servers, got %d", len(f.Servers))
		}
		rule := Forward{Zone: zone}
		for j, s := range f.Servers {
			ap, err := parseServer(s)
			if err != nil {
				in.faults.add(fmt.Sprintf("%s.servers[%d]", field, j), "forward-server", "%q: want address or address:port", clip(s))
				continue
			}
			if err := in.r.cfg.Networks.CheckTarget(ap); err != nil {
				in.fault(fmt.Sprintf("%s.servers[%d]", field, j), err)
				continue
			}
			rule.Servers = append(rule.Servers, ap)
		}
		out = append(out, rule)
	}
	return out
}

// parseServer reads the address of a DNS server, whose port is 53 unless given.
func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(s)
}
