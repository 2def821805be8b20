package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// A moody is an endpoint that speaks HTTP/2 frame by frame, and does on each
// stream what its path says.
type moody struct {
	ln net.Listener

	mu    sync.Mutex
	asked map[string]int // guarded by mu; how often a path came
}

// moody registers a clone with a service of that kind.
func (b *bench) moody(id registry.ID) *moody {
	b.t.Helper()
	m := &moody{ln: listen(b.t), asked: map[string]int{}}
	b.t.Cleanup(func() { m.ln.Close() })
	go func() {
		for {
			c, err := m.ln.Accept()
			if err != nil {
				return
			}
			go m.serve(c)
		}
	}()
	b.register(id, map[string]registry.ServiceRegistration{"www": {Endpoints: []string{m.ln.Addr().String()}, Protocol: registry.H2C}})
	return m
}

// count notes that a path was asked for and returns how often it was.
func (m *moody) count(path string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[path]++
	return m.asked[path]
}

func (m *moody) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(c, make([]byte, len(h2.ClientPreface))); err != nil {
		return
	}
	f := h2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.AllowIllegalWrites = true
	f.WriteSettings()
	var open []uint32 // streams
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := fr.(type) {
		case *h2.SettingsFrame:
			if !fr.IsAck() {
				f.WriteSettingsAck()
			}
		case *h2.MetaHeadersFrame:
			switch path := fr.PseudoValue("path"); path {
			case "/stream":
				open = append(open, fr.StreamID)
			case "/tick":
				for _, id := range open {
					f.WriteData(id, false, []byte("tick"))
				}
			}
			if !m.answer(f, fr.StreamID, fr.PseudoValue("path")) {
				return
			}
		}
	}
}

// answer does what a path says; false ends the connection.
func (m *moody) answer(f *h2.Framer, id uint32, path string) bool {
	n := m.count(path)
	head := func(end bool) {
		var block bytes.Buffer
		hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		f.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
	var code h2.ErrCode
	switch {
	case path == "/stream": // stays open
		head(false)
	case path == "/once" && n == 1:
		f.WriteRSTStream(id, h2.ErrCodeRefusedStream)
	case scan(path, "/reset/%d", &code):
		f.WriteRSTStream(id, code)
	case scan(path, "/body/%d", &code):
		head(false)
		f.WriteData(id, false, []byte("hello"))
		f.WriteRSTStream(id, code)
	case path == "/away":
		f.WriteGoAway(id, h2.ErrCodeInternal, nil)
		return false
	case path == "/close":
		return false
	case path == "/garbage":
		f.WriteRawFrame(h2.FrameHeaders, h2.FlagHeadersEndHeaders, id, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	case path == "/unasked":
		f.WriteData(id+100, true, []byte("evil"))
	case path == "/nothing": // no head before the body
		f.WriteData(id, true, []byte("evil"))
	default:
		head(false)
		f.WriteData(id, true, []byte(path))
		f.WriteRSTStream(id, h2.ErrCodeNo)
	}
	return true
}

func scan(s, format string, into *h2.ErrCode) bool {
	_, err := fmt.Sscanf(s, format, into)
	return err == nil
}

// TestStreamsThatAreReset has an endpoint that speaks HTTP/2 end single streams, or
// all, in every way there is: each request gets a clear refusal or an answer that
// is visibly cut, and those that were at work on the same connection are
// unharmed if only a stream was ended.
func TestStreamsThatAreReset(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.ResponseTimeout = 10 * time.Second })
	b.moody("1")
	b.serve("well", who("well"))
	b.each(t, func(t *testing.T, c *http.Client) {
		stream, err := c.Get("https://www-1." + zone + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Body.Close()
		for _, tt := range []struct {
			path   string
			reason proxy.Reason
			body   string // of an answer
			cut    bool
		}{
			{"/ok", "", "/ok", false},
			{"/once", "", "/once", false},
			{fmt.Sprint("/reset/", uint32(h2.ErrCodeInternal)), proxy.UpstreamBroken, "", false},
			{fmt.Sprint("/reset/", uint32(h2.ErrCodeCancel)), proxy.UpstreamBroken, "", false},
			{fmt.Sprint("/reset/", uint32(h2.ErrCodeEnhanceYourCalm)), proxy.UpstreamBroken, "", false},
			{fmt.Sprint("/reset/", uint32(h2.ErrCodeNo)), proxy.UpstreamBroken, "", false},
			{fmt.Sprint("/reset/", uint32(h2.ErrCodeRefusedStream)), proxy.Overloaded, "", false},
			{fmt.Sprint("/body/", uint32(h2.ErrCodeInternal)), "", "hello", true},
			{fmt.Sprint("/body/", uint32(h2.ErrCodeRefusedStream)), "", "hello", true},
			{fmt.Sprint("/body/", uint32(h2.ErrCodeNo)), "", "hello", true},
			{"/nothing", proxy.UpstreamBroken, "", false},
		} {
			for _, m := range []string{"GET", "POST"} {
				start := time.Now()
				b.wantReset(t, c, m, tt.path, tt.reason, tt.body, tt.cut)
				if d := time.Since(start); d > 5*time.Second {
					t.Errorf("%s: it took %s", tt.path, d)
				}
				if got := b.do(c, "https://www-1."+zone+"/ok"); got.body != "/ok" {
					t.Errorf("after %s: got %d %q", tt.path, got.StatusCode, got.body)
				}
				if got := b.do(c, "https://www-well."+zone+"/"); got.StatusCode != 200 {
					t.Errorf("another clone after %s: got %d", tt.path, got.StatusCode)
				}
			}
		}
		b.do(c, "https://www-1."+zone+"/tick")
		tick := make([]byte, 4)
		if _, err := io.ReadFull(stream.Body, tick); string(tick) != "tick" {
			t.Errorf("the stream beside them: got %q, %v; want it to go on", tick, err)
		}
		for _, path := range []string{"/away", "/close", "/garbage", "/unasked"} {
			b.wantReset(t, c, "POST", path, proxy.UpstreamBroken, "", false)
			if got := b.do(c, "https://www-1."+zone+"/ok"); got.body != "/ok" {
				t.Errorf("after %s: got %d %q", path, got.StatusCode, got.body)
			}
		}
		if rest, err := io.ReadAll(stream.Body); err == nil {
			t.Errorf("the stream on a connection that has ended: got %q and a good end", rest)
		}
	})
}

// wantReset asks for a path and compares what came.
func (b *bench) wantReset(t *testing.T, c *http.Client, method, path string, reason proxy.Reason, body string, cut bool) {
	t.Helper()
	req, _ := http.NewRequest(method, "https://www-1."+zone+path, nil)
	if method == "POST" {
		req.Body = io.NopCloser(strings.NewReader("some body"))
	}
	res, err := c.Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	switch is := res.Header.Get("Clonegate-Reason"); {
	case is != string(reason):
		t.Errorf("%s %s: got %d, reason %q, %.300q; want %q", method, path, res.StatusCode, is, got, reason)
	case reason == "" && (string(got) != body || (err != nil) != cut):
		t.Errorf("%s %s: got %q, %v; want %q, and that cut: %v", method, path, got, err, body, cut)
	}
}
