package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// A message is one server-sent event as a client reads it; a comment has only
// a comment.
type message struct {
	event, id, data, comment string
}

// A follower reads a stream.
type follower struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
}

// follow opens a stream. lastID is left out if it is empty.
func (d *daemon) follow(role registry.Role, path, lastID string) *follower {
	d.t.Helper()
	r := d.request(role, "GET", path, "")
	r.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		d.t.Fatalf("GET %s: status %d, Content-Type %q", path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return &follower{d.t, resp, bufio.NewReader(resp.Body)}
}

// read returns the next message or comment, and false at the end.
func (f *follower) read() (message, bool) {
	f.t.Helper()
	var m message
	for {
		line, err := f.in.ReadString('\n')
		if err != nil {
			return m, false
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "event":
			m.event = value
		case "id":
			m.id = value
		case "data":
			m.data = value
		default:
			if line == "" {
				return m, true
			}
			if name != "" {
				f.t.Fatalf("unknown line %q", line)
			}
			m.comment = value
		}
	}
}

// next returns the next message that is no comment.
func (f *follower) next() (message, api.Change) {
	f.t.Helper()
	for {
		m, ok := f.read()
		if !ok {
			f.t.Fatal("the stream has ended")
		}
		if m.comment != "" {
			continue
		}
		var ch api.Change
		if m.data != "" && m.event != "event" {
			if err := json.Unmarshal([]byte(m.data), &ch); err != nil {
				f.t.Fatalf("%v in %q", err, m.data)
			}
		}
		return m, ch
	}
}

// list reads a whole list and returns its messages and the id of the last.
func (f *follower) list() (kinds []string, id string) {
	f.t.Helper()
	for {
		m, _ := f.next()
		kinds = append(kinds, m.event)
		if m.event == api.KindListed {
			return kinds, m.id
		}
		if m.id != "" {
			f.t.Errorf("message %s within the list has id %s", m.event, m.id)
		}
	}
}

func (d *daemon) register(id registry.ID, instance, owner string) {
	d.t.Helper()
	_, err := d.registry.Register(d.t.Context(), registry.System, id, registry.Registration{Instance: instance, Owner: owner}, false)
	if err != nil {
		d.t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	d := start(t, nil)
	d.register("1", "secret-one", "ada")
	if _, _, err := d.registry.PublishTemplate(t.Context(), registry.System, "shop", "1", registry.Publication{Digest: digest("a"), Manifest: []byte(`{"big":1}`)}); err != nil {
		t.Fatal(err)
	}
	f := d.follow(viewer, "/v1/watch", "")
	kinds, id := f.list()
	if got := strings.Join(kinds, " "); got != "list template channel clone listed" {
		t.Errorf("list: %s", got)
	}
	if want := fmt.Sprint(d.registry.View().Revision()); id != want {
		t.Errorf("listed at %s, want %s", id, want)
	}
	d.register("2", "secret-two", "bob")
	m, ch := f.next()
	if m.event != api.KindClone || ch.Clone == nil || ch.Clone.ID != "2" || m.id != fmt.Sprint(ch.Revision) ||
		ch.Event == nil || ch.Event.Type != registry.EventCloneRegistered || ch.Clone.Lease != nil {
		t.Errorf("change: %+v %+v", m, ch)
	}
	if strings.Contains(m.data, "secret-") {
		t.Errorf("the change shows an instance: %s", m.data)
	}
	if _, err := d.registry.PromoteTemplate(t.Context(), registry.System, "shop", "stable", "1", ""); err != nil {
		t.Fatal(err)
	}
	if m, ch := f.next(); m.event != api.KindChannel || ch.Channel.Name != "stable" {
		t.Errorf("promotion: %+v", m)
	}
	// A change of tokens moves the place to resume at, and says nothing.
	made, _, err := d.registry.CreateToken(t.Context(), registry.System, registry.TokenRequest{Name: "x", Role: registry.RoleViewer})
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := f.next(); m.id != fmt.Sprint(d.registry.View().Revision()) || m.data != "" || m.event != "" {
		t.Errorf("a token was made: %+v", m)
	}
	if err := d.registry.RevokeToken(t.Context(), registry.System, made.ID); err != nil {
		t.Fatal(err)
	}
	f.resp.Body.Close()

	// Who comes back gets what was missed, in order and nothing else.
	resumed := d.follow(viewer, "/v1/watch", id)
	for _, want := range []string{api.KindClone, api.KindChannel, "", ""} {
		if m, _ := resumed.next(); m.event != want {
			t.Errorf("resumed: got %+v, want %q", m, want)
		}
	}
	if m, _ := d.follow(viewer, "/v1/watch?after="+id, "").next(); m.event != api.KindClone {
		t.Errorf("after in the query: got %+v", m)
	}
}

// A client whose place is no longer kept, or was never ours, gets a list.
func TestWatchListsAnew(t *testing.T) {
	d := start(t, nil)
	d.register("1", "x", "ada")
	if kinds, _ := d.follow(viewer, "/v1/watch", "999999").list(); len(kinds) != 3 {
		t.Errorf("a place in the future: %v", kinds)
	}
	for i := range 9000 {
		ctx := t.Context()
		if err := d.registry.SetState(ctx, registry.System, "1", 1, []registry.State{registry.Degraded, registry.Ready}[i%2], fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	f := d.follow(viewer, "/v1/watch", "2")
	kinds, _ := f.list()
	if got := strings.Join(kinds, " "); got != "list clone listed" {
		t.Errorf("a place long past: %s", got)
	}
	d.register("2", "x", "ada")
	if m, ch := f.next(); m.event != api.KindClone || ch.Clone.ID != "2" {
		t.Errorf("after the list: %+v", m)
	}
	if p := d.send(func() *http.Request {
		r := d.request(viewer, "GET", "/v1/watch", "")
		r.Header.Set("Last-Event-ID", "x")
		return r
	}()).problem(t); p.Status != 422 || p.Errors[0].Location != "header.Last-Event-ID" {
		t.Errorf("a place that is no number: %+v", p)
	}
}

func TestEvents(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, new(api.Grant))
	var page api.EventPage
	d.do(viewer, "GET", "/v1/events?limit=2", "").into(t, 200, &page)
	if len(page.Events) != 2 || page.Events[1].Seq != 2 || page.Revision != 6 {
		t.Fatalf("first page: %+v", page)
	}
	d.do(viewer, "GET", "/v1/events?after=5", "").into(t, 200, &page)
	if e := page.Events[0]; len(page.Events) != 1 || e.Seq != 6 || e.Type != registry.EventCloneRegistered || e.Clone != "1234" || e.From != "127.0.0.1" || !strings.Contains(e.By, "clone-token") {
		t.Errorf("the registration: %+v", page.Events)
	}
	d.do(viewer, "GET", "/v1/events?after=6", "").into(t, 200, &page)
	if page.Events == nil || len(page.Events) != 0 {
		t.Errorf("after the newest: %+v", page.Events)
	}
	if p := d.do(viewer, "GET", "/v1/events?after=7", "").problem(t); p.Status != 422 {
		t.Errorf("after what has not happened: %+v", p)
	}

	f := d.follow(viewer, "/v1/events?after=2", "4")
	for seq := 5; seq <= 6; seq++ {
		if m, _ := f.next(); m.event != "event" || m.id != fmt.Sprint(seq) {
			t.Errorf("event %d: got %+v", seq, m)
		}
	}
	d.register("1", "x", "ada")
	if m, _ := f.next(); m.id != "7" || !strings.Contains(m.data, `"clone.registered"`) {
		t.Errorf("the event that came: %+v", m)
	}
}

// Events older than memory keeps come from the store, without a gap.
func TestEventsFromTheStore(t *testing.T) {
	store := registrytest.NewStore()
	first := start(t, func(s *registrytest.Store, kept *registry.Config, _ *api.Config) { kept.Store = store })
	for i := range 300 {
		first.register(registry.ID(fmt.Sprint(i)), "x", "ada")
	}
	first.stop()
	d := start(t, func(_ *registrytest.Store, kept *registry.Config, _ *api.Config) { kept.Store = store })
	f := d.follow(viewer, "/v1/events", "")
	newest := d.registry.View().Revision()
	for seq := uint64(1); seq <= newest; seq++ {
		if m, _ := f.next(); m.id != fmt.Sprint(seq) {
			t.Fatalf("got %+v, want event %d of %d", m, seq, newest)
		}
	}
}

func TestHeartbeat(t *testing.T) {
	d := start(t, func(_ *registrytest.Store, _ *registry.Config, cfg *api.Config) {
		cfg.Heartbeat = 20 * time.Millisecond
	})
	f := d.follow(viewer, "/v1/watch", "")
	f.list()
	for range 3 {
		if m, ok := f.read(); !ok || m.comment == "" {
			t.Fatalf("got %+v, want a comment", m)
		}
	}
	d.register("1", "x", "ada")
	if m, _ := f.next(); m.event != api.KindClone {
		t.Errorf("after heartbeats: %+v", m)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	d := start(t, func(_ *registrytest.Store, _ *registry.Config, cfg *api.Config) { cfg.Streams = 2 })
	one := d.follow(viewer, "/v1/watch", "")
	d.follow(viewer, "/v1/events", "")
	a := d.do(viewer, "GET", "/v1/watch", "")
	if p := a.problem(t); p.Status != 503 || p.Code != "streams" || a.header.Get("Retry-After") == "" {
		t.Errorf("a third stream: %+v", p)
	}
	d.wantMetric("clonegate_api_streams 2")
	one.resp.Body.Close()
	d.wantMetric("clonegate_api_streams 1")
	f := d.follow(viewer, "/v1/watch", "")
	f.list()
}

// wantMetric waits until a line stands among the metrics.
func (d *daemon) wantMetric(line string) {
	d.t.Helper()
	var body string
	for range 500 {
		body = d.do(viewer, "GET", "/metrics", "").body
		if strings.Contains(body, line+"\n") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	d.t.Fatalf("metrics never had %q:\n%s", line, body)
}

// A client that does not read is cut off; another one loses nothing by it.
func TestSlowClientIsCut(t *testing.T) {
	d := start(t, func(_ *registrytest.Store, _ *registry.Config, cfg *api.Config) {
		cfg.Patience = 2 * time.Second // the quick client shares a busy machine with us
	})
	labels := map[string]string{}
	for i := range 60 {
		labels[fmt.Sprintf("%0200d", i)] = strings.Repeat("v", 200)
	}
	for i := range 500 {
		reg := registry.Registration{Instance: "x", Labels: labels}
		if _, err := d.registry.Register(t.Context(), registry.System, registry.ID(fmt.Sprint(i)), reg, false); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(conn, "GET /v1/watch HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", d.addr, d.secrets[viewer])
	quick := d.follow(viewer, "/v1/watch", "")
	if kinds, _ := quick.list(); len(kinds) != 502 {
		t.Errorf("the quick client got %d messages, want 502", len(kinds))
	}
	d.wantMetric("clonegate_api_streams 1")
	d.register("999", "x", "ada")
	if _, ch := quick.next(); ch.Clone == nil || ch.Clone.ID != "999" {
		t.Errorf("the quick client got %+v", ch)
	}
}

// A stream ends with its token and with the daemon.
func TestStreamsEnd(t *testing.T) {
	d := start(t, func(_ *registrytest.Store, _ *registry.Config, cfg *api.Config) {
		cfg.Heartbeat = 20 * time.Millisecond
	})
	made, secret, err := d.registry.CreateToken(t.Context(), registry.System, registry.TokenRequest{Name: "x", Role: registry.RoleViewer})
	if err != nil {
		t.Fatal(err)
	}
	d.secrets["made"] = secret
	revoked, kept := d.follow("made", "/v1/watch", ""), d.follow(viewer, "/v1/watch", "")
	revoked.list()
	kept.list()
	if err := d.registry.RevokeToken(t.Context(), registry.System, made.ID); err != nil {
		t.Fatal(err)
	}
	for {
		if _, ok := revoked.read(); !ok {
			break
		}
	}
	d.register("1", "x", "ada")
	for {
		if m, _ := kept.next(); m.event == api.KindClone {
			break
		}
	}
	d.api.Close()
	for {
		if _, ok := kept.read(); !ok {
			break
		}
	}
	if p := d.do(viewer, "GET", "/v1/watch", "").problem(t); p.Status != 503 || p.Code != "closing" {
		t.Errorf("a stream after Close: %+v", p)
	}
}

// A stream with nothing to say outlives its own patience and the server's
// bounds, over both protocols.
func TestIdleStreamsLive(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			d := start(t, func(_ *registrytest.Store, _ *registry.Config, cfg *api.Config) {
				cfg.Patience = 50 * time.Millisecond
				cfg.Hosts = []string{"example.com"}
			})
			server := httptest.NewUnstartedServer(nil)
			server.Config = d.api.Server()
			server.Config.WriteTimeout = 50 * time.Millisecond
			server.EnableHTTP2 = proto == "HTTP/2.0"
			server.StartTLS()
			t.Cleanup(server.Close)
			d.client, d.url = server.Client(), server.URL
			f := d.follow(viewer, "/v1/watch", "")
			if f.resp.Proto != proto {
				t.Fatalf("over %s", f.resp.Proto)
			}
			f.list()
			time.Sleep(200 * time.Millisecond) // four times what a write may take
			d.register("1", "x", "ada")
			if m, _ := f.next(); m.event != api.KindClone {
				t.Errorf("got %+v", m)
			}
		})
	}
}

// HEAD asks whether there is a stream, not for one.
func TestHeadOfAStream(t *testing.T) {
	d := start(t, nil)
	for range 3 {
		if a := d.do(viewer, "HEAD", "/v1/watch", ""); a.status != 200 || a.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("status %d, Content-Type %q", a.status, a.header.Get("Content-Type"))
		}
	}
	d.wantMetric("clonegate_api_streams 0")
}
