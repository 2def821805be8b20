package http2_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
)

// A rule is one thing that RFC 9113 says of what a client may send. One of the
// last three fields says what comes of breaking or keeping it.
type rule struct {
	name string
	send func(p *peer)

	ends   h2.ErrCode // the connection, with this code
	resets h2.ErrCode // stream 1, with this code, and the connection goes on
	good   bool       // stream 1 is answered and the connection goes on
}

func raw(p *peer, octets string) { io.WriteString(p.nc, octets) }

// rawFrame writes a frame whose length may lie.
func rawFrame(p *peer, length int, kind h2.FrameType, flags h2.Flags, id uint32, payload ...byte) {
	b := []byte{byte(length >> 16), byte(length >> 8), byte(length), byte(kind), byte(flags)}
	p.nc.Write(append(binary.BigEndian.AppendUint32(b, id), payload...))
}

// answered sends a whole request and reads its answer.
func answered(p *peer, id uint32) {
	p.request(id, true, get()...)
	p.answer(id)
}

var connectionRules = []rule{
	{name: "4.2 frame over the limit", send: func(p *peer) { rawFrame(p, 1<<14+1, h2.FrameData, 0, 1) }, ends: h2.ErrCodeFrameSize},
	{name: "4.2 HEADERS over the limit", send: func(p *peer) { rawFrame(p, 1<<14+1, h2.FrameHeaders, 4, 1) }, ends: h2.ErrCodeFrameSize},
	{name: "4.1 unknown frame type", send: func(p *peer) { rawFrame(p, 8, 0xee, 0xff, 0, make([]byte, 8)...); p.request(1, true, get()...) }, good: true},
	{name: "4.1 undefined flags", send: func(p *peer) {
		rawFrame(p, 8, h2.FramePing, 0xfe, 0, make([]byte, 8)...)
		p.request(1, true, get()...)
	}, good: true},
	{name: "4.1 reserved bit", send: func(p *peer) {
		rawFrame(p, 8, h2.FramePing, 0, 1<<31, make([]byte, 8)...)
		p.request(1, true, get()...)
	}, good: true},
	{name: "4.3 bad field block", send: func(p *peer) {
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x40}, EndHeaders: true})
	}, ends: h2.ErrCodeCompression},
	{name: "4.3 index beyond the table", send: func(p *peer) {
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0x20}, EndHeaders: true})
	}, ends: h2.ErrCodeCompression},
	{name: "4.3 table size over the setting", send: func(p *peer) {
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xe2, 0x1f}, EndHeaders: true})
	}, ends: h2.ErrCodeCompression},
	{name: "4.3 field block interrupted by PRIORITY", send: func(p *peer) {
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
		p.WritePriority(1, h2.PriorityParam{})
	}, ends: h2.ErrCodeProtocol},
	{name: "4.3 field block interrupted by HEADERS of another stream", send: func(p *peer) {
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
		p.request(3, true, get()...)
	}, ends: h2.ErrCodeProtocol},
	{name: "4.3 field block interrupted by an unknown frame", send: func(p *peer) {
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
		rawFrame(p, 0, 0xee, 0, 0)
	}, ends: h2.ErrCodeProtocol},
	{name: "5.1 DATA on an idle stream", send: func(p *peer) { p.WriteData(1, true, []byte("x")) }, ends: h2.ErrCodeProtocol},
	{name: "5.1 RST_STREAM on an idle stream", send: func(p *peer) { p.WriteRSTStream(1, h2.ErrCodeCancel) }, ends: h2.ErrCodeProtocol},
	{name: "5.1 WINDOW_UPDATE on an idle stream", send: func(p *peer) { p.WriteWindowUpdate(1, 100) }, ends: h2.ErrCodeProtocol},
	{name: "5.1 CONTINUATION on an idle stream", send: func(p *peer) { p.WriteContinuation(1, true, nil) }, ends: h2.ErrCodeProtocol},
	{name: "5.1 DATA on a closed stream", send: func(p *peer) { answered(p, 1); p.wantAlive(); p.WriteData(1, true, []byte("x")) }, ends: h2.ErrCodeStreamClosed},
	{name: "5.1 HEADERS on a closed stream", send: func(p *peer) { answered(p, 1); p.wantAlive(); p.request(1, true, "x", "y") }, ends: h2.ErrCodeStreamClosed},
	{name: "5.1 DATA after RST_STREAM", send: func(p *peer) {
		p.request(1, false, post()...)
		p.WriteRSTStream(1, h2.ErrCodeCancel)
		p.WriteData(1, true, []byte("x"))
	}, ends: h2.ErrCodeStreamClosed},
	{name: "5.1 HEADERS after RST_STREAM", send: func(p *peer) {
		p.request(1, false, post()...)
		p.WriteRSTStream(1, h2.ErrCodeCancel)
		p.request(1, true, "x", "y")
	}, ends: h2.ErrCodeStreamClosed},
	{name: "5.1 CONTINUATION on a closed stream", send: func(p *peer) { answered(p, 1); p.WriteContinuation(1, true, nil) }, ends: h2.ErrCodeProtocol},
	{name: "5.1.1 even stream", send: func(p *peer) { p.request(2, true, get()...) }, ends: h2.ErrCodeProtocol},
	{name: "5.1.1 stream below an earlier one", send: func(p *peer) { answered(p, 5); p.request(3, true, get()...) }, ends: h2.ErrCodeProtocol},
	{name: "6.1 DATA without a stream", send: func(p *peer) { p.WriteData(0, true, []byte("x")) }, ends: h2.ErrCodeProtocol},
	{name: "6.1 padding as long as the frame", send: func(p *peer) {
		p.request(1, false, post()...)
		rawFrame(p, 5, h2.FrameData, 8, 1, 5, 0, 0, 0, 0)
	}, ends: h2.ErrCodeProtocol},
	{name: "6.1 padding without a length", send: func(p *peer) {
		p.request(1, false, post()...)
		rawFrame(p, 0, h2.FrameData, 8, 1)
	}, ends: h2.ErrCodeFrameSize},
	{name: "6.2 HEADERS without a stream", send: func(p *peer) { p.request(0, true, get()...) }, ends: h2.ErrCodeProtocol},
	{name: "6.2 HEADERS padding too long", send: func(p *peer) { rawFrame(p, 3, h2.FrameHeaders, 0x0c, 1, 3, 0x82, 0x87) }, ends: h2.ErrCodeProtocol},
	{name: "6.2 HEADERS too short for its priority", send: func(p *peer) { rawFrame(p, 4, h2.FrameHeaders, 0x24, 1, 0, 0, 0, 0) }, ends: h2.ErrCodeFrameSize},
	{name: "6.3 PRIORITY without a stream", send: func(p *peer) { p.WritePriority(0, h2.PriorityParam{}) }, ends: h2.ErrCodeProtocol},
	{name: "6.3 PRIORITY on an idle stream", send: func(p *peer) {
		p.WritePriority(7, h2.PriorityParam{StreamDep: 7})
		p.request(1, true, get()...)
	}, good: true},
	{name: "6.4 RST_STREAM without a stream", send: func(p *peer) { p.WriteRSTStream(0, 0) }, ends: h2.ErrCodeProtocol},
	{name: "6.4 RST_STREAM of the wrong length", send: func(p *peer) {
		p.request(1, false, post()...)
		rawFrame(p, 3, h2.FrameRSTStream, 0, 1, 0, 0, 0)
	}, ends: h2.ErrCodeFrameSize},
	{name: "6.5 SETTINGS acknowledgement with payload", send: func(p *peer) { rawFrame(p, 6, h2.FrameSettings, 1, 0, 0, 1, 0, 0, 0, 0) }, ends: h2.ErrCodeFrameSize},
	{name: "6.5 SETTINGS on a stream", send: func(p *peer) { rawFrame(p, 0, h2.FrameSettings, 0, 1) }, ends: h2.ErrCodeProtocol},
	{name: "6.5 SETTINGS of the wrong length", send: func(p *peer) { rawFrame(p, 3, h2.FrameSettings, 0, 0, 0, 3, 0) }, ends: h2.ErrCodeFrameSize},
	{name: "6.5.2 ENABLE_PUSH of 2", send: func(p *peer) { p.WriteSettings(h2.Setting{ID: h2.SettingEnablePush, Val: 2}) }, ends: h2.ErrCodeProtocol},
	{name: "6.5.2 INITIAL_WINDOW_SIZE too big", send: func(p *peer) {
		p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 31})
	}, ends: h2.ErrCodeFlowControl},
	{name: "6.5.2 MAX_FRAME_SIZE too small", send: func(p *peer) { p.WriteSettings(h2.Setting{ID: h2.SettingMaxFrameSize, Val: 1<<14 - 1}) }, ends: h2.ErrCodeProtocol},
	{name: "6.5.2 MAX_FRAME_SIZE too big", send: func(p *peer) { p.WriteSettings(h2.Setting{ID: h2.SettingMaxFrameSize, Val: 1 << 24}) }, ends: h2.ErrCodeProtocol},
	{name: "6.5.2 unknown setting", send: func(p *peer) { p.WriteSettings(h2.Setting{ID: 0xff, Val: 1}); p.request(1, true, get()...) }, good: true},
	{name: "RFC 8441 ENABLE_CONNECT_PROTOCOL of 2", send: func(p *peer) {
		p.WriteSettings(h2.Setting{ID: h2.SettingEnableConnectProtocol, Val: 2})
	}, ends: h2.ErrCodeProtocol},
	{name: "6.6 PUSH_PROMISE from a client", send: func(p *peer) {
		p.WritePushPromise(h2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
	}, ends: h2.ErrCodeProtocol},
	{name: "6.7 PING on a stream", send: func(p *peer) { rawFrame(p, 8, h2.FramePing, 0, 1, make([]byte, 8)...) }, ends: h2.ErrCodeProtocol},
	{name: "6.7 PING of the wrong length", send: func(p *peer) { rawFrame(p, 6, h2.FramePing, 0, 0, make([]byte, 6)...) }, ends: h2.ErrCodeFrameSize},
	{name: "6.7 PING acknowledgement unasked", send: func(p *peer) { p.WritePing(true, [8]byte{1}); p.request(1, true, get()...) }, good: true},
	{name: "6.8 GOAWAY on a stream", send: func(p *peer) { rawFrame(p, 8, h2.FrameGoAway, 0, 1, make([]byte, 8)...) }, ends: h2.ErrCodeProtocol},
	{name: "6.8 GOAWAY too short", send: func(p *peer) { rawFrame(p, 4, h2.FrameGoAway, 0, 0, make([]byte, 4)...) }, ends: h2.ErrCodeFrameSize},
	{name: "6.9 WINDOW_UPDATE of the wrong length", send: func(p *peer) { rawFrame(p, 3, h2.FrameWindowUpdate, 0, 0, 0, 0, 1) }, ends: h2.ErrCodeFrameSize},
	{name: "6.9 WINDOW_UPDATE of zero on the connection", send: func(p *peer) { p.WriteWindowUpdate(0, 0) }, ends: h2.ErrCodeProtocol},
	{name: "6.9.1 connection window over 2^31-1", send: func(p *peer) { p.WriteWindowUpdate(0, 1<<31-1) }, ends: h2.ErrCodeFlowControl},
	{name: "6.9.2 stream window over 2^31-1 by SETTINGS", send: func(p *peer) {
		p.request(1, false, post()...)
		p.WriteWindowUpdate(1, 1<<31-1-65535)
		p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 65536})
	}, ends: h2.ErrCodeFlowControl},
	{name: "6.10 CONTINUATION on another stream", send: func(p *peer) {
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
		p.WriteContinuation(3, true, nil)
	}, ends: h2.ErrCodeProtocol},
	{name: "6.10 CONTINUATION after the end of the block", send: func(p *peer) {
		p.request(1, true, get()...)
		p.WriteContinuation(1, true, nil)
	}, ends: h2.ErrCodeProtocol},
	{name: "6.10 CONTINUATION without a stream", send: func(p *peer) {
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
		p.WriteContinuation(0, true, nil)
	}, ends: h2.ErrCodeProtocol},
}

