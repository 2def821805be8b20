package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clonegate/clonegate/registry"
)

const changedClones = 1000

// TestThousandChanges registers, changes and removes 1,000 clones while others
// are in use. Nobody who uses those may notice.
func TestThousandChanges(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start()
	var done atomic.Bool // tells the clone in use to end its streams
	stream := startBackend(t, streams(&done))
	g.register("1", serving("a", stream))
	var users sync.WaitGroup
	var longest atomic.Int64 // silence that any of them has met
	use := func(what string, user func(ctx context.Context, heard func()) (int, error)) {
		users.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			last := time.Now()
			n, err := user(ctx, func() {
				longest.Store(max(longest.Load(), int64(time.Since(last))))
				last = time.Now()
			})
			if err != nil {
				t.Errorf("%s: %v after %d messages", what, err, n)
			}
			t.Logf("%s: %d messages", what, n)
		})
	}
	h1, h2 := &http.Client{Transport: g.transport()}, &http.Client{Transport: g.visitor().Transport}
	url := g.url("www-1", "/")
	use("WebSocket", func(ctx context.Context, heard func()) (int, error) {
		return useWebSocket(ctx, h1, url+"ws", &done, heard)
	})
	use("events over HTTP/1.1", func(ctx context.Context, heard func()) (int, error) { return useStream(ctx, h1, url+"events", heard) })
	use("events over HTTP/2", func(ctx context.Context, heard func()) (int, error) { return useStream(ctx, h2, url+"events", heard) })
	use("slow download over HTTP/1.1", func(ctx context.Context, heard func()) (int, error) { return useStream(ctx, h1, url+"download", heard) })
	use("slow download over HTTP/2", func(ctx context.Context, heard func()) (int, error) { return useStream(ctx, h2, url+"download", heard) })

	before, after := startBackend(t, says("before")), startBackend(t, says("after"))
	began := time.Now()
	var changers sync.WaitGroup
	for worker := range 8 {
		visitor := g.visitor()
		changers.Go(func() {
			for i := worker; i < changedClones; i += 8 {
				if err := changeClone(t.Context(), g, registry.ID("c"+strconv.Itoa(i)), before, after, visitor, i%20 == worker); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	changers.Wait()
	took := time.Since(began)
	done.Store(true)
	users.Wait()
	silence := time.Duration(longest.Load())
	t.Logf("%d clones registered, changed and removed in %s; the longest silence in any stream was %s", changedClones, took, silence)
	if silence > 5*time.Second {
		t.Errorf("a stream was silent for %s", silence)
	}
}

// changeClone registers, changes and removes one clone; watched, it also opens
// the clone at every step.
func changeClone(ctx context.Context, g *gateway, id registry.ID, before, after string, c *http.Client, watched bool) error {
	open := func(want string) error {
		if !watched {
			return nil
		}
		a, err := ask(ctx, c, http.MethodGet, g.url("www-"+string(id), "/"), "")
		if err == nil && !strings.Contains(a.body, want) {
			err = fmt.Errorf("clone %s: %d, want %q in its answer: %.300s", id, a.status, want, a.body)
		}
		return err
	}
	for _, step := range []struct{ endpoint, want string }{{before, "before"}, {after, "after"}} {
		if _, _, err := g.api.Register(ctx, id, serving("a", step.endpoint), false); err != nil {
			return err
		}
		if err := open(step.want); err != nil {
			return err
		}
	}
	if _, _, err := g.api.Unregister(ctx, id, "a"); err != nil {
		return err
	}
	return open(`"code": "gone"`)
}

// startBackend runs a service of a clone and returns its address.
func startBackend(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

// pace is the time between two messages of a stream.
const pace = 5 * time.Millisecond

// streams serves what lasts until done: numbered lines on /events and
// /download, echoes on /ws.
func streams(done *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	lines := func(line func(int) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for n := 0; r.Context().Err() == nil; n++ {
				if done.Load() {
					io.WriteString(w, "the end\n")
					return
				}
				io.WriteString(w, line(n))
				w.(http.Flusher).Flush()
				time.Sleep(pace)
			}
		}
	}
	events := lines(func(n int) string { return fmt.Sprintf("data: %d\n\n", n) })
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		events(w, r)
	})
	mux.HandleFunc("/download", lines(func(n int) string { return fmt.Sprintf("%s: %d\n", strings.Repeat("x", 8000), n) }))
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, text, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	})
	return mux
}

// useStream reads numbered lines to their end, and returns how many there were.
func useStream(ctx context.Context, c *http.Client, url string, heard func()) (n int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		heard()
		switch line := lines.Text(); {
		case line == "":
		case line == "the end":
			_, err := io.ReadAll(resp.Body)
			return n, err
		case !strings.HasSuffix(line, ": "+strconv.Itoa(n)):
			return n, fmt.Errorf("line %d is %.100q", n, line)
		default:
			n++
		}
	}
	return n, errors.Join(errors.New("cut off"), lines.Err())
}

// useWebSocket sends numbers and reads their echoes until done.
func useWebSocket(ctx context.Context, c *http.Client, url string, done *atomic.Bool, heard func()) (n int, err error) {
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: c})
	if err != nil {
		return 0, err
	}
	defer conn.CloseNow()
	for ; !done.Load(); n++ {
		want := strconv.Itoa(n)
		if err := conn.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
			return n, err
		}
		_, got, err := conn.Read(ctx)
		if err != nil || string(got) != want {
			return n, fmt.Errorf("echo of %s is %q, %w", want, got, err)
		}
		heard()
		time.Sleep(pace)
	}
	return n, conn.Close(websocket.StatusNormalClosure, "")
}
