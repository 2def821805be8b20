package e2e

import (
	"context"
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

	"github.com/clonegate/clonegate/registry"
)

const changedClones = 1000

// TestThousandChanges registers, changes and removes 1,000 clones, renews the
// certificate, and changes the pool of a clone in every way while its streams
// are in use: events, downloads, WebSockets, gRPC. None of them may notice: every
// message comes, in order, and the last one, too.
func TestThousandChanges(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.renew(2)
	g := newGateway(t, ca.config())
	g.root = ca.root
	g.start()
	var done atomic.Bool // tells the clone in use to end its streams
	used, spare := newStreamer(t, "used", &done), newStreamer(t, "spare", &done)
	pool := func(members ...*streamer) { g.register("1", streaming(members...)) }
	pool(used)
	users := g.useStreams(&done)
	users.advance(t, "from the start")
	if n := used.open.Load(); n != int64(len(users.all)) {
		t.Fatalf("%d streams are open; want %d", n, len(users.all))
	}

	changed := make(chan error, 1)
	began := time.Now()
	go func() { changed <- g.changeClones() }()
	ca.renew(3)
	eventually(t, 20*time.Second, "new connections get the new certificate", func() string {
		if n := g.serialOf("www-1"); n != 3 {
			return fmt.Sprintf("it has serial number %d", n)
		}
		return ""
	})
	users.advance(t, "after the certificate was renewed")
	visitor := g.visitor()
	answers := func(status int, text string) func() string {
		return func() string {
			if a := g.get(visitor, g.url("www-1", "/who")); a.status != status || !strings.Contains(a.body, text) {
				return fmt.Sprintf("%d %.200s", a.status, a.body)
			}
			return ""
		}
	}
	pool(used, spare) // which is idle, and so gets what is new
	eventually(t, 20*time.Second, "a member that is added gets requests", answers(200, "spare"))
	users.advance(t, "after a member was added")
	pool(used)
	eventually(t, 20*time.Second, "a member that is removed gets none", answers(200, "used"))
	used.ill.Store(true)
	eventually(t, 20*time.Second, "a member that is ill gets none", answers(503, "unhealthy"))
	users.advance(t, "on a member that is ill")
	used.ill.Store(false)
	eventually(t, 20*time.Second, "a member that is well again gets requests", answers(200, "used"))
	pool(spare)
	users.advance(t, "on a member that has left")
	if err := <-changed; err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	users.advance(t, "after 1,000 clones have come and gone")
	done.Store(true)
	users.wait(t)
	eventually(t, 10*time.Second, "the streams are closed at the clone, too", func() string {
		if n := used.open.Load(); n != 0 {
			return fmt.Sprintf("%d are open", n)
		}
		return ""
	})
	t.Logf("%d clones registered, changed and removed in %s", changedClones, took)
}

// streaming is the registration of a clone whose pools have these members.
func streaming(members ...*streamer) registry.Registration {
	www := registry.ServiceRegistration{Default: true, Health: &registry.HealthRegistration{Path: "/healthz", Interval: 1, Timeout: 1}}
	rpc := registry.ServiceRegistration{Protocol: registry.H2C}
	for _, m := range members {
		www.Endpoints = append(www.Endpoints, m.http)
		rpc.Endpoints = append(rpc.Endpoints, m.grpc)
	}
	return registry.Registration{Instance: "a", Services: map[string]registry.ServiceRegistration{"www": www, "grpc": rpc}}
}

// streamUsers use each kind of stream of clone 1.
type streamUsers struct {
	all []*streamUser
	wg  sync.WaitGroup
}

type streamUser struct {
	what  string
	heard atomic.Int64 // messages
	err   error
	ended chan struct{}
}

// useStreams opens every kind of stream, each on a connection of its own.
func (g *gateway) useStreams(done *atomic.Bool) *streamUsers {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	g.t.Cleanup(cancel)
	us := new(streamUsers)
	use := func(what string, user func(heard func()) (int, error)) {
		u := &streamUser{what: what, ended: make(chan struct{})}
		us.all = append(us.all, u)
		us.wg.Go(func() {
			defer close(u.ended)
			_, u.err = user(func() { u.heard.Add(1) })
		})
	}
	url := g.url("www-1", "/")
	for _, path := range []string{"events", "download"} {
		h1, h2 := &http.Client{Transport: g.transport()}, &http.Client{Transport: g.visitor().Transport}
		use(path+" over HTTP/1.1", func(heard func()) (int, error) { return useStream(ctx, h1, url+path, heard) })
		use(path+" over HTTP/2", func(heard func()) (int, error) { return useStream(ctx, h2, url+path, heard) })
	}
	h1 := &http.Client{Transport: g.transport()}
	use("WebSocket over HTTP/1.1", func(heard func()) (int, error) { return useWebSocket(ctx, h1, url+"ws", done, heard) })
	use("WebSocket over HTTP/2", func(heard func()) (int, error) { return useWebSocket2(ctx, g, url+"ws", done, heard) })
	use("gRPC", func(heard func()) (int, error) { return useGRPC(ctx, g, done, heard) })
	return us
}

// advance waits until every stream has carried more messages.
func (us *streamUsers) advance(t *testing.T, when string) {
	t.Helper()
	for _, u := range us.all {
		from := u.heard.Load()
		eventually(t, 20*time.Second, u.what+" goes on "+when, func() string {
			select {
			case <-u.ended:
				t.Fatalf("%s ended %s, at message %d: %v", u.what, when, u.heard.Load(), u.err)
			default:
			}
			if n := u.heard.Load() - from; n < 10 {
				return fmt.Sprintf("%d messages came", n)
			}
			return ""
		})
	}
}

// wait expects that every stream ends well.
func (us *streamUsers) wait(t *testing.T) {
	t.Helper()
	us.wg.Wait()
	for _, u := range us.all {
		if u.err != nil {
			t.Errorf("%s: %v after %d messages", u.what, u.err, u.heard.Load())
		}
		t.Logf("%s: %d messages", u.what, u.heard.Load())
	}
}

// changeClones registers, changes and removes clones, and opens some of them at
// every step.
func (g *gateway) changeClones() error {
	g.t.Helper()
	before, after := startBackend(g.t, says("before")), startBackend(g.t, says("after"))
	const changers = 8
	errs := make(chan error, changers)
	for worker := range changers {
		visitor := g.visitor()
		go func() {
			for i := worker; i < changedClones; i += changers {
				if err := g.changeClone(registry.ID("c"+strconv.Itoa(i)), before, after, visitor, i%20 == worker); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var failed error
	for range changers {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// changeClone registers, changes and removes one clone; watched, it also opens
// the clone at every step.
func (g *gateway) changeClone(id registry.ID, before, after string, c *http.Client, watched bool) error {
	ctx := g.t.Context()
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
