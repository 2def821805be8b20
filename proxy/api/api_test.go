package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/clonegate/clonegate/proxy"
	proxyapi "github.com/clonegate/clonegate/proxy/api"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A daemon is an API and a gateway over one registry, with clone 7.
type daemon struct {
	t        *testing.T
	registry *registry.Registry
	url      string
	web      *http.Client // speaks to the gateway, whatever the name
	secrets  map[string]string
}

func start(t *testing.T) *daemon {
	t.Helper()
	networks := registry.NewNetworks([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	r := registrytest.New(t, func(c *registry.Config) { c.Networks = networks })
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken":
			w.WriteHeader(500)
		case "/away":
			w.Header().Set("Location", "https://pay.shop.example/")
		}
	}))
	t.Cleanup(up.Close)
	_, err := r.Register(t.Context(), registry.System, "7", registry.Registration{
		Instance: "a", Production: map[string]string{"www.shop.example": "www"}, Services: map[string]registry.ServiceRegistration{"www": {Endpoints: []string{up.Listener.Addr().String()}}},
	}, true)
	must(t, err)
	secure := httptest.NewTLSServer(nil) // for its certificate
	config := secure.TLS
	secure.Close()
	gateway, err := proxy.New(proxy.Config{Routes: r.View(), Zones: r.View().Zones(), TLS: config, CheckEndpoint: networks.Check})
	must(t, err)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	a, err := api.New(api.Config{Registry: r, Heartbeat: 20 * time.Millisecond})
	must(t, err)
	proxyapi.Register(a, gateway)
	d := &daemon{t: t, registry: r, secrets: map[string]string{}}
	for name, req := range map[string]registry.TokenRequest{
		"viewer": {Role: registry.RoleViewer},
		"own":    {Role: registry.RoleClone, IDs: []string{"7"}},
		"other":  {Role: registry.RoleClone, IDs: []string{"8-9"}},
	} {
		req.Name = name
		_, d.secrets[name], err = r.CreateToken(t.Context(), registry.System, req)
		must(t, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	d.url = "http://" + ln.Addr().String()
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", front.Addr().String())
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	d.web = &http.Client{Transport: tr}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- gateway.Run(ctx, proxy.Listeners{HTTPS: []net.Listener{front}}) }()
	web := a.Server()
	go func() { ended <- web.Serve(ln) }()
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		must(t, web.Close())
		<-ended
		<-ended
		http.DefaultClient.CloseIdleConnections()
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask sends a request to clone 7.
func (d *daemon) ask(path string) {
	d.t.Helper()
	resp, err := d.web.Get("https://www-7." + registrytest.Zone + path)
	must(d.t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	must(d.t, err)
	resp.Body.Close()
}

func (d *daemon) open(ctx context.Context, token, path string, change ...func(*http.Request)) *http.Response {
	d.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", d.url+path, nil)
	must(d.t, err)
	req.Header.Set("Authorization", "Bearer "+d.secrets[token])
	for _, fn := range change {
		fn(req)
	}
	resp, err := http.DefaultClient.Do(req)
	must(d.t, err)
	return resp
}

func (d *daemon) call(token, path string) (int, string) {
	d.t.Helper()
	resp := d.open(d.t.Context(), token, path)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(d.t, err)
	return resp.StatusCode, string(text)
}

// fill sends requests and waits until they are recorded.
func (d *daemon) fill(paths ...string) {
	d.t.Helper()
	for _, p := range paths {
		d.ask(p)
	}
	last := `"path":"` + paths[len(paths)-1] + `"`
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if _, body := d.call("viewer", "/v1/clones/7/requests?limit=1"); strings.Contains(body, last) {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("%s is not recorded", last)
		}
	}
}

func TestList(t *testing.T) {
	d := start(t)
	if status, body := d.call("viewer", "/v1/clones/7/requests"); status != 200 || strings.TrimSpace(body) != `{"requests":[]}` {
		t.Errorf("before the first request: %d %s; want an empty list", status, body)
	}
	d.fill("/a", "/broken", "/c")
	for _, tt := range []struct {
		token, path string
		status      int
		want        string // paths, or a part of the problem
	}{
		{"viewer", "/v1/clones/7/requests", 200, "/a /broken /c"},
		{"own", "/v1/clones/7/requests", 200, "/a /broken /c"},
		{"other", "/v1/clones/7/requests", 403, "was not issued for clone 7"},
		{"viewer", "/v1/clones/7/requests?limit=2", 200, "/broken /c"},
		{"viewer", "/v1/clones/7/requests?status=5xx", 200, "/broken"},
		{"viewer", "/v1/clones/7/requests?status=200&service=www", 200, "/a /c"},
		{"viewer", "/v1/clones/7/requests?service=api", 200, ""},
		{"viewer", "/v1/clones/7/requests?reason=unreachable", 200, ""},
		{"viewer", "/v1/clones/7/requests?status=6xx", 422, "status"},
		{"viewer", "/v1/clones/7/requests?status=x", 422, "status"},
		{"viewer", "/v1/clones/8/requests", 404, "not found"},
		{"viewer", "/v1/clones/8/requests?follow=true", 404, "not found"},
		{"viewer", "/v1/clones/Ü/requests", 422, "id"},
	} {
		status, body := d.call(tt.token, tt.path)
		var list proxyapi.RequestList
		if status == 200 {
			must(t, json.Unmarshal([]byte(body), &list))
			var paths []string
			for _, r := range list.Requests {
				paths = append(paths, r.Path)
			}
			body = strings.Join(paths, " ")
		}
		if status != tt.status || status == 200 && body != tt.want || !strings.Contains(body, tt.want) {
			t.Errorf("%s as %s: %d %s; want %d %s", tt.path, tt.token, status, body, tt.status, tt.want)
		}
	}
}

func TestEscapes(t *testing.T) {
	d := start(t)
	d.fill("/away")
	d.fill("/away", "/home")
	for _, tt := range []struct {
		token, path string
		status      int
		want        string
	}{
		{"viewer", "/v1/clones/7/escapes", 200, `"name":"pay.shop.example","field":"Location","service":"www","path":"/away","count":2,`},
		{"own", "/v1/clones/7/escapes", 200, `"total":2`},
		{"other", "/v1/clones/7/escapes", 403, "was not issued for clone 7"},
		{"viewer", "/v1/clones/8/escapes", 404, "not found"},
		{"viewer", "/v1/clones/Ü/escapes", 422, "id"},
	} {
		if status, body := d.call(tt.token, tt.path); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s as %s: %d %s; want %d %s", tt.path, tt.token, status, body, tt.status, tt.want)
		}
	}
	_, err := d.registry.Unregister(t.Context(), registry.System, "7", "")
	must(t, err)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		_, body := d.call("viewer", "/v1/clones/7/escapes")
		if strings.TrimSpace(body) == `{"escapes":[],"total":0}` {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("of a clone that is gone: %s; want nothing", body)
		}
	}
}

