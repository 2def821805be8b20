package proxy

import (
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
)

// This file is the writing half of a turn.

func (t *turn) interim(a *response) error {
	if t.req.Minor == 0 || a.status == 100 && !t.req.Continue {
		return nil
	}
	t.appendHead(a)
	*t.out = append(*t.out, "\r\n"...)
	return t.flush()
}

func (t *turn) head(a *response) error {
	t.began, t.x.status = true, a.status
	if a.status == 101 {
		t.appendHead(a)
		*t.out = append(*t.out, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
		return t.flush()
	}
	t.silent, t.sized = a.empty, a.length >= 0
	t.decideKeep(a)
	t.appendHead(a)
	out := *t.out
	switch {
	case a.status == 204:
	case a.length >= 0:
		out = append(appendNumber(append(out, "Content-Length: "...), a.length), "\r\n"...)
	case a.empty && !a.chunked:
	case t.req.Minor == 1:
		t.chunked = !a.empty
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
		out = appendTrailerNames(out, a)
	}
	switch {
	case !t.keep:
		out = append(out, "Connection: close\r\n"...)
	case t.req.Minor == 0:
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	*t.out = append(out, "\r\n"...)
	return nil
}

// decideKeep decides whether another request can follow the answer.
func (t *turn) decideKeep(a *response) {
	switch {
	case t.s.isOver():
		t.keep = false
	case a.length < 0 && !a.empty && t.req.Minor == 0:
		t.keep = false // only closing ends the body
	case t.req.Continue && t.trip.sending && !t.trip.promised:
		t.keep = false // nobody knows whether the body will come
	case a.ours && !t.body.Over() && (t.req.Continue || t.body.Left() < 0 || t.body.Left() > leftoverBytes):
		t.keep = false
	}
}

// appendHead appends the status line and the fields that go to the client.
func (t *turn) appendHead(a *response) {
	out := append(*t.out, "HTTP/1.1 "...)
	out = append(appendNumber(out, int64(a.status)), ' ')
	out = append(append(out, a.phrase...), "\r\n"...)
	run, dated := 0, a.status < 200
	policy := &t.s.e.g.policy
	for i, f := range a.fields.Fields {
		if f.Kind == http1.Ordinary && (a.ours || isPlain(a.fields.Buf[f.Name.From]) && !a.nominates) {
			dated = dated || f.Name.Len() == 4 && http1.EqualFold(a.fields.Name(f), "date")
			continue
		}
		if !policy.returns(a.fields, f, a.nominates) {
			out = a.fields.AppendLines(out, run, i)
			run = i + 1
		}
	}
	out = a.fields.AppendLines(out, run, len(a.fields.Fields))
	if !dated {
		out = t.s.e.dates.append(append(out, "Date: "...), t.trip.now)
		out = append(out, "\r\n"...)
	}
	*t.out = out
}

// appendTrailerNames appends the Trailer fields of an answer whose body may have
// trailers.
func appendTrailerNames(dst []byte, a *response) []byte {
	for _, f := range a.fields.Fields {
		if f.Kind == http1.Trailer {
			dst = append(append(append(dst, "Trailer: "...), a.fields.Value(f)...), "\r\n"...)
		}
	}
	return dst
}

func (t *turn) write(p []byte) error {
	if t.silent {
		return nil
	}
	t.x.sent.Add(uint64(len(p)))
	if t.chunked {
		*t.out = http1.AppendChunkSize(*t.out, len(p))
	}
	if room := smallBuffer - len(*t.out); len(p)+2 > room {
		if len(*t.out) == 0 {
			room = 0 // whole records without a copy
		}
		if err := t.writeLarge(p, max(0, room)); err != nil {
			return err
		}
	} else {
		*t.out = append(*t.out, p...)
	}
	if t.chunked {
		*t.out = append(*t.out, "\r\n"...)
	}
	return nil
}

// writeLarge writes what is not sent yet, as much of p in the same record as
// there is room for, and the rest of p.
func (t *turn) writeLarge(p []byte, room int) error {
	*t.out = append(*t.out, p[:min(room, len(p))]...)
	p = p[min(room, len(p)):]
	if len(p) < smallBuffer/2 {
		if err := t.flush(); err != nil {
			return err
		}
		*t.out = append(*t.out, p...)
		return nil
	}
	held := t.s.e.held.get()
	defer t.s.e.held.put(held)
	t.s.wire.hold(held)
	err := t.flush()
	if err == nil {
		_, err = t.s.conn.Write(p)
	}
	if werr := t.s.wire.release(); err == nil {
		err = werr
	}
	return err
}

func (t *turn) flush() error {
	if len(*t.out) == 0 {
		return nil
	}
	now := t.trip.now
	if t.trip.slow || t.began && t.x.sent.Load() > smallBuffer {
		now = time.Now()
	}
	t.s.writes.extend(now, t.s.e.g.cfg.Limits.StallTimeout)
	_, err := t.s.conn.Write(*t.out)
	*t.out = (*t.out)[:0]
	return err
}

func (t *turn) end(trailers *http1.Section) error {
	if t.chunked {
		*t.out = appendTrailers(append(*t.out, http1.LastChunk...), trailers)
	}
	t.ended = true
	return t.flush()
}

// dates writes the present date once a second. The zero value is ready.
type dates struct{ last atomic.Pointer[date] }

type date struct {
	second int64
	text   []byte
}

// append appends a time as fields have it (RFC 9110 §5.6.7).
func (d *dates) append(dst []byte, now time.Time) []byte {
	last := d.last.Load()
	if second := now.Unix(); last == nil || last.second != second {
		last = &date{second, now.UTC().AppendFormat(nil, "Mon, 02 Jan 2006 15:04:05 GMT")}
		d.last.Store(last)
	}
	return append(dst, last.text...)
}
