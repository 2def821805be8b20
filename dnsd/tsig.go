package dnsd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A TransferKey is a secret that we share with a secondary. With it, each shows
// the other by HMAC-SHA256 who a message is from (TSIG, RFC 8945).
type TransferKey struct {
	name   string // in lower case, with a trailing dot
	secret string // in base64
}

// Bounds of keys and signatures.
const (
	minSecret = 16  // octets
	tsigFudge = 300 // seconds that clocks may differ (RFC 8945 §10)
	tsigRoom  = 64  // octets of a signature beside the names in it, and some to spare
)

const tsigForm = "hmac-sha256:NAME:SECRET, as dig -y takes it, with the secret in base64"

// ParseTransferKey reads a key from the form that dig -y takes,
// "hmac-sha256:name:secret". Errors do not hold the secret.
func ParseTransferKey(text string) (*TransferKey, error) {
	algorithm, rest, _ := strings.Cut(strings.TrimSpace(text), ":")
	name, secret, ok := strings.Cut(rest, ":")
	if !ok || algorithm != "hmac-sha256" {
		return nil, errors.New("transfer key: want " + tsigForm)
	}
	if _, isName := dns.IsDomainName(name); !isName || name == "" || name == "." {
		return nil, fmt.Errorf("transfer key: %q is no name; want %s", clip(name), tsigForm)
	}
	octets, err := base64.StdEncoding.Strict().DecodeString(secret)
	if err != nil {
		return nil, fmt.Errorf("transfer key %s: its secret is not in base64; make one by openssl rand -base64 32", name)
	}
	if len(octets) < minSecret {
		return nil, fmt.Errorf("transfer key %s: its secret has %d octets, want %d or more; make one by openssl rand -base64 32", name, len(octets), minSecret)
	}
	return &TransferKey{name: dns.CanonicalName(name), secret: secret}, nil
}

// A signature belongs to a message that came with one we know the key of, and
// makes those that answer it.
type signature struct {
	key  *TransferKey
	mac  string // of the message before
	more bool   // that was one of ours: only its MAC and the time are signed (RFC 8945 §5.3.1)
}

// sign returns the octets of a message with the next signature.
func (s *signature) sign(m *dns.Msg, now time.Time) ([]byte, error) {
	m.SetTsig(s.key.name, dns.HmacSHA256, tsigFudge, now.Unix())
	wire, mac, err := dns.TsigGenerate(m, s.key.secret, s.mac, s.more)
	s.mac, s.more = mac, true
	return wire, err
}

// signReply signs a reply that has been packed. One that is too large for UDP
// with its signature loses its records, and is truncated.
func (s *signature) signReply(wire []byte, q *query, tcp bool) ([]byte, error) {
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		return nil, err
	}
	m.Compress = true
	if !tcp && len(wire)+len(s.key.name)+len(dns.HmacSHA256)+tsigRoom > q.size {
		m.Truncated, m.Answer, m.Ns, m.Extra = true, nil, nil, slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
	}
	return s.sign(m, q.now)
}

// verify looks at the signature of a query, which it must have, and notes it
// there. Otherwise it returns the reply that says why not, nil if none can be
// made (RFC 8945 §5.2).
func (t *transfers) verify(q *query, packet []byte) (reply []byte, ok bool) {
	m := new(dns.Msg)
	if m.Unpack(packet) != nil || m.IsTsig() == nil {
		return nil, false
	}
	sig := m.IsTsig()
	refusal := &dns.TSIG{
		Hdr:       dns.RR_Header{Name: sig.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm: sig.Algorithm, TimeSigned: sig.TimeSigned, Fudge: tsigFudge, OrigId: m.Id,
	}
	var key *TransferKey
	for _, s := range t.secondaries {
		if s.Key != nil && s.Key.name == dns.CanonicalName(sig.Hdr.Name) && dns.CanonicalName(sig.Algorithm) == dns.HmacSHA256 {
			key = s.Key
		}
	}
	if key == nil {
		refusal.Error = dns.RcodeBadKey
		return t.refuseSignature(m, refusal, &TransferKey{})
	}
	err := dns.TsigVerify(bytes.Clone(packet), key.secret, "", false)
	switch {
	case errors.Is(err, dns.ErrTime):
		refusal.Error, refusal.OtherLen = dns.RcodeBadTime, 6
		refusal.OtherData = fmt.Sprintf("%012x", q.now.Unix())
	case err != nil:
		refusal.Error = dns.RcodeBadSig
	default:
		q.signature = &signature{key: key, mac: sig.MAC}
		return nil, true
	}
	return t.refuseSignature(m, refusal, key)
}

// refuseSignature returns the reply to a query whose signature is not accepted.
func (t *transfers) refuseSignature(m *dns.Msg, sig *dns.TSIG, key *TransferKey) ([]byte, bool) {
	t.metrics.transfers.WithLabelValues("signature", strings.ToLower(dns.RcodeToString[int(sig.Error)])).Inc()
	reply := new(dns.Msg).SetRcode(m, dns.RcodeNotAuth)
	reply.Extra = append(reply.Extra, sig)
	wire, _, err := dns.TsigGenerate(reply, key.secret, m.IsTsig().MAC, false)
	if err != nil {
		return nil, false
	}
	return wire, false
}
