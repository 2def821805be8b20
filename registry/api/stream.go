package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
)

// streams bounds the streams that are open and can end them all.
type streams struct {
	max  int
	open prometheus.Gauge

	mu     sync.Mutex
	ends   map[*Stream]context.CancelFunc // guarded by mu
	closed bool                           // guarded by mu
}

func newStreams(most int, open prometheus.Gauge) *streams {
	return &streams{max: most, open: open, ends: map[*Stream]context.CancelFunc{}}
}

func (ss *streams) add(s *Stream, end context.CancelFunc) *Problem {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	switch {
	case ss.closed:
		return Refusal(http.StatusServiceUnavailable, "closing", "the daemon is shutting down").After(retryUnavailable)
	case len(ss.ends) >= ss.max:
		return Refusal(http.StatusServiceUnavailable, "streams", "%d streams are open already, which is the most", ss.max).After(retryUnavailable)
	}
	ss.ends[s] = end
	ss.open.Set(float64(len(ss.ends)))
	return nil
}

func (ss *streams) remove(s *Stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.ends, s)
	ss.open.Set(float64(len(ss.ends)))
}

func (ss *streams) close() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.closed = true
	for _, end := range ss.ends {
		end()
	}
}

// A Stream sends server-sent events to one client. It runs on the request's
// own goroutine and buffers nothing: a client that does not read is cut off
// once a write has waited for the stream's patience.
type Stream struct {
	w         io.Writer
	control   *http.ResponseController
	view      *registry.View
	token     string
	heartbeat time.Duration
	patience  time.Duration
}

// Serve answers a request with a stream that run fills. It counts among the
// streams of the API, which end with it.
func (a *API) Serve(hctx huma.Context, run func(context.Context, *Stream) error) {
	r, w := humago.Unwrap(hctx)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := &Stream{
		w: w, control: http.NewResponseController(w), view: a.view,
		token:     Actor(ctx).Token.ID,
		heartbeat: a.cfg.Heartbeat, patience: a.cfg.Patience,
	}
	if p := a.streams.add(s, cancel); p != nil {
		p.write(w)
		return
	}
	defer a.streams.remove(s)
	e := exchangeOf(ctx)
	e.stream = true
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if err := s.flush(); err != nil || r.Method == http.MethodHead {
		return
	}
	if err := run(ctx, s); err != nil && ctx.Err() == nil {
		e.err = err
	}
}

// Send writes one event, which reaches the client at the next Wait. id is left out if it is 0: the client then resumes
// where it would have before.
func (s *Stream) Send(event string, id uint64, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return err
	}
	b := make([]byte, 0, len(body)+64)
	b = append(b, "event: "...)
	b = append(b, event...)
	if id != 0 {
		b = append(b, "\nid: "...)
		b = strconv.AppendUint(b, id, 10)
	}
	b = append(b, "\ndata: "...)
	b = append(b, body...)
	return s.write(append(b, "\n\n"...))
}

// mark moves the place the client resumes at without telling it anything.
func (s *Stream) mark(id uint64) error {
	return s.write([]byte("id: " + strconv.FormatUint(id, 10) + "\n\n"))
}

func (s *Stream) write(b []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
		return err
	}
	_, err := s.w.Write(b)
	return err
}

// flush sends what was written, then lets the connection rest without a deadline.
func (s *Stream) flush() error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	return s.control.SetWriteDeadline(time.Time{})
}

var errTokenEnded = errors.New("the stream's token has ended")

// changes flushes what was written and waits for changes after a revision,
// showing from time to time that the stream lives. It ends with its token.
func (s *Stream) changes(ctx context.Context, after uint64) ([]registry.Change, error) {
	if err := s.flush(); err != nil {
		return nil, err
	}
	for {
		if err := s.checkToken(); err != nil {
			return nil, err
		}
		wait, cancel := context.WithTimeout(ctx, s.heartbeat)
		changes, err := s.view.Changes(wait, after)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			return changes, err
		}
		if err := s.beat(); err != nil {
			return nil, err
		}
	}
}

// Wait flushes what was written and waits until news is closed, showing from
// time to time that the stream lives. It ends with the stream's token, and with
// ctx.
func (s *Stream) Wait(ctx context.Context, news <-chan struct{}) error {
	if err := s.flush(); err != nil {
		return err
	}
	beats := time.NewTicker(s.heartbeat)
	defer beats.Stop()
	for {
		if err := s.checkToken(); err != nil {
			return err
		}
		select {
		case <-news:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-beats.C:
		}
		if err := s.beat(); err != nil {
			return err
		}
	}
}

// checkToken returns errTokenEnded once the stream's token has.
func (s *Stream) checkToken() error {
	token, known := s.view.Token(s.token)
	if !known || token.Expired(time.Now()) {
		return errTokenEnded
	}
	return nil
}

// beat shows that the stream lives.
func (s *Stream) beat() error {
	if err := s.write([]byte(": still here\n\n")); err != nil {
		return err
	}
	return s.flush()
}

// A Position is where a stream begins.
type Position struct {
	After       uint64 `query:"after" doc:"Begin after this revision or sequence number."`
	LastEventID string `header:"Last-Event-ID" doc:"As after; what a stream's client sends when it comes back."`
}

// Begin returns where to begin, and whether the client said so.
func (in *Position) Begin() (after uint64, given bool, err error) {
	if in.LastEventID == "" {
		return in.After, in.After != 0, nil
	}
	after, err = strconv.ParseUint(in.LastEventID, 10, 64)
	if err != nil {
		return 0, false, invalidParam("header.Last-Event-ID", "revision", errors.New("want the number that came as id of an event"))
	}
	return after, true, nil
}
