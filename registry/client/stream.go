package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A Message is one server-sent event.
type Message struct {
	Event string // its name; empty if it only moves the place to resume at
	ID    string // where to resume after it; empty if it says nothing new
	Data  []byte // valid until each returns
}

const (
	// maxLine bounds one line of a stream; a clone's record is far smaller.
	maxLine = 16 << 20
	// silence is how long a stream may say nothing before it is taken for
	// dead. The daemon shows every 15 seconds that it lives.
	silence = time.Minute
)

// Stream opens a stream of server-sent events and calls each for every
// message, until each returns an error, ctx ends or the stream does; it then
// returns that error, the error of ctx, or io.ErrUnexpectedEOF. lastID resumes
// after a message with that ID; empty begins anew.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, lastID string, each func(Message) error) error {
	_, err := c.stream(ctx, path, query, lastID, each)
	return err
}

var errSilent = errors.New("the stream has fallen silent")

// stream is Stream, and tells whether it was each that ended it.
func (c *Client) stream(ctx context.Context, path string, query url.Values, lastID string, each func(Message) error) (stopped bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{"Accept": {"text/event-stream"}}
	if lastID != "" {
		header.Set("Last-Event-ID", lastID)
	}
	resp, err := c.send(ctx, &Request{Method: http.MethodGet, Path: path, Query: query}, nil, header)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	watchdog := time.AfterFunc(c.silence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	stopped, err = readMessages(resp.Body, func() { watchdog.Reset(c.silence) }, each)
	if !stopped && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return stopped, err
}

// readMessages parses server-sent events as the HTML standard tells, §9.2.6.
// heard is called for every line.
func readMessages(r io.Reader, heard func(), each func(Message) error) (stopped bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var m Message
	for lines.Scan() {
		heard()
		line := lines.Bytes()
		if len(line) == 0 {
			if m.Event != "" || m.ID != "" || m.Data != nil {
				if err := each(m); err != nil {
					return true, err
				}
			}
			m = Message{}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":")) // a comment has no name
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			m.Event = string(value)
		case "id":
			m.ID = string(value)
		case "data":
			if m.Data != nil {
				m.Data = append(m.Data, '\n')
			}
			m.Data = append(m.Data, value...)
		}
	}
	if err := lines.Err(); err != nil {
		return false, err
	}
	return false, io.ErrUnexpectedEOF
}

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// follow keeps a stream open: when it is lost it is resumed where it was, with
// growing pauses while the daemon does not answer. It returns the error of each
// or of ctx, or an *Error if the daemon refuses.
func (c *Client) follow(ctx context.Context, path string, after uint64, each func(Message) error) error {
	lastID := ""
	if after > 0 {
		lastID = strconv.FormatUint(after, 10)
	}
	wait, told := firstPause, false
	for {
		stopped, err := c.stream(ctx, path, nil, lastID, func(m Message) error {
			wait, told = firstPause, false
			if m.Event != "" {
				if err := each(m); err != nil {
					return err
				}
			}
			if m.ID != "" {
				lastID = m.ID
			}
			return nil
		})
		if stopped {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		delay := wait/2 + rand.N(wait) // not all clients at once
		if e, ok := errors.AsType[*Error](err); ok {
			if e.Status < 500 && e.Status != http.StatusTooManyRequests {
				return err
			}
			delay = max(delay, min(e.RetryAfter, longestPause))
		}
		if !told && wait > firstPause { // a restart is nothing to tell
			told = true
			c.cfg.Lost(err)
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
		wait = min(2*wait, longestPause)
	}
}
