package http2_test

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A tape is a connection whose client has said all it will say.
type tape struct {
	in io.Reader

	mu     sync.Mutex
	out    bytes.Buffer
	closed bool
}

func (c *tape) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if err == io.EOF {
		for range 50 { // for handlers to get on
			runtime.Gosched()
		}
	}
	return n, err
}

func (c *tape) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.out.Write(p)
}

func (c *tape) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *tape) LocalAddr() net.Addr              { return nil }
func (c *tape) RemoteAddr() net.Addr             { return nil }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// script writes what well and badly behaved clients send.
func script(t testing.TB, f func(p *peer)) []byte {
	var wire bytes.Buffer
	p := &peer{Framer: h2.NewFramer(&wire, nil), t: t}
	p.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.block)
	p.WriteSettings()
	p.WriteSettingsAck()
	f(p)
	return wire.Bytes()
}

// FuzzFrames has a server read any octets after the preface. It must return,
// with its handlers, and what it says must be HTTP/2 whatever it is told.
func FuzzFrames(f *testing.F) {
	f.Add(script(f, func(p *peer) { p.request(1, true, get()...) }))
	f.Add(script(f, func(p *peer) {
		p.request(1, false, post("content-length", "3")...)
		p.WriteDataPadded(1, false, []byte("ab"), make([]byte, 3))
		p.WriteData(1, false, []byte("c"))
		p.request(1, true, "x-trailer", "1")
	}))
	f.Add(script(f, func(p *peer) {
		for id := uint32(1); id < 20; id += 2 {
			p.request(id, false, post("cookie", "a", "cookie", "b")...)
			p.WriteRSTStream(id, h2.ErrCodeCancel)
			p.WriteWindowUpdate(0, 1000)
		}
	}))
	f.Add(script(f, func(p *peer) {
		block := p.encode(get("x", strings.Repeat("y", 200))...)
		p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:20], Priority: h2.PriorityParam{Weight: 1}})
		p.WriteContinuation(1, false, nil)
		p.WriteContinuation(1, true, block[20:])
		p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 3}, h2.Setting{ID: h2.SettingHeaderTableSize})
		p.WriteWindowUpdate(1, 5)
		p.WritePing(false, [8]byte{})
		p.WriteGoAway(1, h2.ErrCodeNo, []byte("bye"))
	}))
	srv := newServer(f, http2.Config{Streams: 10, HeaderList: 2000})
	f.Fuzz(func(t *testing.T, octets []byte) {
		c := &tape{in: io.MultiReader(strings.NewReader(h2.ClientPreface), bytes.NewReader(octets))}
		srv.Serve(t.Context(), c, http2.HandlerFunc(echo))
		wantHTTP2(t, c.out.Bytes(), octets)
	})
}

// wantHTTP2 sees that octets from a server are what a client may be sent.
func wantHTTP2(t *testing.T, out, in []byte) {
	t.Helper()
	fr := h2.NewFramer(io.Discard, bytes.NewReader(out))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	const ended, reset = 1, 2
	streams := make(map[uint32]int)
	data := 0
	for first := true; ; first = false {
		f, err := fr.ReadFrame()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in % x\nafter % x", err, out, in)
		}
		if _, ok := f.(*h2.SettingsFrame); first && !ok {
			t.Fatalf("the first frame is %v", f)
		}
		id := f.Header().StreamID
		if id == 0 {
			continue
		}
		state := streams[id]
		switch f := f.(type) {
		case *h2.MetaHeadersFrame:
			if state != 0 {
				t.Fatalf("HEADERS on stream %d, which is over, after % x", id, in)
			}
			if f.StreamEnded() {
				state |= ended
			}
		case *h2.DataFrame:
			if state != 0 {
				t.Fatalf("DATA on stream %d, which is over, after % x", id, in)
			}
			data += len(f.Data())
			if f.StreamEnded() {
				state |= ended
			}
		case *h2.RSTStreamFrame:
			if state&reset != 0 {
				t.Fatalf("stream %d is reset twice, after % x", id, in)
			}
			state |= reset
		case *h2.WindowUpdateFrame:
		default:
			t.Fatalf("%v on a stream, after % x", f, in)
		}
		streams[id] = state
	}
	if data > len(in) {
		t.Fatalf("%d octets were echoed of %d", data, len(in))
	}
}
