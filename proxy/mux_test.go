package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/clonegate/clonegate/proxy"
)

// conn2 opens one connection that speaks HTTP/2, for whatever names.
func (b *bench) conn2() *http.ClientConn {
	b.t.Helper()
	cc, err := b.h2.Transport.(*http.Transport).NewClientConn(b.t.Context(), "https", "www-1."+zone+":443")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cc.Close() })
	return cc
}

// A framer2 speaks HTTP/2 frame by frame.
type framer2 struct {
	*h2.Framer
	conn  net.Conn
	block bytes.Buffer
	enc   *hpack.Encoder
}

// frames opens a connection for frames.
func (b *bench) frames() *framer2 {
	b.t.Helper()
	c := b.dialTLS("www-1."+zone, "h2")
	io.WriteString(c, h2.ClientPreface)
	f := &framer2{Framer: h2.NewFramer(c, c), conn: c}
	f.enc = hpack.NewEncoder(&f.block)
	f.WriteSettings()
	f.WriteSettingsAck()
	return f
}

// head returns the field block of a request; more are fields.
func (f *framer2) head(method, path string, more ...string) []byte {
	f.block.Reset()
	fields := append([]string{":method", method, ":scheme", "https", ":authority", "www-1." + zone, ":path", path}, more...)
	for i := 0; i < len(fields); i += 2 {
		f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return f.block.Bytes()
}

// end reads frames until the connection ends, and returns the last GOAWAY's code.
func (f *framer2) end() (code h2.ErrCode, told bool) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return code, told
		}
		if away, ok := fr.(*h2.GoAwayFrame); ok {
			code, told = away.ErrCode, true
		}
	}
}

// TestHundredStreams has a hundred requests at work on one connection at once.
func TestHundredStreams(t *testing.T) {
	const streams = 100
	b := newBench(t)
	var arrived sync.WaitGroup
	arrived.Add(streams)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		arrived.Done()
		arrived.Wait()
		fmt.Fprint(w, r.URL.Path)
	})
	cc := b.conn2()
	var all sync.WaitGroup
	for i := range streams {
		all.Go(func() {
			path := fmt.Sprintf("/%d", i)
			req, _ := http.NewRequest("GET", "https://www-1."+zone+path, nil)
			res, err := cc.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			if body, err := io.ReadAll(res.Body); string(body) != path || err != nil {
				t.Errorf("got %q, %v; want %s", body, err, path)
			}
		})
	}
	all.Wait()
}

// TestFieldsOverHTTP2 looks at what a clone gets and what a client gets back.
func TestFieldsOverHTTP2(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %q %q %d", r.Proto, r.Host, r.RequestURI, r.Header["Cookie"], r.Header["X-Odd_name"], r.ContentLength)
	})
	f := b.frames()
	f.WriteHeaders(h2.HeadersFrameParam{
		StreamID: 1, EndStream: true, EndHeaders: true,
		BlockFragment: f.head("GET", "/a|b?c=%zz", "cookie", "a=1", "cookie", "b=2", "x-odd_name", "kept"),
	})
	if want, got := "HTTP/1.1 www-1."+zone+` /a|b?c=%zz ["a=1; b=2"] ["kept"] 0`, f.body(t, 1); got != want {
		t.Errorf("the clone saw %s; want %s", got, want)
	}
	res := b.do(b.h2, "https://www-1."+zone+"/", method("HEAD"))
	if res.StatusCode != 200 || res.ContentLength <= 0 || res.Header.Get("Date") == "" || res.Header.Get("Connection") != "" {
		t.Errorf("HEAD: got %d, length %d, fields %v", res.StatusCode, res.ContentLength, res.Header)
	}
}

// body reads the answer on a stream.
func (f *framer2) body(t testing.TB, id uint32) string {
	t.Helper()
	var body strings.Builder
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("after %q: %v", body.String(), err)
		}
		if fr.Header().StreamID != id {
			continue
		}
		switch fr := fr.(type) {
		case *h2.DataFrame:
			body.Write(fr.Data())
		case *h2.RSTStreamFrame:
			t.Fatalf("after %q: reset with %v", body.String(), fr.ErrCode)
		}
		if fr.Header().Flags.Has(h2.FlagDataEndStream) && fr.Header().Type <= h2.FrameHeaders {
			return body.String()
		}
	}
}

