package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// TestThousandChangesDisturbNobody registers, uses, changes and removes 1,000
// clones while a WebSocket, an event stream and a slow download run through
// others, whose own pools change as well. None of them may notice, and
// afterwards everything is as it was.
func TestThousandChangesDisturbNobody(t *testing.T) {
	const clones = 1000
	b := newBench(t)
	up := httptest.NewServer(http.HandlerFunc(streams))
	defer up.Close()
	other := httptest.NewServer(http.HandlerFunc(streams))
	defer other.Close()
	addr, otherAddr := up.Listener.Addr().String(), other.Listener.Addr().String()
	for _, id := range []registry.ID{"live", "events", "download"} {
		b.register(id, www(addr))
	}
	ctx, finish := context.WithCancel(t.Context())
	var undisturbed sync.WaitGroup
	defer func() { finish(); undisturbed.Wait() }()
	ready := make(chan struct{}, 3)
	undisturbed.Go(func() { b.keepTalking(ctx, ready) })
	undisturbed.Go(func() { b.keepListening(ctx, ready) })
	undisturbed.Go(func() { b.keepLoading(ctx, ready) })
	for range 3 {
		<-ready
	}
	for _, id := range []registry.ID{"live", "events", "download"} {
		b.wantServed(b.h2, id, "www") // leaves the idle connection that a probe would
	}
	b.h2.CloseIdleConnections()
	b.log.requests(t, 3) // a request may be counted after its answer
	before := b.usage()

	// One connection for all, as a browser would have.
	client := b.newClient(true)
	check := &registry.HealthRegistration{Path: "/", Interval: 1, Timeout: 1}
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			for i := w; i < clones; i += 4 {
				id := registry.ID("c" + strconv.Itoa(i))
				b.register(id, www(addr))
				b.wantServed(client, id, "www")
				b.register(id, map[string]registry.ServiceRegistration{
					"www": {Endpoints: []string{otherAddr, addr}, Health: check},
					"api": {Endpoints: []string{addr}, Protocol: registry.HTTP},
				})
				b.wantServed(client, id, "api")
				if i%100 == 0 { // the pools of the streams change, too
					stream := registry.ID([]string{"live", "events", "download"}[i/100%3])
					b.register(stream, map[string]registry.ServiceRegistration{"www": {Endpoints: []string{otherAddr, addr}, Health: check}})
					b.register(stream, www(addr))
				}
				b.unregister(id)
			}
		})
	}
	workers.Wait()
	b.do(client, "https://www-c7."+zone+"/").wantReason(t, 410, proxy.Gone)
	client.CloseIdleConnections()
	var after usage
	defer func() { t.Logf("before %+v, after %+v", before, after) }()
	eventually(t, "everything is as before", func() bool {
		after = b.usage()
		return after.goroutines <= before.goroutines+2 && after.files <= before.files+1 && after.series == before.series
	})
}

// streams is a service with every kind of stream.
func streams(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/live":
		echo(w, r)
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for n := 0; r.Context().Err() == nil; n++ {
			fmt.Fprintf(w, "data: %d\n\n", n)
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	case "/download":
		w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		for n := 0; r.Context().Err() == nil && n < 1<<30; n += 4096 {
			w.Write(make([]byte, 4096))
			time.Sleep(5 * time.Millisecond)
		}
	default:
		io.WriteString(w, r.Header.Get("Clonegate-Clone"))
	}
}

// wantServed asks a clone for its own name.
func (b *bench) wantServed(client *http.Client, id registry.ID, service string) {
	res, err := client.Get("https://" + service + "-" + string(id) + "." + zone + "/")
	if err != nil {
		b.t.Error(err)
		return
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != string(id) {
		b.t.Errorf("%s of %s: got %d %q, %v; want 200 and its ID", service, id, res.StatusCode, body, err)
	}
}

// keepTalking uses one WebSocket until ctx ends.
func (b *bench) keepTalking(ctx context.Context, ready chan<- struct{}) {
	c, _, err := websocket.Dial(ctx, "wss://www-live."+zone+"/live", &websocket.DialOptions{HTTPClient: b.newClient(false)})
	if err != nil {
		b.t.Error(err)
		return
	}
	defer c.CloseNow()
	for n := 0; ctx.Err() == nil; n++ {
		msg := strconv.Itoa(n)
		err := c.Write(context.Background(), websocket.MessageText, []byte(msg))
		var got []byte
		if err == nil {
			_, got, err = c.Read(context.Background())
		}
		if err != nil || string(got) != msg {
			b.t.Errorf("the WebSocket noticed at message %d: %q, %v", n, got, err)
			return
		}
		if n == 0 {
			ready <- struct{}{}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// keepListening reads one event stream until ctx ends.
func (b *bench) keepListening(ctx context.Context, ready chan<- struct{}) {
	body := b.stream(ctx, "https://www-events."+zone+"/events")
	in := bufio.NewScanner(body)
	for n := 0; in.Scan(); n++ {
		if got := strings.TrimPrefix(in.Text(), "data: "); got != strconv.Itoa(n) {
			b.t.Errorf("the event stream noticed: got %q; want event %d", got, n)
			return
		}
		in.Scan()
		if n == 0 {
			ready <- struct{}{}
		}
	}
	if ctx.Err() == nil {
		b.t.Errorf("the event stream noticed: %v", in.Err())
	}
}

// keepLoading reads one download until ctx ends.
func (b *bench) keepLoading(ctx context.Context, ready chan<- struct{}) {
	body := b.stream(ctx, "https://www-download."+zone+"/download")
	buf := make([]byte, 4096)
	for n := 0; ; n++ {
		if _, err := io.ReadFull(body, buf); err != nil {
			if ctx.Err() == nil {
				b.t.Errorf("the download noticed: %v", err)
			}
			return
		}
		if n == 0 {
			ready <- struct{}{}
		}
	}
}

// stream opens a stream that ends with ctx, on a connection of its own.
func (b *bench) stream(ctx context.Context, url string) io.Reader {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		b.t.Error(err)
		return strings.NewReader("")
	}
	client := b.newClient(url[len("https://www-")] == 'e') // events over HTTP/2
	client.Timeout = 0
	res, err := client.Do(req)
	if err != nil {
		b.t.Error(err)
		return strings.NewReader("")
	}
	context.AfterFunc(ctx, func() {
		res.Body.Close()
		client.CloseIdleConnections()
	})
	return res.Body
}

// A usage is what could leak.
type usage struct{ goroutines, files, series int }

func (b *bench) usage() usage {
	b.t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.t.Fatal(err)
	}
	families, err := b.metrics.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	series := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) > 0 && m.GetLabel()[0].GetName() != "reason" {
				series++
			}
		}
	}
	return usage{runtime.NumGoroutine(), len(files), series}
}
