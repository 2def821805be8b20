package proxy

import (
	"bytes"
	"net/netip"
	"time"
)

// A RequestRecord is one request of a clone and what became of it.
type RequestRecord struct {
	Seq      uint64         `json:"seq" doc:"Grows with every request of the clone, over restarts too; says where to go on."`
	Time     time.Time      `json:"time" doc:"When the request's head had come."`
	ID       string         `json:"request" doc:"As on the gateway's pages and in its log; also the span, if the request was traced."`
	Trace    string         `json:"trace,omitempty" doc:"The W3C trace that the clone was told."`
	Client   netip.Addr     `json:"client" doc:"The other end of the connection."`
	Protocol string         `json:"protocol" doc:"As in HTTP/1.1."`
	Method   string         `json:"method"`
	Host     string         `json:"host"`
	Path     string         `json:"path" doc:"With the names of the query's parameters, and * for each value."`
	Cut      bool           `json:"cut,omitempty" doc:"Whether method, host, faults or path were too long to be kept whole."`
	Service  string         `json:"service,omitempty"`
	Endpoint netip.AddrPort `json:"endpoint,omitzero" doc:"What the request was sent to last."`
	Status   int            `json:"status"`
	Reason   Reason         `json:"reason,omitempty" doc:"Why the gateway answered itself, or the answer did not end well."`
	Faults   string         `json:"faults,omitempty" doc:"Those of the clone's faults that the request met: number and kind of each."`
	Received uint64         `json:"received" doc:"Octets of the request's body."`
	Sent     uint64         `json:"sent" doc:"Octets of the answer's body."`
	Duration Micros         `json:"duration" doc:"Microseconds from the request's head to the end of the answer."`
	Waited   Micros         `json:"waited,omitempty" doc:"Microseconds of them until the clone's answer began."`
	Connect  Micros         `json:"connect,omitempty" doc:"Microseconds of those to connect to the endpoint; absent if a connection was there."`
}

// Micros is a duration that is written as a number of microseconds.
type Micros int64

// Duration returns the time that m is.
func (m Micros) Duration() time.Duration { return time.Duration(m) * time.Microsecond }

// A RequestFilter chooses records; its zero value takes all.
type RequestFilter struct {
	Service string
	Status  int    // as in 404, or the class as in 4; 0: every
	Reason  Reason // "": every, and none
}

func (f *RequestFilter) takes(r *RequestRecord) bool {
	return (f.Service == "" || f.Service == r.Service) && (f.Reason == "" || f.Reason == r.Reason) &&
		(f.Status == 0 || f.Status == r.Status || f.Status == r.Status/100)
}

// A slot is a RequestRecord as it is kept: of a fixed size and without pointers, so
// that noting a request allocates nothing and the collector has nothing to
// follow.
type slot struct {
	start                   int64 // Unix nanoseconds
	duration, waited, dial  int64 // nanoseconds
	id                      requestID
	trace                   traceID
	sent, received          uint64
	client, endpoint        [16]byte
	port                    uint16
	status                  uint16
	minor                   byte // 0: HTTP/1.0, 1: HTTP/1.1, 2: HTTP/2.0
	cut                     bool
	method, service, reason uint8 // octets of text, in this order
	host, faults            uint8
	path                    uint16
	text                    [slotText]byte
}

const (
	slotText = 390 // octets of a slot for all that is text, which makes it 512

	maxMethod, maxService, maxReason, maxHost, maxFaults = 24, 40, 32, 100, 80
)

// note fills the slot with an exchange that is over.
func (s *slot) note(x *exchange, end time.Duration) {
	*s = slot{
		start: x.start.UnixNano(), duration: int64(end), waited: int64(x.waited), dial: int64(x.dial),
		id: x.id, sent: x.sent.Load(), received: x.received.Load(), client: x.peer.As16(), status: uint16(x.status),
		trace: x.trace.id,
	}
	switch x.proto {
	case "HTTP/1.0":
	case "HTTP/1.1":
		s.minor = 1
	default:
		s.minor = 2
	}
	if e := x.endpoint; e != nil {
		s.endpoint, s.port = e.addr.Addr().As16(), e.addr.Port()
	}
	text := s.text[:0]
	text, s.method = s.add(text, x.request.method, maxMethod)
	text, s.service = s.add(text, x.target.service, maxService)
	text, s.reason = s.add(text, string(x.reason), maxReason)
	text, s.host = s.add(text, x.target.host, maxHost)
	if x.met != nil {
		text, s.faults = s.add(text, x.met.names, maxFaults)
	}
	before := len(text)
	var cut bool
	text, cut = appendWithoutValues(text, x.request.target)
	s.cut = s.cut || cut
	s.path = uint16(len(text) - before)
}

// add appends text, or as much of it as may be kept.
func (s *slot) add(dst []byte, text string, most int) (out []byte, n uint8) {
	if len(text) > most {
		text, s.cut = text[:most], true
	}
	return append(dst, text...), uint8(len(text))
}

// appendWithoutValues appends a request's target as far as dst has room for it.
// What may be secret is left out: every value in the query, and every word there
// that has no name, is "*".
func appendWithoutValues(dst, target []byte) (out []byte, cut bool) {
	path, query, more := bytes.Cut(target, []byte{'?'})
	if room := cap(dst) - len(dst); len(path) > room {
		return append(dst, path[:room]...), true
	}
	dst = append(dst, path...)
	for sep := byte('?'); more; sep = '&' {
		var word []byte
		word, query, more = bytes.Cut(query, []byte{'&'})
		name, _, named := bytes.Cut(word, []byte{'='})
		switch {
		case len(dst)+len(name)+len("?=*") > cap(dst):
			return dst, true
		case named:
			dst = append(append(append(dst, sep), name...), "=*"...)
		case len(word) > 0:
			dst = append(dst, sep, '*')
		default:
			dst = append(dst, sep)
		}
	}
	return dst, false
}

// record returns the slot as others see it.
func (s *slot) record(seq uint64) RequestRecord {
	r := RequestRecord{
		Seq: seq, Time: time.Unix(0, s.start).UTC(), ID: s.id.String(),
		Client: netip.AddrFrom16(s.client).Unmap(), Cut: s.cut, Status: int(s.status),
		Received: s.received, Sent: s.sent,
		Duration: Micros(s.duration / 1000), Waited: Micros(s.waited / 1000), Connect: Micros(s.dial / 1000),
	}
	r.Protocol = [...]string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0"}[s.minor]
	if s.port != 0 {
		r.Endpoint = netip.AddrPortFrom(netip.AddrFrom16(s.endpoint).Unmap(), s.port)
	}
	if s.trace != (traceID{}) {
		r.Trace = s.trace.String()
	}
	text := s.text[:]
	next := func(n int) string {
		var word []byte
		word, text = text[:n], text[n:]
		return string(word)
	}
	r.Method = next(int(s.method))
	r.Service = next(int(s.service))
	r.Reason = Reason(next(int(s.reason)))
	r.Host = next(int(s.host))
	r.Faults = next(int(s.faults))
	r.Path = next(int(s.path))
	return r
}