// TestRefusedOverHTTP2 sends what HTTP/2 allows and clones could misread.
func TestRefusedOverHTTP2(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(http.ResponseWriter, *http.Request) { t.Error("the clone was asked") })
	for name, tt := range map[string]struct {
		method, path string
		fields       []string
		reason       proxy.Reason
	}{
		"another host":           {"GET", "/", []string{"host", "www-2." + zone}, proxy.BadRequest},
		"an escape that is none": {"GET", "/a%zz", nil, proxy.BadRequest},
		"a fragment":             {"GET", "/a#b", nil, proxy.BadRequest},
		"framing in trailers":    {"GET", "/", []string{"trailer", "content-length"}, proxy.BadRequest},
		"another protocol":       {"CONNECT", "/", []string{":protocol", "connect-udp"}, proxy.MethodRefused},
	} {
		f := b.frames()
		block := f.head(tt.method, tt.path, tt.fields...)
		f.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: block})
		if got := f.body(t, 1); !strings.Contains(got, `"code": "`+string(tt.reason)+`"`) && !strings.Contains(got, `"code":"`+string(tt.reason)+`"`) {
			t.Errorf("%s: got %s; want %s", name, got, tt.reason)
		}
	}
}

// TestFloodsHarmNobody has clients that cost more than they carry. Their
// connections end for it, memory stays bounded, and others are served meanwhile.
func TestFloodsHarmNobody(t *testing.T) {
	b := newBench(t)
	b.serve("1", who("1"))
	floods := map[string]func(f *framer2, i uint32) error{
		"PING":     func(f *framer2, _ uint32) error { return f.WritePing(false, [8]byte{}) },
		"SETTINGS": func(f *framer2, _ uint32) error { return f.WriteSettings() },
		"empty DATA": func(f *framer2, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: f.head("POST", "/")})
			}
			return f.WriteData(1, false, nil)
		},
		"CONTINUATION": func(f *framer2, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: f.head("GET", "/")})
			}
			return f.WriteContinuation(1, false, nil)
		},
		"rapid reset": func(f *framer2, i uint32) error {
			f.WriteHeaders(h2.HeadersFrameParam{StreamID: 2*i + 1, EndStream: true, EndHeaders: true, BlockFragment: f.head("GET", "/")})
			return f.WriteRSTStream(2*i+1, h2.ErrCodeCancel)
		},
	}
	for name, send := range floods {
		t.Run(name, func(t *testing.T) {
			var before, during runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			f := b.frames()
			go func() {
				for i := uint32(0); send(f, i) == nil && i < 100_000; i++ {
				}
			}()
			ended := make(chan h2.ErrCode)
			go func() {
				code, _ := f.end()
				ended <- code
			}()
			for served := 0; ; served++ {
				if got := b.do(b.h2, "https://www-1."+zone+"/"); got.StatusCode != 200 {
					t.Fatalf("another client: got %d", got.StatusCode)
				}
				select {
				case code := <-ended:
					if code != h2.ErrCodeEnhanceYourCalm && code != h2.ErrCodeNo { // a reset may overtake GOAWAY
						t.Errorf("the connection ended with %v", code)
					}
					runtime.ReadMemStats(&during)
					if grown := int64(during.HeapInuse) - int64(before.HeapInuse); grown > 32<<20 {
						t.Errorf("the heap grew by %d octets", grown)
					}
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	if got := b.series("clonegate_proxy_http2_events_total")["flood "]; got != float64(len(floods)) {
		t.Errorf("%v floods are counted; want %d: %v", got, len(floods), b.series("clonegate_proxy_http2_events_total"))
	}
}

// TestResetCancels has a client give up a request that its clone works on.
func TestResetCancels(t *testing.T) {
	b := newBench(t)
	working, cancelled := make(chan struct{}), make(chan time.Time, 1)
	b.serve("1", func(_ http.ResponseWriter, r *http.Request) {
		close(working)
		<-r.Context().Done()
		cancelled <- time.Now()
	})
	f := b.frames()
	f.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: f.head("GET", "/")})
	<-working
	start := time.Now()
	f.WriteRSTStream(1, h2.ErrCodeCancel)
	if d := (<-cancelled).Sub(start); d > 500*time.Millisecond {
		t.Errorf("the clone heard of it after %s; want 0.1 s on an idle machine", d)
	}
	line := b.log.requests(t, 1)[0]
	if line["status"] != 499.0 || line["reason"] != string(proxy.ClientGone) || line["proto"] != "HTTP/2.0" {
		t.Errorf("access log: %v; want 499", line)
	}
}

// TestStalledUploadOverHTTP2 is told, though the body never ends.
func TestStalledUploadOverHTTP2(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.StallTimeout = 400 * time.Millisecond })
	b.serve("1", func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	f := b.frames()
	f.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: f.head("POST", "/")})
	if got := f.body(t, 1); !strings.Contains(got, string(proxy.BodyTimeout)) {
		t.Errorf("got %s; want %s", got, proxy.BodyTimeout)
	}
}