var streamRules = []rule{
	{name: "5.1 DATA after END_STREAM", send: func(p *peer) { p.request(1, true, get("hold", "1")...); p.WriteData(1, true, []byte("x")) }, resets: h2.ErrCodeStreamClosed},
	{name: "5.1 HEADERS after END_STREAM", send: func(p *peer) { p.request(1, true, get("hold", "1")...); p.request(1, true, "x", "y") }, resets: h2.ErrCodeStreamClosed},
	{name: "6.3 PRIORITY of the wrong length", send: func(p *peer) {
		p.request(1, false, post("hold", "1")...)
		rawFrame(p, 4, h2.FramePriority, 0, 1, make([]byte, 4)...)
	}, resets: h2.ErrCodeFrameSize},
	{name: "6.9 WINDOW_UPDATE of zero on a stream", send: func(p *peer) { p.request(1, true, get("hold", "1")...); p.WriteWindowUpdate(1, 0) }, resets: h2.ErrCodeProtocol},
	{name: "6.9.1 stream window over 2^31-1", send: func(p *peer) { p.request(1, true, get("hold", "1")...); p.WriteWindowUpdate(1, 1<<31-1) }, resets: h2.ErrCodeFlowControl},
	{name: "6.9.1 more than the stream's window", send: func(p *peer) {
		p.request(1, false, post("hold", "1")...)
		for range 17 {
			p.WriteData(1, false, make([]byte, 16<<10))
		}
	}, resets: h2.ErrCodeFlowControl},
	{name: "8.1 trailers without END_STREAM", send: func(p *peer) { p.request(1, false, post()...); p.request(1, false, "x", "y") }, resets: h2.ErrCodeProtocol},
	{name: "8.1 pseudo-header field among trailers", send: func(p *peer) { p.request(1, false, post()...); p.request(1, true, ":method", "GET") }, resets: h2.ErrCodeProtocol},
	{name: "8.1 connection field among trailers", send: func(p *peer) { p.request(1, false, post()...); p.request(1, true, "connection", "x") }, resets: h2.ErrCodeProtocol},
	{name: "8.1 content-length among trailers", send: func(p *peer) { p.request(1, false, post()...); p.request(1, true, "content-length", "0") }, resets: h2.ErrCodeProtocol},
	{name: "8.1.1 fewer octets than content-length", send: func(p *peer) {
		p.request(1, false, post("content-length", "2")...)
		p.WriteData(1, true, []byte("x"))
	}, resets: h2.ErrCodeProtocol},
	{name: "8.1.1 more octets than content-length", send: func(p *peer) {
		p.request(1, false, post("content-length", "1")...)
		p.WriteData(1, false, []byte("xx"))
	}, resets: h2.ErrCodeProtocol},
	{name: "8.1.1 more octets than content-length in several frames", send: func(p *peer) {
		p.request(1, false, post("content-length", "3")...)
		p.WriteData(1, false, []byte("xx"))
		p.WriteData(1, true, []byte("xx"))
	}, resets: h2.ErrCodeProtocol},
	{name: "8.1.1 trailers before the octets of content-length", send: func(p *peer) {
		p.request(1, false, post("content-length", "3")...)
		p.request(1, true, "x", "y")
	}, resets: h2.ErrCodeProtocol},
}

