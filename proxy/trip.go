package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
)

// Bounds of what endpoints may send before the final answer.
const (
	maxAnswerHead = 256 << 10 // octets of a head
	maxInterim    = 100       // interim answers
)

const (
	// patience is how long a trip waits for its endpoint before it looks
	// whether the client is still there. It is short enough to spare a clone the
	// work for somebody who has left, and so long that most requests never
	// pay for looking.
	patience = 50 * time.Millisecond
	// lookEvery is how often it looks again while the client still sends.
	lookEvery = 250 * time.Millisecond
	// continueAfter is how long a client waits for the 100 of a clone that may
	// not know of it (RFC 9110 §10.1.1).
	continueAfter = time.Second
)

// A trip is one request on its way to endpoints over HTTP/1.1 and the answer on
// its way back, carried by the goroutine of the client's connection. Only a
// body that has not arrived as a whole is sent by another goroutine. A trip can be
// used again after end.
type trip struct {
	up       *upstream
	buffers  *buffers // small
	large    *buffers
	c        client
	rq       *request
	x        *exchange     // nil if the gateway asks for itself
	answerIn time.Duration // bounds the wait for an answer; 0: no bound
	probe    bool          // the gateway asks for itself

	backend *backend
	out     []byte    // the request's head, and its body if that was here
	now     time.Time // about the present
	asked   time.Time // when the trip began
	sent    time.Time // since when the request is on its way as a whole; zero: it is not
	due     time.Time // when an answer must begin; zero: not decided

	res   http1.Response
	head  response // of res, for the client
	body  http1.Body
	buf   *[]byte
	r, w  int
	heard bool // the endpoint has sent something
	began bool // the final answer has begun

	slow     bool // waiting has become noticeable
	sending  bool // the goroutine of upload is at work
	streamed bool // it has been: the body cannot be sent again
	promised bool // 100 was passed on or said
	interims int
	isCut    atomic.Bool
	isHalted atomic.Bool
	uploaded chan error // has room for one
	upErr    error      // how the upload ended
	chunk    *[]byte    // of upload
}

// begin prepares for a request whose head, up to the last field, is in t.out.
func (t *trip) begin(c client, rq *request, now time.Time, answerIn time.Duration) {
	t.c, t.rq, t.now, t.answerIn = c, rq, now, answerIn
	t.backend, t.asked, t.sent, t.due = nil, now, time.Time{}, time.Time{}
	t.slow, t.sending, t.streamed, t.promised, t.interims = false, false, false, false, 0
	t.began, t.upErr = false, nil
	t.isCut.Store(false)
	t.isHalted.Store(false)
	if t.buf == nil {
		t.buf = t.buffers.get()
	}
}

// end gives up what the trip holds. The backend goes back if it can carry another
// request.
func (t *trip) end() {
	t.finishUpload()
	if t.slow {
		t.c.unwatch()
	}
	t.letGo()
	if t.backend != nil {
		t.backend.Close()
		t.backend = nil
	}
	if len(*t.buf) > smallBuffer {
		t.giveBuffer()
	}
	t.c, t.rq, t.x = nil, nil, nil
}

// letGo gives the backend back if it can carry another request. That is done
// before the client has the whole answer: the next request may follow at once.
func (t *trip) letGo() {
	b := t.backend
	if b == nil || t.sending {
		return
	}
	if t.slow {
		t.c.unwatch() // nobody may cut what another trip uses
	}
	if !t.backendIsGood() {
		return
	}
	if t.slow {
		t.now = time.Now()
		b.reads.lift()
	}
	t.backend = nil
	t.up.release(b, t.now)
}

// giveBuffer returns the answer's buffer to where it came from.
func (t *trip) giveBuffer() {
	if cap(*t.buf) == largeBuffer {
		t.large.put(t.buf)
	} else {
		t.buffers.put(t.buf)
	}
	t.buf = nil
}

// backendIsGood reports whether request and answer are complete and nothing was
// sent besides.
func (t *trip) backendIsGood() bool {
	return t.began && t.body.Over() && !t.body.Open() && t.r == t.w && !t.sent.IsZero() &&
		t.res.Status != 101 && t.res.Persists(t.res.Minor) && !t.isCut.Load() && !t.isHalted.Load()
}

// send sends the request to an endpoint and waits for the head of its final
// answer. The error says what went wrong; see blame. A backend that dies under a
// request that could not know, before anything came back, is replaced once if
// nothing can have happened at the other end, or nothing that matters.
func (t *trip) send(ctx context.Context, e *endpoint) error {
	asker := t.c
	if t.probe {
		asker = nil
	}
	b, err := t.up.acquire(ctx, e, asker)
	for err == nil {
		t.backend, t.heard = b, false
		var n int
		if n, err = t.transmit(); err == nil {
			err = t.receive()
		}
		if err == nil {
			return nil
		}
		if err == errStale && !t.isCut.Load() {
			t.backend = nil
			b.Close()
			b, err = t.up.acquire(ctx, e, asker)
			continue
		}
		err = t.explain(err)
		t.backend = nil
		b.Close()
		unsent := n == 0 || t.rq.isSafe() && !t.heard
		if !b.used || !unsent || t.streamed || !isBroken(err) {
			return err
		}
		b, err = t.up.fresh(ctx, e, asker)
	}
	return err
}

