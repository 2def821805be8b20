package proxy

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
)

// This file is the sending half of a trip.

// transmit writes the request, and n is how much of what it wrote itself. A
// body that is not here as a whole follows in the background.
func (t *trip) transmit() (n int, err error) {
	if !t.streamed && t.sent.IsZero() && t.rq.length != 0 && t.c.bodyIsHere() {
		if err := t.attach(); err != nil {
			return 0, err
		}
		t.sent = t.now
	}
	if n, err = t.sayAll(); err != nil {
		return n, err
	}
	switch {
	case t.rq.length == 0:
		t.sent = t.now
	case t.sent.IsZero():
		if t.uploaded == nil {
			t.uploaded = make(chan error, 1)
		}
		t.sending, t.streamed = true, true
		go t.upload()
	}
	return n, nil
}

// sayAll writes t.out to the backend, and reads what of the answer comes by the
// way. It returns how much it wrote; errStale says that it did not.
func (t *trip) sayAll() (n int, err error) {
	b := t.backend
	first := patience
	if t.answerIn > 0 {
		first = min(first, t.answerIn)
	}
	b.reads.extend(t.now, first)
	t.r, t.w = 0, 0
	isWhole := t.rq.length == 0 || !t.sent.IsZero()
	switch {
	case !b.used:
	case isWhole && b.asker != nil:
		n, t.w, err = b.asker.ask(t.out, *t.buf)
		t.heard = t.w > 0
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil // fill will see the same
		}
	case !b.isAlive():
		return 0, errStale
	}
	if err != nil || n == len(t.out) {
		return n, err
	}
	b.writes.extend(t.now, t.up.limits.StallTimeout)
	more, err := b.Write(t.out[n:])
	return n + more, err
}

// attach appends a body that is here to the request's head.
func (t *trip) attach() error {
	for {
		p, err := t.c.readBody()
		if t.rq.length < 0 && len(p) > 0 {
			t.out = append(append(http1.AppendChunkSize(t.out, len(p)), p...), "\r\n"...)
		} else {
			t.out = append(t.out, p...)
		}
		if err == io.EOF {
			t.out = t.appendBodyEnd(t.out)
			return nil
		}
		if err != nil {
			return &clientError{bodyRefusal(err)}
		}
	}
}

// appendBodyEnd appends what ends the request's body.
func (t *trip) appendBodyEnd(dst []byte) []byte {
	if t.rq.length >= 0 {
		return dst
	}
	return appendTrailers(append(dst, http1.LastChunk...), t.c.bodyTrailers())
}

// appendTrailers appends the fields of a trailer section that may stand there,
// and its end. Trailers may be nil.
func appendTrailers(dst []byte, trailers *http1.Section) []byte {
	if trailers != nil {
		for i, f := range trailers.Fields {
			if isTrailer(trailers, f) {
				dst = trailers.AppendLines(dst, i, i+1)
			}
		}
	}
	return append(dst, "\r\n"...)
}

// isTrailer reports whether a field of a trailer section goes on.
func isTrailer(in *http1.Section, f http1.Field) bool {
	name := in.Name(f)
	return f.Kind == http1.Ordinary && !isForwarding(name) && !foldsTo(name, "clonegate-")
}

// upload sends the request's body as it comes, until its end or until the trip
// ends.
func (t *trip) upload() {
	err := t.copyBody()
	if bodyRefusal(err) != nil {
		t.cut()
	}
	t.uploaded <- err
}

// copyBody returns the error that ended the body, io.EOF if it is complete. An
// endpoint that takes no more is no error of the client's: it may be answering.
func (t *trip) copyBody() error {
	chunked := t.rq.length < 0
	if chunked && t.chunk == nil {
		t.chunk = t.buffers.get()
	}
	for {
		p, err := t.c.readBody()
		if err != nil && err != io.EOF {
			return err
		}
		out := p
		if chunked {
			out = (*t.chunk)[:0]
			if len(p) > 0 {
				out = append(append(http1.AppendChunkSize(out, len(p)), p...), "\r\n"...)
			}
			if err == io.EOF {
				out = t.appendBodyEnd(out)
			}
			*t.chunk = out[:0]
		}
		if len(out) > 0 && !t.put(out) {
			return errHalted
		}
		if err == io.EOF {
			return err
		}
	}
}

// put writes octets of the body to the endpoint. It returns false if the
// endpoint takes no more, or need not.
func (t *trip) put(p []byte) bool {
	t.backend.writes.extend(time.Now(), t.up.limits.StallTimeout)
	if t.isHalted.Load() || t.isCut.Load() {
		return false // that deadline may have undone theirs
	}
	_, err := t.backend.Write(p)
	return err == nil
}

// finishUpload stops the upload if it is still at work and returns how it ended,
// nil if there was none.
func (t *trip) finishUpload() error {
	if t.sending {
		select {
		case err := <-t.uploaded:
			t.uploadEnded(err)
		default:
			t.isHalted.Store(true)
			t.c.haltBody()
			t.backend.SetWriteDeadline(time.Unix(1, 0))
			t.uploadEnded(<-t.uploaded)
		}
	}
	return t.upErr
}

func (t *trip) uploadEnded(err error) {
	t.sending, t.upErr = false, err
	if err == io.EOF {
		t.sent = time.Now()
	}
	if t.chunk != nil {
		t.buffers.put(t.chunk)
		t.chunk = nil
	}
}
