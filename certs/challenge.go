package certs

import (
	"context"
	"fmt"
	"strings"

	"github.com/libdns/libdns"
)

// Challenges is the DNS server that answers for the zones. ACME shows it what
// the certificate authority will ask for.
type Challenges interface {
	// Set adds a TXT value to an absolute name in lower case, without a
	// trailing dot: "_acme-challenge.test-envs.example.com". It is answered
	// when Set returns, beside the values that the name has already.
	Set(name, value string)

	// Unset takes the value away.
	Unset(name, value string)
}

// A challengeProvider is Challenges as certmagic wants to see a DNS provider.
type challengeProvider struct{ Challenges }

// AppendRecords sets TXT records; there are no others in a challenge.
func (p challengeProvider) AppendRecords(_ context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, each(zone, records, p.Set)
}

// DeleteRecords unsets what AppendRecords set.
func (p challengeProvider) DeleteRecords(_ context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, each(zone, records, p.Unset)
}

func each(zone string, records []libdns.Record, do func(name, value string)) error {
	for _, r := range records {
		rr := r.RR()
		if rr.Type != "TXT" {
			return fmt.Errorf("challenge in zone %s: a %s record: want TXT", zone, rr.Type)
		}
		do(strings.ToLower(strings.TrimSuffix(libdns.AbsoluteName(rr.Name, zone), ".")), rr.Data)
	}
	return nil
}