// malformed lists heads that are none (RFC 9113 §8.2, §8.3; RFC 8441 §4).
var malformed = map[string][]string{
	"8.2 upper case":                       get("X-Upper", "1"),
	"8.2 empty name":                       get("", "1"),
	"8.2 space in a name":                  get("a b", "1"),
	"8.2 colon in a name":                  get("a:b", "1"),
	"8.2 control in a name":                get("a\x01b", "1"),
	"8.2 name beyond ASCII":                get("\xc3\xa4", "1"),
	"8.2 CR in a value":                    get("a", "x\ry"),
	"8.2 LF in a value":                    get("a", "x\ny"),
	"8.2 NUL in a value":                   get("a", "x\x00y"),
	"8.2 control in a value":               get("a", "x\x7fy"),
	"8.2 space before a value":             get("a", " x"),
	"8.2 tab after a value":                get("a", "x\t"),
	"8.2.2 connection":                     get("connection", "keep-alive"),
	"8.2.2 keep-alive":                     get("keep-alive", "1"),
	"8.2.2 proxy-connection":               get("proxy-connection", "keep-alive"),
	"8.2.2 transfer-encoding":              get("transfer-encoding", "chunked"),
	"8.2.2 upgrade":                        get("upgrade", "websocket"),
	"8.2.2 te":                             get("te", "trailers, deflate"),
	"8.3 unknown pseudo-header field":      get(":test", "1"),
	"8.3 pseudo-header field of an answer": get(":status", "200"),
	"8.3 pseudo-header field at the end":   {":method", "GET", ":scheme", "https", "x", "y", ":path", "/"},
	"8.3 empty method":                     {":method", "", ":scheme", "https", ":path", "/"},
	"8.3 method that is no token":          {":method", "GE T", ":scheme", "https", ":path", "/"},
	"8.3.1 no method":                      {":scheme", "https", ":path", "/"},
	"8.3.1 no scheme":                      {":method", "GET", ":path", "/"},
	"8.3.1 no path":                        {":method", "GET", ":scheme", "https"},
	"8.3.1 empty path":                     {":method", "GET", ":scheme", "https", ":path", ""},
	"8.3.1 relative path":                  {":method", "GET", ":scheme", "https", ":path", "x"},
	"8.3.1 path with a space":              {":method", "GET", ":scheme", "https", ":path", "/ HTTP/1.1"},
	"8.3.1 * without OPTIONS":              {":method", "GET", ":scheme", "https", ":path", "*"},
	"8.3.1 bad scheme":                     {":method", "GET", ":scheme", "ht tp", ":path", "/"},
	"8.3.1 user information":               {":method", "GET", ":scheme", "https", ":path", "/", ":authority", "u@h"},
	"8.3.1 method twice":                   get(":method", "GET"),
	"8.3.1 scheme twice":                   get(":scheme", "https"),
	"8.3.1 path twice":                     get(":path", "/"),
	"8.3.1 authority twice":                get(":authority", "h"),
	"8.3.1 host twice":                     get("host", "a", "host", "a"),
	"8.5 CONNECT with a path":              {":method", "CONNECT", ":authority", "h:1", ":path", "/"},
	"8.5 CONNECT with a scheme":            {":method", "CONNECT", ":authority", "h:1", ":scheme", "https"},
	"8.5 CONNECT without an authority":     {":method", "CONNECT"},
	"8441 :protocol without CONNECT":       get(":protocol", "websocket"),
	"8441 without a path":                  {":method", "CONNECT", ":protocol", "websocket", ":authority", "h", ":scheme", "https"},
	"8441 empty :protocol":                 {":method", "CONNECT", ":protocol", "", ":authority", "h", ":scheme", "https", ":path", "/"},
	"8.1.1 content-length without a body":  get("content-length", "1"),
	"8.1.1 content-length twice":           get("content-length", "0", "content-length", "0"),
	"8.1.1 content-length with a sign":     get("content-length", "+0"),
	"8.1.1 content-length list":            get("content-length", "0, 0"),
	"8.1.1 content-length too long":        get("content-length", strings.Repeat("9", 30)),
}