// A stream is the messages of one, but for those that only show that it lives.
type stream struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Reader
}

func (d *daemon) follow(path string, change ...func(*http.Request)) *stream {
	d.t.Helper()
	resp := d.open(d.t.Context(), "viewer", path, change...)
	d.t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" {
		d.t.Fatalf("%s: %d, Content-Type %q; want a stream", path, resp.StatusCode, got)
	}
	return &stream{d.t, resp, bufio.NewReader(resp.Body)}
}

// next returns the kind, ID and data of the next message.
func (s *stream) next() (kind, id, data string) {
	s.t.Helper()
	for {
		line, err := s.lines.ReadString('\n')
		must(s.t, err)
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			kind = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if kind != "" {
				return kind, id, data
			}
		}
	}
}

func (s *stream) want(path string) (id string) {
	s.t.Helper()
	kind, id, data := s.next()
	if kind != proxyapi.KindRequest || !strings.Contains(data, `"path":"`+path+`"`) {
		s.t.Fatalf("got %s %s; want the request for %s", kind, data, path)
	}
	return id
}

func TestFollow(t *testing.T) {
	d := start(t)
	d.fill("/1", "/2", "/3")
	s := d.follow("/v1/clones/7/requests?follow=true&limit=2")
	s.want("/2")
	s.want("/3")
	d.fill("/4")
	id := s.want("/4")
	d.fill("/5", "/broken", "/6")
	s.want("/5")
	resumed := d.follow("/v1/clones/7/requests?status=2xx", func(r *http.Request) {
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Last-Event-ID", id)
	})
	resumed.want("/5")
	resumed.want("/6")
	_, err := d.registry.Unregister(t.Context(), registry.System, "7", "")
	must(t, err)
	if kind, _, data := resumed.next(); kind != proxyapi.KindEnd {
		t.Errorf("at the clone's end: %s %s; want the end", kind, data)
	}
	if rest, err := io.ReadAll(resumed.lines); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v; want nothing", rest, err)
	}
	if status, body := d.call("viewer", "/v1/clones/7/requests?follow=true"); status != 410 {
		t.Errorf("to follow a clone that is gone: %d %s; want 410", status, body)
	}
	if status, body := d.call("viewer", "/v1/clones/7/requests"); status != 200 || strings.TrimSpace(body) != `{"requests":[]}` {
		t.Errorf("of a clone that is gone: %d %s; want nothing", status, body)
	}
}

// TestSlowFollowerIsTold has a clone be asked for more often than is kept.
func TestSlowFollowerIsTold(t *testing.T) {
	d := start(t)
	d.fill("/first")
	s := d.follow("/v1/clones/7/requests?follow=true")
	s.want("/first")
	d.fill("/second")
	s.want("/second") // now it pauses
	for range 400 {
		d.ask("/many")
	}
	missed, shown := uint64(0), 0
	for missed+uint64(shown) < 400 {
		switch kind, _, data := s.next(); kind {
		case proxyapi.KindRequest:
			shown++
		case proxyapi.KindMissed:
			var m proxyapi.Missed
			must(t, json.Unmarshal([]byte(data), &m))
			missed += m.Requests
		}
	}
	if missed+uint64(shown) != 400 {
		t.Errorf("%d shown and %d missed; want 400 together", shown, missed)
	}
}
