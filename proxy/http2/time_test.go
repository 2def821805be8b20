package http2_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/proxy/http2"
	"go.uber.org/goleak"
	h2 "golang.org/x/net/http2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timed runs f under a clock that moves when everybody waits.
func timed(t *testing.T, cfg http2.Config, h http2.HandlerFunc, f func(t *testing.T, p *peer)) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		p := greet(t, newServer(t, cfg), h, client, server)
		client.SetDeadline(time.Time{})
		f(t, p)
	})
}

// within sees that the time since start is between two bounds.
func within(t *testing.T, start time.Time, low, high time.Duration) {
	t.Helper()
	if d := time.Since(start); d < low || d > high {
		t.Errorf("it took %v, want %v to %v", d, low, high)
	}
}

func TestIdle(t *testing.T) {
	timed(t, http2.Config{}, ok, func(t *testing.T, p *peer) {
		for id := uint32(1); id < 9; id += 2 {
			time.Sleep(170 * time.Second)
			p.request(id, true, get()...)
			p.answer(id)
		}
		start := time.Now()
		p.wantGoAway(h2.ErrCodeNo)
		within(t, start, 180*time.Second, 200*time.Second)
	})
}

// PING does not keep a connection that is of no use.
func TestIdlePing(t *testing.T) {
	timed(t, http2.Config{Idle: 100 * time.Second}, ok, func(t *testing.T, p *peer) {
		start := time.Now()
		var pings sync.WaitGroup
		pings.Go(func() {
			for p.WritePing(false, [8]byte{}) == nil {
				time.Sleep(20 * time.Second)
			}
		})
		defer pings.Wait()
		p.wantGoAway(h2.ErrCodeNo)
		within(t, start, 100*time.Second, 120*time.Second)
	})
}

// A stream that is open and quiet is nobody's fault.
func TestQuietStream(t *testing.T) {
	timed(t, http2.Config{}, echo, func(t *testing.T, p *peer) {
		p.request(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/ws", ":authority", "h")
		for range 3 {
			p.WriteData(1, false, []byte("tick"))
			p.dataUntil(len("tick"))
			time.Sleep(time.Hour)
		}
		p.WriteData(1, true, nil)
		if a := p.answer(1); a.wasReset {
			t.Errorf("got %+v", a)
		}
	})
}

// Nor is a body that is slow to come, if the handler says so.
func TestPatient(t *testing.T) {
	timed(t, http2.Config{}, func(s *http2.Stream) {
		s.Patient()
		io.Copy(io.Discard, s)
		ok(s)
	}, func(t *testing.T, p *peer) {
		p.request(1, false, post("content-type", "application/grpc")...)
		time.Sleep(time.Hour)
		p.WriteData(1, true, []byte("x"))
		if a := p.answer(1); a.status != "200" {
			t.Errorf("got %+v, want 200", a)
		}
	})
}

func TestStalls(t *testing.T) {
	upload := func(s *http2.Stream) {
		if _, err := io.Copy(io.Discard, s); errors.Is(err, http2.ErrStalled) {
			s.WriteHead(408, false)
			s.Abort(h2.ErrCodeCancel)
		}
	}
	tests := []struct {
		name    string
		handler http2.HandlerFunc
		stall   func(p *peer)
		code    h2.ErrCode // of the stream, or else the connection ends
		end     bool
		head    bool // within the time of a head
	}{
		{name: "inside a body", handler: upload, code: h2.ErrCodeCancel, stall: func(p *peer) {
			p.request(1, false, post()...)
			for range 10 { // slowly is good enough
				time.Sleep(50 * time.Second)
				p.WriteData(1, false, []byte("x"))
			}
		}},
		{name: "the stream's window", handler: zeros(100), code: h2.ErrCodeCancel, stall: func(p *peer) {
			p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 0})
			p.request(1, true, get()...)
			for range 10 {
				time.Sleep(50 * time.Second)
				p.WriteWindowUpdate(1, 1)
			}
		}},
		{name: "the connection's window", handler: zeros(100_000), code: h2.ErrCodeCancel, stall: func(p *peer) {
			p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
			p.request(1, true, get()...)
		}},
		{name: "inside a frame", handler: ok, end: true, stall: func(p *peer) { raw(p, "\x00\x00\x08\x06\x00\x00\x00\x00\x00\x01\x02") }},
		{name: "inside a field block", handler: ok, end: true, head: true, stall: func(p *peer) {
			p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
		}},
		{name: "inside a HEADERS frame", handler: ok, end: true, head: true, stall: func(p *peer) {
			p.request(1, true, get()...)
			time.Sleep(170 * time.Second) // nobody looks at what is idle
			raw(p, "\x00\x00\x08\x01\x05\x00\x00\x00\x03\x82")
		}},
		{name: "in a field block that goes on and on", handler: ok, end: true, head: true, stall: func(p *peer) {
			p.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
			go func() {
				for p.WriteContinuation(1, false, []byte{0x82}) == nil {
					time.Sleep(4 * time.Second)
				}
			}()
		}},
		{name: "behind a whole head", handler: ok, end: true, head: true, stall: func(p *peer) {
			for id := uint32(1); id < 20; id += 2 { // the time of each is its own
				block := p.encode(get()...)
				p.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: block[:2], EndStream: true})
				time.Sleep(10 * time.Second)
				p.WriteContinuation(id, true, block[2:])
			}
			p.WriteHeaders(h2.HeadersFrameParam{StreamID: 21, BlockFragment: p.encode(get()...)})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			timed(t, http2.Config{}, tt.handler, func(t *testing.T, p *peer) {
				began := make(chan time.Time, 1)
				go func() {
					tt.stall(p)
					began <- time.Now()
				}()
				if tt.end {
					for p.next() != nil {
					}
					if err := p.serveErr(); err == nil {
						t.Error("Serve returned nil, want why the connection ended")
					}
				} else if a := p.answer(1); a.reset != tt.code {
					t.Errorf("got %+v, want reset with %v", a, tt.code)
				}
				if tt.head {
					within(t, <-began, 15*time.Second, 16*time.Second)
					time.Sleep(5 * time.Second) // until nobody writes any more
				} else {
					within(t, <-began, 50*time.Second, 80*time.Second)
				}
			})
		})
	}
}