// isBroken reports whether an error is that of a connection whose other end is
// closed.
func isBroken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// explain finds out who ended a trip that failed: an error of the client's body
// is why the backend was cut.
func (t *trip) explain(err error) error {
	if up := t.finishUpload(); up != nil {
		if r := bodyRefusal(up); r != nil {
			return &clientError{r}
		}
	}
	if t.slow {
		t.c.unwatch()
	}
	if t.isCut.Load() || t.c.gone() {
		return errCut
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSilent
	}
	return err
}

// cut implements cutter: it makes the trip fail as soon as possible.
func (t *trip) cut() {
	t.isCut.Store(true)
	t.backend.SetReadDeadline(time.Unix(1, 0))
	t.backend.SetWriteDeadline(time.Unix(1, 0))
}

// receive reads heads until the final one, and passes on the interim ones.
func (t *trip) receive() error {
	t.res.Reset()
	for {
		done, err := t.res.Parse((*t.buf)[t.r:t.w], maxAnswerHead)
		if err != nil {
			return err
		}
		if !done {
			if err := t.fill(); err != nil {
				return err
			}
			continue
		}
		if err := t.backend.endpoint.recognize(&t.res.Section); err != nil {
			return err
		}
		if t.res.Status == 101 && !t.rq.upgrades {
			return errors.New("it switched protocols where nobody asked for that")
		}
		if t.res.Status >= 200 || t.res.Status == 101 {
			t.prepareBody()
			return nil
		}
		if err := t.passInterim(); err != nil {
			return err
		}
	}
}

// prepareBody begins the body of the final answer (RFC 9112 §6.3).
func (t *trip) prepareBody() {
	t.r += t.res.Len
	t.began = true
	switch {
	case t.rq.method == "HEAD", t.res.Status == 204, t.res.Status == 304, t.res.Status < 200:
		t.body.BeginSized(0)
	case t.res.Chunked:
		t.body.BeginChunked()
	case t.res.Length >= 0:
		t.body.BeginSized(t.res.Length)
	default:
		t.body.BeginOpen()
	}
}

// passInterim passes on an interim answer and prepares for the next head.
func (t *trip) passInterim() error {
	if t.interims++; t.interims > maxInterim {
		return errors.New("it sends interim answers without end")
	}
	t.promised = t.promised || t.res.Status == 100
	t.head = responseOf(&t.res, t.rq.method)
	if t.x != nil {
		t.head.fields = t.x.shed(t.head.fields)
	}
	if err := t.c.interim(&t.head); err != nil {
		return errCut
	}
	t.r += t.res.Len
	t.res.Reset()
	return nil
}

// fill reads more from the endpoint. Offsets into the buffer's octets behind
// t.r stay right.
func (t *trip) fill() error {
	if t.w == len(*t.buf) {
		t.makeRoom()
	}
	for {
		n, err := t.backend.Read((*t.buf)[t.w:])
		if n > 0 {
			t.w += n
			t.heard = true
			return nil
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := t.wait(); err != nil {
			return err
		}
	}
}

// makeRoom moves what is not read to the front of the buffer, or gets a larger
// one.
func (t *trip) makeRoom() {
	rest := (*t.buf)[t.r:t.w]
	if t.r > 0 {
		copy(*t.buf, rest)
	} else {
		bigger := make([]byte, 2*len(*t.buf))
		copy(bigger, rest)
		t.giveBuffer()
		t.buf = &bigger
	}
	t.r, t.w = 0, len(rest)
}

// wait decides what to do when an endpoint has sent nothing for a while.
func (t *trip) wait() error {
	t.slow = true
	t.now = time.Now()
	if t.isCut.Load() {
		return errCut
	}
	if t.sending {
		select {
		case err := <-t.uploaded:
			t.uploadEnded(err)
		default:
		}
	}
	if t.sending {
		return t.waitForBody()
	}
	switch {
	case t.began || t.answerIn == 0:
		t.backend.reads.lift()
	case t.due.IsZero():
		if t.due = t.sent.Add(t.answerIn); t.sent.IsZero() {
			t.due = t.now.Add(t.answerIn) // it took no more of the body
		}
		fallthrough
	default:
		if !t.now.Before(t.due) {
			return errSilent
		}
		t.backend.reads.until(t.due)
	}
	t.c.watch(t)
	return t.checkCut()
}

// waitForBody waits on while the client still sends its body, or would if it
// were told to.
func (t *trip) waitForBody() error {
	if t.rq.expects && !t.promised && t.now.Sub(t.asked) >= continueAfter {
		t.promised = true
		t.head = response{status: 100, phrase: []byte("Continue"), fields: new(http1.Section), empty: true}
		if err := t.c.interim(&t.head); err != nil {
			return errCut
		}
	}
	t.backend.reads.until(t.now.Add(lookEvery))
	return t.checkCut()
}

// checkCut is called after a deadline was moved, which may have undone a cut.
func (t *trip) checkCut() error {
	if t.isCut.Load() {
		return errCut
	}
	return nil
}
