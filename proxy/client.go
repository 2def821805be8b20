package proxy

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/clonegate/clonegate/proxy/http1"
)

// A client is the client's end of one exchange, whatever HTTP it speaks.
// Methods about the body may be called by another goroutine than the others,
// but by one at a time.
type client interface {
	// bodyIsHere reports whether readBody would not wait for the network.
	bodyIsHere() bool
	// readBody returns the next octets of the request's body, which are valid
	// until the next call, or an error: io.EOF at its end. Progress resets the
	// time it may take.
	readBody() ([]byte, error)
	// bodyTrailers returns the trailers of a body that has ended.
	bodyTrailers() *http1.Section
	// haltBody makes readBody fail, at once and from now on.
	haltBody()
	// unhurry lets the client take any time for the rest of the body: the clone
	// has begun to answer, so this may be a stream both ways.
	unhurry()

	// interim passes on an interim answer if the client can take it.
	interim(*response) error
	// head begins the final answer. What is written may wait for flush or end.
	head(*response) error
	// write takes octets of the answer's body, which must not change before
	// flush or end.
	write([]byte) error
	flush() error
	// end ends the answer. Trailers may be nil.
	end(trailers *http1.Section) error

	// watch cuts what is under way when the client leaves. It is called when that
	// takes its time, perhaps more than once, and ends with unwatch, after which
	// the cutter is not touched any more.
	watch(cutter)
	unwatch()
	// gone reports whether the client is known to have left.
	gone() bool

	// takeOver hands out what a client that upgrades goes on with, and what was
	// read ahead from it. The client is used no more.
	takeOver() (side, []byte)
}

// A leash cuts a trip when a context ends.
type leash struct {
	stop func() bool
	done chan struct{}
}

func (l *leash) watch(ctx context.Context, c cutter) {
	if l.stop == nil {
		done := make(chan struct{})
		l.stop, l.done = context.AfterFunc(ctx, func() { c.cut(); close(done) }), done
	}
}

func (l *leash) unwatch() {
	if l.stop != nil && !l.stop() {
		<-l.done
	}
	l.stop = nil
}

// A cutter is something under way that can be cut short.
type cutter interface{ cut() }

// A response is the head of an answer on its way to a client.
type response struct {
	status int
	phrase []byte // may be empty
	fields *http1.Section
	length int64 // octets of the body; -1 if only its end will tell
	empty  bool  // there is no body, whatever the length: of HEAD, 204 and 304
	ours   bool  // all fields go to the client, else the policy chooses

	nominates, chunked bool // see http1.Framing
}

// responseOf returns the answer that a head from an endpoint begins.
func responseOf(res *http1.Response, method string) response {
	a := response{
		status: res.Status, phrase: res.Bytes(res.Phrase), fields: &res.Section, length: res.Length,
		nominates: res.Nominates, chunked: res.Chunked,
	}
	a.empty = method == "HEAD" || a.status < 200 || a.status == 204 || a.status == 304
	return a
}

// errHalted is the error of a body that is not read any more.
var errHalted = errors.New("the body is not wanted any more")

// bodyRefusal turns the error of readBody into a refusal, nil if the client is
// not to blame.
func bodyRefusal(err error) *refusal {
	var bad *http1.Error
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errHalted):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{BodyTimeout, ""}
	case errors.As(err, &bad):
		return &refusal{BadBody, bad.Error()}
	}
	return &refusal{ClientGone, ""}
}
