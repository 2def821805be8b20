package http2_test

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestFloods sends each kind of frame again and again until the connection is
// ended for it, long before the frames are.
func TestFloods(t *testing.T) {
	tests := []struct {
		name string
		or   h2.ErrCode // with this code instead of ENHANCE_YOUR_CALM
		send func(p *peer, i int) error
	}{
		{"PING", 0, func(p *peer, i int) error { return p.WritePing(false, [8]byte{}) }},
		{"PING acknowledgements", 0, func(p *peer, i int) error { return p.WritePing(true, [8]byte{}) }},
		{"SETTINGS", 0, func(p *peer, i int) error { return p.WriteSettings() }},
		{"SETTINGS of many settings", 0, func(p *peer, i int) error {
			settings := make([]h2.Setting, 1000)
			for i := range settings {
				settings[i] = h2.Setting{ID: h2.SettingInitialWindowSize, Val: uint32(i)}
			}
			return p.WriteSettings(settings...)
		}},
		{"SETTINGS acknowledgements", 0, func(p *peer, i int) error { return p.WriteSettingsAck() }},
		{"PRIORITY", 0, func(p *peer, i int) error {
			return p.WritePriority(uint32(i)*2+1, h2.PriorityParam{StreamDep: uint32(i)})
		}},
		{"unknown frames", 0, func(p *peer, i int) error { return p.WriteRawFrame(0xbe, 0, 0, nil) }},
		{"WINDOW_UPDATE", 0, func(p *peer, i int) error { return p.WriteWindowUpdate(0, 1) }},
		{"GOAWAY", 0, func(p *peer, i int) error {
			if i == 0 {
				p.request(1, false, post("hold", "1")...)
			}
			return p.WriteGoAway(0, h2.ErrCodeNo, nil)
		}},
		{"empty DATA", 0, func(p *peer, i int) error {
			if i == 0 {
				p.request(1, false, post("hold", "1")...)
			}
			return p.WriteData(1, false, nil)
		}},
		{"padding alone", 0, func(p *peer, i int) error {
			if i == 0 {
				p.request(1, false, post("hold", "1")...)
			}
			return p.WriteDataPadded(1, false, nil, make([]byte, 1))
		}},
		{"rapid reset", 0, func(p *peer, i int) error {
			p.WriteHeaders(h2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: p.encode(get("hold", "1")...), EndHeaders: true, EndStream: true})
			return p.WriteRSTStream(uint32(2*i+1), h2.ErrCodeCancel)
		}},
		{"reset by zero WINDOW_UPDATE", 0, func(p *peer, i int) error {
			p.WriteHeaders(h2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: p.encode(get("hold", "1")...), EndHeaders: true, EndStream: true})
			return p.WriteWindowUpdate(uint32(2*i+1), 0)
		}},
		{"reset by DATA after the end", h2.ErrCodeStreamClosed, // if the stream was refused
			func(p *peer, i int) error {
				p.WriteHeaders(h2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: p.encode(get("hold", "1")...), EndHeaders: true, EndStream: true})
				return p.WriteData(uint32(2*i+1), true, []byte("x"))
			}},
		{"malformed requests", 0, func(p *peer, i int) error {
			return p.WriteHeaders(h2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: p.encode(":method", ""), EndHeaders: true})
		}},
		{"more streams than allowed", 0, func(p *peer, i int) error {
			return p.WriteHeaders(h2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: p.encode(get("hold", "1")...), EndHeaders: true, EndStream: true})
		}},
		{"empty CONTINUATION", 0, func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
			}
			return p.WriteContinuation(1, false, nil)
		}},
		{"CONTINUATION", 0, func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
			}
			return p.WriteContinuation(1, false, make([]byte, 16<<10))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var flood, started atomic.Int32
			srv := newServer(t, http2.Config{Count: func(e http2.Event) {
				if e == http2.Flood || e == http2.Violation {
					flood.Add(1)
				}
			}})
			p := dial(t, srv, func(s *http2.Stream) { started.Add(1); hold(s) })
			go func() {
				for i := range 5000 {
					if tt.send(p, i) != nil {
						return
					}
				}
			}()
			for {
				f := p.next()
				if f == nil {
					break
				}
				if g, ok := f.(*h2.GoAwayFrame); ok && g.ErrCode != h2.ErrCodeEnhanceYourCalm && g.ErrCode != tt.or {
					t.Errorf("GOAWAY %v %q", g.ErrCode, g.DebugData())
				}
			}
			p.nc.Close()
			t.Logf("Serve: %v", p.serveErr())
			if flood.Load() != 1 {
				t.Errorf("counted %d floods, want 1", flood.Load())
			}
			if started.Load() > 300 {
				t.Errorf("%d handlers were started, want at most 300", started.Load())
			}
		})
	}
}

// Honest clients reset streams, ping, and give windows back, for ever.
func TestNoFlood(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		if s.Method == "POST" {
			<-cancelled(s)
			return
		}
		zeros(2000)(s)
	})
	for i := range uint32(1000) {
		id := 6*i + 1
		p.request(id, false, post()...)
		p.WriteRSTStream(id, h2.ErrCodeCancel)
		for id := range uint32(2) {
			p.request(6*i+3+2*id, true, get()...)
			if a := p.answer(6*i + 3 + 2*id); len(a.body) != 2000 {
				t.Fatalf("round %d: got %+v", i, a)
			}
			p.WriteWindowUpdate(0, 2000)
		}
		p.WritePing(false, [8]byte{})
	}
}