// A client that does not read at all is cut off.
func TestStallNotReading(t *testing.T) {
	timed(t, http2.Config{}, zeros(1<<20), func(t *testing.T, p *peer) {
		p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
		start := time.Now()
		p.request(1, true, get()...)
		err := <-p.ended
		p.ended = nil
		if err == nil {
			t.Error("Serve returned nil, want why the connection ended")
		}
		within(t, start, 60*time.Second, 80*time.Second)
	})
}

func TestSettingsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		p := bare(t, newServer(t, http2.Config{}), ok, client, server)
		client.SetDeadline(time.Time{})
		start := time.Now()
		go func() {
			raw(p, h2.ClientPreface)
			p.WriteSettings()
		}()
		p.wantGoAway(h2.ErrCodeSettingsTimeout)
		within(t, start, 60*time.Second, 80*time.Second)
	})
}

func TestNoPreface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		p := bare(t, newServer(t, http2.Config{}), ok, client, server)
		client.SetDeadline(time.Time{})
		start := time.Now()
		for p.next() != nil {
		}
		if _, isConn := errors.AsType[*http2.ConnError](p.serveErr()); !isConn {
			t.Error("Serve returned something else than a ConnError")
		}
		within(t, start, 60*time.Second, 80*time.Second)
	})
}

// Draining lets what is open finish, and what is on its way come in.
func TestDrain(t *testing.T) {
	release := make(chan struct{})
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		<-release
		ok(s)
	})
	p.request(1, true, get()...)
	p.wantAlive()
	p.drain()
	g, isGoAway := p.next().(*h2.GoAwayFrame)
	if !isGoAway || g.LastStreamID != 1<<31-1 || g.ErrCode != h2.ErrCodeNo {
		t.Fatalf("got %v, want GOAWAY without a limit", g)
	}
	p.request(3, true, get()...) // sent before GOAWAY was read
	ping, isPing := p.next().(*h2.PingFrame)
	if !isPing || ping.IsAck() {
		t.Fatalf("got %v, want PING", ping)
	}
	p.WritePing(true, ping.Data)
	if g, isGoAway = p.next().(*h2.GoAwayFrame); !isGoAway || g.LastStreamID != 3 {
		t.Fatalf("got %v, want GOAWAY with stream 3", g)
	}
	p.request(5, true, get()...) // too late
	p.WritePing(false, [8]byte{7})
	if f, isPing := p.next().(*h2.PingFrame); !isPing {
		t.Fatalf("got %v, want PING acknowledged", f)
	}
	close(release)
	for range 2 {
		if f, isHeaders := p.next().(*h2.HeadersFrame); !isHeaders || f.StreamID > 3 {
			t.Fatalf("got %v, want the answers of streams 1 and 3", f)
		}
	}
	p.wantGoAway(h2.ErrCodeNo)
}

// A client that does not answer PING is not waited for longer than a second.
func TestDrainDeaf(t *testing.T) {
	timed(t, http2.Config{}, ok, func(t *testing.T, p *peer) {
		start := time.Now()
		p.drain()
		p.wantGoAway(h2.ErrCodeNo)
		within(t, start, time.Second, 3*time.Second)
	})
}

// A client that leaves by GOAWAY gets the answers it waits for.
func TestClientGoAway(t *testing.T) {
	release := make(chan struct{})
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		<-release
		ok(s)
	})
	p.request(1, true, get()...)
	p.WriteGoAway(0, h2.ErrCodeNo, nil)
	p.wantAlive()
	close(release)
	if a := p.answer(1); a.status != "200" {
		t.Errorf("got %+v, want 200", a)
	}
	p.wantGoAway(h2.ErrCodeNo)
}

func TestConfig(t *testing.T) {
	for name, cfg := range map[string]http2.Config{
		"streams": {Streams: -1}, "header list": {HeaderList: -1}, "stream window": {StreamWindow: 100},
		"connection window": {ConnWindow: 1 << 31}, "memory": {Memory: 1}, "idle": {Idle: -1}, "head": {Head: -1}, "stall": {Stall: -1},
	} {
		if _, err := http2.New(cfg); err == nil {
			t.Errorf("%s: no error for %+v", name, cfg)
		}
	}
}