// hold answers when the request has ended, or never if it says so.
func hold(s *http2.Stream) {
	for _, f := range s.Fields {
		if f.Name == "hold" {
			<-cancelled(s)
			return
		}
	}
	echo(s)
}

// cancelled returns a channel that is closed when s has no client any more.
func cancelled(s *http2.Stream) <-chan struct{} {
	done := make(chan struct{})
	s.Notify(notice(func(error) { close(done) }))
	return done
}

type notice func(error)

func (n notice) Cancel(err error) { n(err) }

func TestConformance(t *testing.T) {
	srv := newServer(t, http2.Config{})
	rules := append(connectionRules, streamRules...)
	for name, head := range malformed {
		rules = append(rules, rule{name: name, send: func(p *peer) { p.request(1, true, head...) }, resets: h2.ErrCodeProtocol})
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			p := dial(t, srv, hold)
			r.send(p)
			switch {
			case r.good:
				if a := p.answer(1); a.status != "200" {
					t.Errorf("got %+v, want 200", a)
				}
				p.wantAlive()
			case r.resets != 0:
				wantEventualReset(p, r.resets)
			default:
				p.wantGoAway(r.ends)
			}
		})
	}
}

// wantEventualReset is wantReset for an answer that may have begun.
func wantEventualReset(p *peer, code h2.ErrCode) {
	p.t.Helper()
	p.wantReset(1, code)
	// The codec and the connection have survived: another stream is answered.
	p.request(9, true, get()...)
	if a := p.answer(9); a.status != "200" {
		p.t.Errorf("the next request: got %+v, want 200", a)
	}
}