// A stream that was reset counts until its handler has returned, so that no
// client has more requests at work than it is allowed (CVE-2025-8671).
func TestResetStreamsCount(t *testing.T) {
	var working, most atomic.Int32
	release := make(chan struct{})
	p := dial(t, newServer(t, http2.Config{Streams: 10}), func(s *http2.Stream) {
		most.Store(max(most.Load(), working.Add(1)))
		<-release // deaf to the reset
		working.Add(-1)
	})
	refused := 0
	for id := uint32(1); id < 101; id += 2 {
		p.request(id, true, get()...)
		p.WritePing(false, [8]byte{1})
		for synced := false; !synced; {
			switch f := p.next().(type) {
			case nil:
				t.Fatal("the connection has ended")
			case *h2.PingFrame:
				synced = true
			case *h2.RSTStreamFrame:
				if f.ErrCode == h2.ErrCodeRefusedStream {
					refused++
				}
			}
		}
		p.WriteWindowUpdate(id, 0)
	}
	if refused != 40 || most.Load() > 10 {
		t.Errorf("%d of 50 were refused and %d at work, want 40 and 10", refused, most.Load())
	}
	close(release)
}

// An answer that is complete frees its place at once, even if its handler has
// something left to do.
func TestFinishedStreamsDoNotCount(t *testing.T) {
	release := make(chan struct{})
	p := dial(t, newServer(t, http2.Config{Streams: 1}), func(s *http2.Stream) {
		ok(s)
		<-release
	})
	p.request(1, true, get()...)
	p.answer(1)
	p.request(3, true, get()...)
	if a := p.answer(3); a.status != "200" {
		t.Errorf("got %+v, want 200", a)
	}
	p.request(5, true, get()...) // but not without an end
	if a := p.answer(5); a.reset != h2.ErrCodeRefusedStream {
		t.Errorf("got %+v, want it refused", a)
	}
	close(release)
}

// Fields that are small on the wire and big in memory are neither decoded nor
// kept beyond the limits.
func TestBomb(t *testing.T) {
	var oversized, started atomic.Int32
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		started.Add(1)
		if s.Oversized {
			oversized.Add(1)
		}
		<-cancelled(s)
	})
	p.enc.SetMaxDynamicTableSizeLimit(4096)
	bomb := make([]string, 0, 8000)
	for range 4000 { // each an index of one octet once the first is in the table
		bomb = append(bomb, "x-bomb", strings.Repeat("b", 4000))
	}
	before := heap()
	for id := uint32(1); id < 200; id += 2 {
		p.request(id, true, get(bomb...)...)
	}
	p.wantAlive()
	if n := heap() - before; n > 8<<20 {
		t.Errorf("the heap has grown by %d octets, want at most 8 MiB", n)
	}
	if n := started.Load(); n == 0 || oversized.Load() != n {
		t.Errorf("%d of %d requests were oversized, want all", oversized.Load(), n)
	}
}

// What one client makes the server hold is bounded, whatever it does.
func TestMemory(t *testing.T) {
	wait := func(s *http2.Stream) { <-cancelled(s) }
	tests := []struct {
		name    string
		most    int
		handler http2.HandlerFunc
		send    func(p *peer)
	}{
		{"long heads", 4 << 20, wait, func(p *peer) {
			enc := hpack.NewEncoder(&p.block)
			enc.SetMaxDynamicTableSizeLimit(0)
			p.enc = enc
			for id := uint32(1); id < 200; id += 2 {
				block := p.encode(get("x", strings.Repeat("~", 60_000))...)
				p.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: block[:16_000], EndStream: true})
				for block = block[16_000:]; len(block) > 16_000; block = block[16_000:] {
					p.WriteContinuation(id, false, block[:16_000])
				}
				p.WriteContinuation(id, true, block)
			}
		}},
		{"bodies that are not read", 3 << 20, wait, func(p *peer) {
			for id := uint32(1); id < 200; id += 2 {
				p.request(id, false, post()...)
				p.WriteData(id, false, make([]byte, 10_000))
			}
		}},
		{"bodies of one octet", 1 << 20, wait, func(p *peer) {
			for id := uint32(1); id < 200; id += 2 {
				p.request(id, false, post()...)
				p.WriteData(id, false, []byte{1})
			}
		}},
		{"answers that are not read", 1 << 20, zeros(1 << 20), func(p *peer) {
			p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1<<31 - 1})
			p.WriteWindowUpdate(0, 1<<30)
			for id := uint32(1); id < 200; id += 2 {
				p.request(id, true, get()...)
			}
		}},
		{"long heads that are not read", 100*(80<<10) + 1<<20, // each waits with its handler
			func(s *http2.Stream) {
				add(s, "x", strings.Repeat("v", 60_000))
				s.WriteHead(200, true)
			}, func(p *peer) {
				for id := uint32(1); id < 200; id += 2 {
					p.request(id, true, get()...)
				}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := dial(t, newServer(t, http2.Config{}), tt.handler)
			before := heap()
			tt.send(p)
			time.Sleep(200 * time.Millisecond) // until what was sent has been looked at
			n := heap() - before
			t.Logf("%d KiB", n>>10)
			if n > tt.most {
				t.Errorf("the heap has grown by %d octets, want at most %d", n, tt.most)
			}
		})
	}
}

// heap returns how many octets live on the heap.
func heap() int {
	runtime.GC()
	runtime.GC() // twice, to empty the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
