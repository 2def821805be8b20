package proxy

import (
	"errors"
	"io"
)

// reply sends the answer, whose head was received, to the client as it comes.
func (t *trip) reply(x *exchange) {
	t.head = responseOf(&t.res, t.rq.method)
	t.head.fields = x.announce(x.shed(t.head.fields))
	t.c.unhurry()
	if t.c.head(&t.head) != nil {
		x.reason = ClientGone
		return
	}
	if reason, err := t.passBody(); reason != "" {
		x.reason = reason
		if err != nil {
			x.cause = err.Error()
		}
	}
}

// passBody copies the body of the answer. The reason is why it ended too early.
func (t *trip) passBody() (Reason, error) {
	for {
		p, n, err := t.body.Next((*t.buf)[t.r:t.w])
		t.r += n
		switch {
		case len(p) > 0:
			if t.c.write(p) != nil {
				return ClientGone, nil
			}
			continue
		case err == io.EOF:
			t.letGo()
			t.x.rest()
			if t.c.end(&t.body.Trailers) != nil {
				return ClientGone, nil
			}
			return "", nil
		case err != nil:
			t.c.flush()
			return CutByClone, err
		}
		if t.c.flush() != nil {
			return ClientGone, nil
		}
		t.enlarge()
		if err := t.fill(); err != nil {
			if reason, err := t.bodyCut(err); reason != "" {
				return reason, err
			}
		}
	}
}

// enlarge prepares for the rest of a long body: all octets before t.w are
// done with, but a few.
func (t *trip) enlarge() {
	full := t.w == len(*t.buf)
	if t.r == t.w {
		t.r, t.w = 0, 0
	}
	if left := t.body.Left(); cap(*t.buf) < largeBuffer && (left > smallBuffer || left < 0 && full) {
		buf := t.large.get()
		t.r, t.w = 0, copy(*buf, (*t.buf)[t.r:t.w])
		t.giveBuffer()
		t.buf = buf
	}
}

// bodyCut judges the error that ended reading a body: "" if that is its end.
func (t *trip) bodyCut(err error) (Reason, error) {
	if err == io.EOF {
		if err = t.body.End(); err == io.EOF {
			t.res.Close = true // nothing else comes on this backend
			return "", nil
		}
	}
	if t.isCut.Load() || t.c.gone() {
		if r := bodyRefusal(t.finishUpload()); r != nil {
			return r.reason, errors.New(r.cause)
		}
		return ClientGone, nil
	}
	return CutByClone, err
}