func TestPreface(t *testing.T) {
	srv := newServer(t, http2.Config{})
	tests := []struct{ name, send string }{
		{"HTTP/1.1", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"almost", h2.ClientPreface[:20] + "XX\r\n"},
		{"no SETTINGS", h2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"},
		{"SETTINGS acknowledgement first", h2.ClientPreface + "\x00\x00\x00\x04\x01\x00\x00\x00\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, server := pair(t)
			p := bare(t, srv, ok, client, server)
			raw(p, tt.send)
			p.wantGoAway(h2.ErrCodeProtocol)
		})
	}
}

func TestServerPreface(t *testing.T) {
	client, server := pair(t)
	p := bare(t, newServer(t, http2.Config{}), ok, client, server)
	raw(p, h2.ClientPreface)
	p.WriteSettings()
	f, isSettings := p.next().(*h2.SettingsFrame)
	if !isSettings || f.IsAck() {
		t.Fatalf("the first frame is %v, want SETTINGS", f)
	}
	for id, want := range map[h2.SettingID]uint32{
		h2.SettingMaxConcurrentStreams: 100, h2.SettingInitialWindowSize: 256 << 10,
		h2.SettingMaxHeaderListSize: 128 << 10, h2.SettingEnableConnectProtocol: 1,
	} {
		if v, _ := f.Value(id); v != want {
			t.Errorf("%v: got %d, want %d", id, v, want)
		}
	}
	if w, isUpdate := p.next().(*h2.WindowUpdateFrame); !isUpdate || w.StreamID != 0 || w.Increment != 1<<20-65535 {
		t.Errorf("the second frame is %v, want WINDOW_UPDATE to 1 MiB", w)
	}
	if f, isSettings = p.next().(*h2.SettingsFrame); !isSettings || !f.IsAck() {
		t.Errorf("the third frame is %v, want SETTINGS acknowledgement", f)
	}
}

