package http2_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestAnswer(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		add(s, "Link", "</a.css>; rel=preload")
		s.WriteHead(103, false)
		add(s, "Content-Type", "text/plain", "X-Long-Name-Of-More-Than-Thirty-Two-Octets", "1", "Connection", "close", "Transfer-Encoding", "chunked")
		s.WriteHead(418, false)
		s.WriteData([]byte("short and "), false)
		s.WriteData([]byte("stout"), false)
		add(s, "X-Sum", "abc")
		s.WriteTrailers()
	})
	p.request(1, true, get()...)
	a := p.answer(1)
	if a.status != "418" || string(a.body) != "short and stout" || a.trailers["x-sum"] != "abc" {
		t.Errorf("got %+v", a)
	}
	if len(a.interim) != 1 || a.interim[0] != "103" {
		t.Errorf("interim heads: got %v, want 103", a.interim)
	}
	if a.fields["content-type"] != "text/plain" || a.fields["x-long-name-of-more-than-thirty-two-octets"] != "1" {
		t.Errorf("fields: got %v", a.fields)
	}
	if len(a.fields) != 3 {
		t.Errorf("fields: got %v, want none of an HTTP/1 connection", a.fields)
	}
}

func TestAnswerFields(t *testing.T) {
	names := []string{
		"Accept-Ranges", "Access-Control-Allow-Origin", "Age", "Allow", "Cache-Control", "Content-Disposition",
		"Content-Encoding", "Content-Language", "Content-Length", "Content-Location", "Content-Range", "Content-Type",
		"Date", "ETag", "Expires", "Last-Modified", "Link", "Location", "Proxy-Authenticate", "Refresh", "Retry-After",
		"Server", "Set-Cookie", "Strict-Transport-Security", "Vary", "Via", "WWW-Authenticate", "X-Other", "te",
	}
	for _, length := range []int{0, 1, 126, 127, 128, 300, 20_000, 70_000} {
		p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
			value := strings.Repeat("v", length)
			for _, n := range names[:min(len(names), 1+1_000_000/(length+1))] {
				add(s, n, value)
			}
			s.WriteHead(200, true)
		})
		p.request(1, true, get()...)
		a := p.answer(1)
		want := min(len(names), 1+1_000_000/(length+1))
		if len(a.fields) != want+1 {
			t.Errorf("values of %d: got %d fields, want %d", length, len(a.fields), want+1)
		}
		for _, n := range names[:want] {
			if len(a.fields[strings.ToLower(n)]) != length {
				t.Errorf("%s: got %d octets, want %d", n, len(a.fields[strings.ToLower(n)]), length)
			}
		}
	}
}

func TestAnswerStatuses(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		s.WriteHead(int(s.ContentLength), true)
	})
	id := uint32(1)
	for _, status := range []string{"200", "204", "206", "304", "400", "404", "500", "201", "302", "503", "599"} {
		p.request(id, false, post("content-length", status)...)
		if a := p.answer(id); a.status != status {
			t.Errorf("got %q, want %q", a.status, status)
		}
		id += 2
	}
}

func TestRequest(t *testing.T) {
	got := make(chan http2.Request, 1)
	p := dial(t, newServer(t, http2.Config{HeaderList: 2000}), func(s *http2.Stream) {
		r := s.Request
		r.Fields = append([]http2.Field(nil), r.Fields...)
		got <- r
		ok(s)
	})
	tests := []struct {
		name  string
		end   bool
		send  []string
		check func(r http2.Request) bool
	}{
		{"plain", true, get("user-agent", "x", "accept", "*/*"), func(r http2.Request) bool {
			return r.Method == "GET" && r.Scheme == "https" && r.Authority == "www-1.example.com" && r.Path == "/" &&
				r.Host == "" && r.ContentLength == 0 && len(r.Fields) == 2 && r.Fields[1] == http2.Field{Name: "accept", Value: "*/*"}
		}},
		{"host only", true, []string{":method", "GET", ":scheme", "https", ":path", "/", "host", "h"}, func(r http2.Request) bool {
			return r.Authority == "h" && r.Host == "" && len(r.Fields) == 0
		}},
		{"host and authority", true, get("host", "other"), func(r http2.Request) bool {
			return r.Authority == "www-1.example.com" && r.Host == "other" && len(r.Fields) == 0
		}},
		{"cookies are joined", true, get("cookie", "a=1", "x", "y", "cookie", "b=2", "cookie", "c=3"), func(r http2.Request) bool {
			return len(r.Fields) == 2 && r.Fields[0].Value == "a=1; b=2; c=3" && r.Fields[1].Name == "x"
		}},
		{"one cookie", true, get("cookie", "a=1"), func(r http2.Request) bool {
			return len(r.Fields) == 1 && r.Fields[0].Value == "a=1"
		}},
		{"cookies again", true, get("cookie", "z=1", "cookie", "b=2"), func(r http2.Request) bool {
			return len(r.Fields) == 1 && r.Fields[0].Value == "z=1; b=2"
		}},
		{"body of known length", false, post("content-length", "7"), func(r http2.Request) bool { return r.ContentLength == 7 }},
		{"body of unknown length", false, post(), func(r http2.Request) bool { return r.ContentLength == -1 }},
		{"te: trailers", true, get("te", "trailers"), func(r http2.Request) bool { return len(r.Fields) == 1 }},
		{"OPTIONS *", true, []string{":method", "OPTIONS", ":scheme", "https", ":path", "*", "host", "h"}, func(r http2.Request) bool {
			return r.Path == "*"
		}},
		{"CONNECT", false, []string{":method", "CONNECT", ":authority", "h:443"}, func(r http2.Request) bool {
			return r.Method == "CONNECT" && r.Authority == "h:443" && r.Path == "" && r.Protocol == ""
		}},
		{"websocket", false, []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/ws", ":authority", "h"}, func(r http2.Request) bool {
			return r.Protocol == "websocket" && r.Path == "/ws" && r.Scheme == "https"
		}},
		{"fields over the limit", true, get("x", strings.Repeat("v", 3000)), func(r http2.Request) bool { return r.Oversized }},
		{"many fields over the limit", true, get(strings.Fields(strings.Repeat("a b ", 200))...), func(r http2.Request) bool { return r.Oversized }},
		{"after them", true, get("a", "b"), func(r http2.Request) bool { return !r.Oversized && len(r.Fields) == 1 }},
	}
	for i, tt := range tests {
		id := uint32(2*i + 1)
		p.request(id, tt.end, tt.send...)
		p.answer(id)
		if r := <-got; !tt.check(r) {
			t.Errorf("%s: got %+v", tt.name, r)
		}
	}
}

