package http2

import (
	"errors"
	"fmt"

	h2 "golang.org/x/net/http2"
)

// A ConnError is why a connection was ended before its time.
type ConnError struct {
	Code   h2.ErrCode
	Reason string // for people; the client is told it too
}

func (e *ConnError) Error() string { return fmt.Sprintf("http2: connection: %s: %s", e.Code, e.Reason) }

// A StreamError is why a stream ended before its time.
type StreamError struct {
	Code   h2.ErrCode
	Client bool   // the client reset the stream; otherwise the server did
	Reason string // for people; "" if the client gave none
}

func (e *StreamError) Error() string {
	who := "the server"
	if e.Client {
		who = "the client"
	}
	if e.Reason == "" {
		return fmt.Sprintf("http2: stream reset by %s: %s", who, e.Code)
	}
	return fmt.Sprintf("http2: stream reset by %s: %s: %s", who, e.Code, e.Reason)
}

// ErrGone is what the methods of a Stream return once its connection has ended.
var ErrGone = errors.New("http2: the client's connection has ended")

// ErrHalted is what Read returns after Halt.
var ErrHalted = errors.New("http2: the body is not wanted any more")

// ErrStalled is what Read returns when the client has sent nothing of the body
// for Config.Stall.
var ErrStalled = errors.New("http2: the client stopped sending the body")

// ErrOrder is what writing an answer out of order returns: a body before its
// head, a second head, anything after the end.
var ErrOrder = errors.New("http2: the parts of the answer are out of order")