func TestPing(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), ok)
	for i := range byte(20) {
		want := [8]byte{i, 1, 2, 3}
		p.WritePing(false, want)
		if f, isPing := p.next().(*h2.PingFrame); !isPing || !f.IsAck() || f.Data != want {
			t.Fatalf("got %v, want the acknowledgement of %v", f, want)
		}
	}
}

// A client may make its encoder's table smaller; blocks of one connection
// share it, whatever becomes of their streams.
func TestTableSize(t *testing.T) {
	got := make(chan string, 1)
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		got <- s.Fields[0].Value
		ok(s)
	})
	id := uint32(1)
	for _, size := range []uint32{4096, 0, 100, 4096} {
		p.enc.SetMaxDynamicTableSize(size)
		for range 3 {
			p.request(id, true, get("Bad", "1", "x-check", "value")...) // refused, but decoded
			p.wantReset(id, h2.ErrCodeProtocol)
			p.request(id+2, true, get("x-check", "value")...)
			p.answer(id + 2)
			if v := <-got; v != "value" {
				t.Errorf("table of %d: got %q, want \"value\"", size, v)
			}
			id += 4
		}
	}
}

// A client whose table is smaller, or none, is answered all the same, and our
// first block says that we use none.
func TestClientTable(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), ok, h2.Setting{ID: h2.SettingHeaderTableSize, Val: 0})
	p.request(1, true, get()...)
	for {
		f, isHeaders := p.next().(*h2.HeadersFrame)
		if !isHeaders {
			continue
		}
		if b := f.HeaderBlockFragment(); !bytes.Equal(b, []byte{0x20, 0x88}) {
			t.Errorf("got the block % x, want 20 88", b)
		}
		return
	}
}