func TestRequestInPieces(t *testing.T) {
	got := make(chan int, 1)
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		got <- len(s.Fields[0].Value)
		echo(s)
	})
	block := p.encode(get("x", strings.Repeat("v", 50_000))...)
	p.WriteHeaders(h2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block[:100], PadLength: 200,
		Priority: h2.PriorityParam{StreamDep: 3, Weight: 7},
	})
	for block = block[100:]; len(block) > 16_000; block = block[16_000:] {
		p.WriteContinuation(1, false, block[:16_000])
	}
	p.WriteContinuation(1, false, nil)
	p.WriteContinuation(1, true, block)
	if n := <-got; n != 50_000 {
		t.Errorf("got a field of %d octets, want 50000", n)
	}
	p.WriteDataPadded(1, false, []byte("hello "), make([]byte, 255))
	p.WriteDataPadded(1, false, nil, make([]byte, 10))
	p.WriteData(1, false, []byte("world"))
	p.request(1, true, "x-check", "1")
	a := p.answer(1)
	if string(a.body) != "hello world" || a.trailers["x-check"] != "1" {
		t.Errorf("got %+v", a)
	}
}

// Every octet on its own must do as well as all at once.
func TestOctetByOctet(t *testing.T) {
	var wire bytes.Buffer
	fr := h2.NewFramer(&wire, nil)
	wire.WriteString(h2.ClientPreface)
	fr.WriteSettings()
	fr.WriteSettingsAck()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i, f := 0, post(); i < len(f); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: f[i], Value: f[i+1]})
	}
	fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	fr.WriteData(1, true, []byte("hello"))

	client, server := pair(t)
	p := bare(t, newServer(t, http2.Config{}), echo, client, server)
	for _, b := range wire.Bytes() {
		if _, err := client.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if a := p.answer(1); string(a.body) != "hello" {
		t.Errorf("got %+v", a)
	}
}

func TestOrder(t *testing.T) {
	errs := make(chan []error, 1)
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		errs <- []error{
			s.WriteData([]byte("x"), false),
			s.WriteTrailers(),
			s.WriteHead(100, true),
			s.WriteHead(200, true),
			s.WriteHead(200, true),
			s.WriteData([]byte("x"), true),
			s.WriteData(nil, false),
			s.WriteTrailers(),
		}
	})
	p.request(1, true, get()...)
	if a := p.answer(1); a.status != "200" || len(a.body) != 0 || a.wasReset {
		t.Errorf("got %+v", a)
	}
	for i, err := range <-errs {
		if want := i != 3 && i != 6; (err == http2.ErrOrder) != want {
			t.Errorf("call %d: got %v", i, err)
		}
	}
}

func TestHandlerEnds(t *testing.T) {
	tests := []struct {
		name    string
		handler http2.HandlerFunc
		end     bool
		want    h2.ErrCode
	}{
		{"without an answer", func(*http2.Stream) {}, true, h2.ErrCodeInternal},
		{"inside an answer", func(s *http2.Stream) { s.WriteHead(200, false) }, true, h2.ErrCodeInternal},
		{"with its own code", func(s *http2.Stream) { s.Abort(h2.ErrCodeConnect) }, false, h2.ErrCodeConnect},
	}
	for _, tt := range tests {
		p := dial(t, newServer(t, http2.Config{}), tt.handler)
		p.request(1, tt.end, get()...)
		p.wantReset(1, tt.want)
	}
}

// An answer that does not wait for the request's end is complete all the same,
// and what still comes of the request is swallowed.
func TestEarlyAnswer(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), ok)
	p.request(1, false, post()...)
	if a := p.answer(1); a.status != "200" || a.wasReset {
		t.Fatalf("got %+v", a)
	}
	p.wantReset(1, h2.ErrCodeNo)
	for range 60 { // more than the connection's window in all
		p.WriteData(1, false, make([]byte, 16<<10))
	}
	p.request(1, true, "x", "y")
	p.wantAlive()
	for range 60 {
		p.WriteData(1, false, make([]byte, 16<<10))
	}
	p.wantAlive()
}