// TestDrainOverHTTP2 stops a gateway under a request: the client is told to open
// no more, and the request ends.
func TestDrainOverHTTP2(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.DrainGrace = 5 * time.Second })
	working, finish := make(chan struct{}), make(chan struct{})
	b.serve("1", func(w http.ResponseWriter, _ *http.Request) {
		close(working)
		<-finish
		io.WriteString(w, "finished")
	})
	f := b.frames()
	f.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: f.head("GET", "/")})
	<-working
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := fr.(*h2.GoAwayFrame); ok {
			break
		}
	}
	close(finish)
	if got := f.body(t, 1); got != "finished" {
		t.Errorf("got %q", got)
	}
	f.conn.Close()
	<-stopped
}

// TestProgramsOverHTTP2 has programs that are not ours speak to the gateway.
func TestProgramsOverHTTP2(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.serve("1", who("1"))
	host := "www-1.test-envs.example.com" // h2load takes no underscores
	_, port, _ := strings.Cut(b.addr, ":")
	for _, tt := range []struct{ program, args, want string }{
		{"curl", "--silent --insecure --http2 --write-out HTTP/%{http_version} --resolve " + host + ":" + port + ":127.0.0.1 https://" + host + ":" + port + "/", "HTTP/2"},
		{"h2load", "--requests=2000 --clients=10 --max-concurrent-streams=20 --connect-to=" + b.addr + " https://" + host + ":" + port + "/", "2000 succeeded, 0 failed, 0 errored, 0 timeout"},
	} {
		t.Run(tt.program, func(t *testing.T) {
			program, err := exec.LookPath(tt.program)
			if err != nil {
				t.Skipf("NOT TESTED: %s is not installed; .ci/install installs it", tt.program)
			}
			out, err := exec.CommandContext(t.Context(), program, strings.Fields(tt.args)...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v; want %q in\n%s", err, tt.want, out)
			}
		})
	}
}

// TestAbortsAreCarriedBack has a client stop in the middle of its upload: the
// clone must not take what it got for the whole.
func TestAbortsAreCarriedBack(t *testing.T) {
	b := newBench(t)
	ended := make(chan error, 1)
	b.serve("1", func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	})
	f := b.frames()
	f.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: f.head("POST", "/")})
	f.WriteData(1, false, make([]byte, 1000))
	f.WriteRSTStream(1, h2.ErrCodeCancel)
	select {
	case err := <-ended:
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the clone read to a good end: %v", err)
		}
	case <-time.After(5 * time.Second):
		if lines := b.log.requests(t, 1); len(lines) == 0 { // the reset may come before the clone is asked
			t.Error("the clone still waits")
		}
	}
}
