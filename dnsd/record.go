package dnsd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// CheckRecord returns nil if an extra record of a clone can be served, and
// otherwise what is wrong with it and what to do. Names must lie beneath the
// clone; types that shape a zone rather than describe a name are refused.
func CheckRecord(rec registry.Record) error {
	// The longest ID stands in for the clone's own.
	origin := strings.Repeat("i", registry.MaxIDLen) + ".zone."
	_, _, err := parseRecord(rec, origin)
	return err
}

// maxRecordData bounds a record's data in presentation form, in octets.
const maxRecordData = 4096

// zoneTypes belong to whoever runs the zone: delegation, signatures, and what
// is a question or a part of the protocol rather than data.
var zoneTypes = []uint16{
	dns.TypeSOA, dns.TypeNS, dns.TypeDNAME, dns.TypeDS, dns.TypeDLV, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY,
	dns.TypeRRSIG, dns.TypeSIG, dns.TypeKEY, dns.TypeNXT, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeCSYNC,
	dns.TypeZONEMD, dns.TypeNXNAME, dns.TypeOPT, dns.TypeNone, dns.TypeReserved,
}

// parseRecord reads a record of the clone whose name is origin. It returns
// the owner relative to that, in lower case, "" for the clone itself.
func parseRecord(rec registry.Record, origin string) (rel string, rr dns.RR, err error) {
	rel, err = recordOwner(rec)
	if err != nil {
		return "", nil, err
	}
	rrtype, err := recordType(rec)
	if err != nil {
		return "", nil, err
	}
	if rel == "" && rrtype == dns.TypeCNAME {
		return "", nil, recordError(rec, "the clone's own name cannot be an alias; put it at a name beneath")
	}
	if rec.TTL > 1<<31-1 { // RFC 2181 §8
		return "", nil, recordError(rec, "ttl %d is above 2147483647 seconds", rec.TTL)
	}
	if len(rec.Data) > maxRecordData {
		return "", nil, recordError(rec, "data is %d octets long; at most %d", len(rec.Data), maxRecordData)
	}
	if i := strings.IndexFunc(rec.Data, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
		return "", nil, recordError(rec, "data holds the control character %q; write it as \\%03d", rec.Data[i], rec.Data[i])
	}
	owner := origin
	if rel != "" {
		owner = rel + "." + origin
	}
	ttl := rec.TTL
	if ttl == 0 {
		ttl = ownTTL
	}
	text := fmt.Sprintf("%s %d IN %s %s\n", owner, ttl, strings.ToUpper(rec.Type), rec.Data)
	parser := dns.NewZoneParser(strings.NewReader(text), origin, "")
	rr, ok := parser.Next()
	if err := parser.Err(); err != nil || !ok {
		return "", nil, recordError(rec, "data %q is not that of a %s record in zone file form: %v", clip(rec.Data), rec.Type, err)
	}
	if _, more := parser.Next(); more || parser.Err() != nil || rr.Header().Rrtype != rrtype {
		return "", nil, recordError(rec, "data %q holds more than the data of one %s record", clip(rec.Data), rec.Type)
	}
	if err := survivesWire(rr); err != nil {
		return "", nil, recordError(rec, "data %q cannot be sent: %v", clip(rec.Data), err)
	}
	return rel, rr, nil
}

// survivesWire returns nil if a client can read the record that we send. The
// text form can say what the wire form cannot, such as a TXT without strings.
func survivesWire(rr dns.RR) error {
	wire := make([]byte, 2*maxRecordData)
	n, err := dns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		return err
	}
	back, _, err := dns.UnpackRR(wire[:n], 0)
	if err != nil {
		return err
	}
	if back.Header().Rdlength == 0 {
		return errors.New("it is empty")
	}
	return nil
}

// recordOwner returns the owner's name relative to the clone.
func recordOwner(rec registry.Record) (string, error) {
	if rec.Name == "" || rec.Name == "@" {
		return "", nil
	}
	if strings.HasSuffix(rec.Name, ".") {
		return "", recordError(rec, "the name ends in a dot, which would place it outside the clone; write it relative to the clone, as in _sip._tcp")
	}
	rel := strings.ToLower(rec.Name)
	if len(rel) > registry.MaxHostLen {
		return "", recordError(rec, "the name is %d octets long; at most %d", len(rel), registry.MaxHostLen)
	}
	for i, label := range slices.Collect(strings.SplitSeq(rel, ".")) {
		if label == "*" && i == 0 {
			continue
		}
		if label == "" || len(label) > registry.MaxLabelLen {
			return "", recordError(rec, "label %q is %d octets long; want 1 to %d", clip(label), len(label), registry.MaxLabelLen)
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", recordError(rec, "label %q may only hold a-z, 0-9, - and _; a * stands alone and first", clip(label))
		}
	}
	return rel, nil
}

// recordType returns the number of the record's type, written as its name or
// as TYPE65280 (RFC 3597 §5).
func recordType(rec registry.Record) (uint16, error) {
	name := strings.ToUpper(rec.Type)
	rrtype, known := dns.StringToType[name]
	if digits, ok := strings.CutPrefix(name, "TYPE"); ok && !known {
		n, err := strconv.ParseUint(digits, 10, 16)
		rrtype, known = uint16(n), err == nil
	}
	switch {
	case !known:
		return 0, recordError(rec, "%q is not a type of record; write it as in a zone file: TXT, SRV, CNAME, or TYPE65280", clip(rec.Type))
	case slices.Contains(zoneTypes, rrtype), rrtype >= 128 && rrtype < 256:
		return 0, recordError(rec, "type %s belongs to the zone and cannot be set by a clone", name)
	}
	return rrtype, nil
}

func recordError(rec registry.Record, format string, args ...any) error {
	name := rec.Name
	if name == "" {
		name = "@"
	}
	return fmt.Errorf("record %s %s: %s", clip(name), clip(rec.Type), fmt.Sprintf(format, args...))
}

// clip shortens hostile input before it is quoted in an error.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
