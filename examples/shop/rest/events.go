package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/clonegate/clonegate/examples/shop"
)

// heartbeat is how often a quiet feed shows that it lives. It stays below the
// 60 seconds after which gateways give up on a silent connection.
const heartbeat = 15 * time.Second

// events serves the feed as server-sent events: "start", "order" and "review".
// A reader that comes back sends Last-Event-ID and misses nothing.
func (h *handler) events(w http.ResponseWriter, r *http.Request, b Backend, stop <-chan struct{}) {
	after, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64) // unreadable: from now on
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	events := make(chan shop.Event)
	failed := make(chan error, 1)
	go func() { failed <- feed(ctx, b, after, events) }()

	select {
	case <-stop:
		h.fail(w, r, fmt.Errorf("%w: shutting down", shop.ErrUnavailable))
	case err := <-failed:
		h.fail(w, r, err)
	case start := <-events:
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		out := http.NewResponseController(w)
		beat := time.NewTicker(heartbeat)
		defer beat.Stop()
		for err := writeEvent(w, start); err == nil && out.Flush() == nil; {
			select {
			case e := <-events:
				err = writeEvent(w, e)
			case <-beat.C:
				_, err = io.WriteString(w, ":\n\n")
			case <-failed:
				return // the reader comes back for more
			case <-stop:
				return
			}
		}
	}
}

// feed sends events until the backend or ctx ends.
func feed(ctx context.Context, b Backend, after uint64, events chan<- shop.Event) error {
	for e, err := range b.Watch(ctx, after) {
		if err != nil {
			return err
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%w: the feed of events ended", shop.ErrUnavailable)
}

func writeEvent(w io.Writer, e shop.Event) error {
	kind := "start"
	switch {
	case e.Order != nil:
		kind = "order"
	case e.Review != nil:
		kind = "review"
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "event: %s\nid: %d\ndata: %s\n\n", kind, e.Seq, data)
	return err
}

// Watch yields events after one that the caller has seen; 0 begins now. It
// ends with an error when the connection does, and the caller may watch again
// from the last event it was given.
func (c *Client) Watch(ctx context.Context, after uint64) iter.Seq2[shop.Event, error] {
	return func(yield func(shop.Event, error) bool) {
		header := http.Header{}
		if after > 0 {
			header.Set("Last-Event-ID", strconv.FormatUint(after, 10))
		}
		res, err := c.send(ctx, c.streams, "GET", "/events", header, nil)
		if err != nil {
			yield(shop.Event{}, err)
			return
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, found := strings.CutPrefix(lines.Text(), "data: ")
			if !found {
				continue
			}
			var e shop.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				yield(shop.Event{}, fmt.Errorf("event: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		err = lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(shop.Event{}, fmt.Errorf("%w: feed of events: %w", shop.ErrUnavailable, err))
	}
}
