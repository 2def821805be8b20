package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// TestH2CStreams speaks to a service as gRPC does: HTTP/2 without TLS behind the
// gateway, messages both ways, the status in trailers.
func TestH2CStreams(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.ResponseTimeout = 100 * time.Millisecond })
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			t.Errorf("the clone got %s with TE %q", r.Proto, r.Header.Get("Te"))
		}
		w.Header().Set("Content-Type", "application/grpc")
		in := bufio.NewScanner(r.Body)
		for in.Scan() {
			time.Sleep(150 * time.Millisecond) // the head comes with the first message
			fmt.Fprintln(w, "echo", in.Text())
			w.(http.Flusher).Flush()
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	b.register("1", map[string]registry.ServiceRegistration{"grpc": {Endpoints: []string{s.Listener.Addr().String()}, Protocol: registry.H2C}})

	r, w := io.Pipe()
	go fmt.Fprintln(w, "one")
	req, _ := http.NewRequest("POST", "https://grpc-1."+zone+"/shop.Stock/Watch", r)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	res, err := b.h2.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for i, word := range []string{"one", "two", "three"} {
		if i > 0 {
			fmt.Fprintln(w, word)
		}
		if line, err := in.ReadString('\n'); line != "echo "+word+"\n" {
			t.Fatalf("got %q, %v; want the echo of %s", line, err, word)
		}
	}
	w.Close()
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("then %q, %v, status %q; want the end and status 0", rest, err, res.Trailer.Get("Grpc-Status"))
	}
}

// TestProtocolsOfEndpoints asks services that speak TLS, and HTTP/2 without it.
func TestProtocolsOfEndpoints(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.ResponseTimeout = 500 * time.Millisecond })
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
		}
		fmt.Fprint(w, r.Proto, " ", r.TLS != nil)
	})
	secure := httptest.NewTLSServer(h)
	defer secure.Close()
	h2c := httptest.NewUnstartedServer(h)
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	defer h2c.Close()
	b.register("1", map[string]registry.ServiceRegistration{
		"secure": {Endpoints: []string{secure.Listener.Addr().String()}, Protocol: registry.HTTPS},
		"fast":   {Endpoints: []string{h2c.Listener.Addr().String()}, Protocol: registry.H2C},
		"wrong":  {Endpoints: []string{h2c.Listener.Addr().String()}, Protocol: registry.HTTPS},
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		for service, want := range map[string]string{"secure": "HTTP/1.1 true", "fast": "HTTP/2.0 false"} {
			if got := b.do(c, "https://"+service+"-1."+zone+"/"); got.body != want {
				t.Errorf("%s: got %d %q; want %q", service, got.StatusCode, got.body, want)
			}
		}
		b.do(c, "https://wrong-1."+zone+"/").wantReason(t, 502, proxy.UpstreamBroken)
		b.do(c, "https://fast-1."+zone+"/silent").wantReason(t, 504, proxy.UpstreamTimeout)
	})
}
