package load_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// newGateway serves with net/http, over HTTP/1.1 and HTTP/2, what handle says
// for the clone of a request.
func newGateway(t *testing.T, handle func(w http.ResponseWriter, id int)) netip.AddrPort {
	t.Helper()
	dir := t.TempDir()
	if err := lab.WriteCertificate(dir); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, lab.CertFile), filepath.Join(dir, lab.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		label, _, _ := strings.Cut(r.Host, ".")
		id, err := strconv.Atoi(strings.TrimPrefix(label, "www-"))
		if err != nil {
			t.Errorf("asked for host %q", r.Host)
		}
		handle(w, id)
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

func right(w http.ResponseWriter, id int) {
	body := load.Addr(id).String() + "\n" + strings.Repeat("x", 1000)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write([]byte(body))
}

var drivers = map[string]load.Driver{
	"HTTP/1.1": load.HTTP1, "HTTP/2": load.HTTP2, "handshake": load.Handshake, "resumed": load.Resume,
}

func plan(gateway netip.AddrPort) load.Plan {
	return load.Plan{Gateway: gateway, Clones: 10, Conns: 3, Streams: 4, Warm: 20 * time.Millisecond, Dur: 100 * time.Millisecond}
}

func TestRightAnswers(t *testing.T) {
	gateway := newGateway(t, right)
	for name, drive := range drivers {
		t.Run(name, func(t *testing.T) {
			r, err := plan(gateway).Run(t.Context(), drive)
			if err != nil || r.Err() != nil {
				t.Fatal(err, r.Err())
			}
			if r.OK == 0 || r.Cut != 0 || r.Latency(50) <= 0 || r.Latency(50) > r.Latency(100) {
				t.Errorf("%d answers, %d cut, median %s, longest %s", r.OK, r.Cut, r.Latency(50), r.Latency(100))
			}
		})
	}
}

func TestFixedRate(t *testing.T) {
	gateway := newGateway(t, right)
	for _, name := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(name, func(t *testing.T) {
			p := plan(gateway)
			p.Rate, p.Dur = 200, 500*time.Millisecond
			r, err := p.Run(t.Context(), drivers[name])
			if err != nil || r.Err() != nil {
				t.Fatal(err, r.Err())
			}
			if r.OK > 150 {
				t.Errorf("%d requests in half a second at 200 per second", r.OK)
			}
		})
	}
}

// TestWrongAnswers shows that whatever is not the clone's answer is a failure.
func TestWrongAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		handle func(w http.ResponseWriter, id int)
		want   string
	}{
		"another clone": {func(w http.ResponseWriter, id int) { right(w, id+1) }, "another clone answered"},
		"an error page": {func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusBadGateway) }, ""},
		"an abort":      {func(http.ResponseWriter, int) { panic(http.ErrAbortHandler) }, ""},
	} {
		gateway := newGateway(t, tt.handle)
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				r, err := plan(gateway).Run(t.Context(), drivers[protocol])
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Err(); r.OK > 0 || r.Failed == 0 || err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%d right answers, %d failures: %v; want failures only, with %q", r.OK, r.Failed, err, tt.want)
				}
			})
		}
		if err := (&load.Visitor{Gateway: gateway}).Get(3); err == nil {
			t.Errorf("%s: a visitor took it for the clone's answer", name)
		}
	}
}

// TestCut shows that a kept connection that the gateway ends is counted and
// hurts no user.
func TestCut(t *testing.T) {
	gateway := newGateway(t, func(w http.ResponseWriter, id int) {
		w.Header().Set("Connection", "close")
		right(w, id)
	})
	r, err := plan(gateway).Run(t.Context(), load.HTTP1)
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	if r.Cut == 0 {
		t.Errorf("%d answers ended their connections, and none was counted", r.OK)
	}
}

func TestHold(t *testing.T) {
	release, err := load.Hold(newGateway(t, right), 10, 20)
	if err != nil {
		t.Fatal(err)
	}
	release()
}
