package http2_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
)

// zeros answers with n octets, written in pieces of 10,000.
func zeros(n int) http2.HandlerFunc {
	return func(s *http2.Stream) {
		if s.WriteHead(200, false) != nil {
			return
		}
		piece := make([]byte, 10_000)
		for left := n; left > 0; left -= len(piece) {
			piece = piece[:min(left, len(piece))]
			if s.WriteData(piece, left == len(piece)) != nil {
				return
			}
		}
	}
}

// dataUntil reads DATA frames until n octets have come, and returns how many
// came on each stream.
func (p *peer) dataUntil(n int) map[uint32]int {
	p.t.Helper()
	got := make(map[uint32]int)
	for total := 0; total < n; {
		switch f := p.next().(type) {
		case nil:
			p.t.Fatalf("the connection ended after %v of %d octets", got, n)
		case *h2.HeadersFrame:
			p.fields(f)
		case *h2.DataFrame:
			got[f.StreamID] += len(f.Data())
			total += len(f.Data())
		}
	}
	return got
}

// wantNoData sees that nothing more comes than an answered PING.
func (p *peer) wantNoData() {
	p.t.Helper()
	p.WritePing(false, [8]byte{9})
	for {
		switch f := p.next().(type) {
		case nil:
			p.t.Fatal("the connection has ended")
		case *h2.DataFrame:
			p.t.Fatalf("got %d octets on stream %d beyond the window", len(f.Data()), f.StreamID)
		case *h2.PingFrame:
			return
		}
	}
}

func TestStreamWindow(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), zeros(100_000), h2.Setting{ID: h2.SettingInitialWindowSize, Val: 0})
	p.request(1, true, get()...)
	p.wantNoData()
	p.WriteWindowUpdate(1, 1)
	p.dataUntil(1)
	p.wantNoData()
	p.WriteWindowUpdate(1, 30_000)
	p.dataUntil(30_000)
	p.wantNoData()

	p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 10_000}) // more for open streams too
	p.dataUntil(10_000)
	p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1_000}) // now 9,000 below zero
	p.WriteWindowUpdate(1, 9_000)
	p.wantNoData()
	p.WriteWindowUpdate(1, 5)
	p.dataUntil(5)
	p.wantNoData()
	p.WriteWindowUpdate(1, 1<<30)
	p.dataUntil(100_000 - 30_001 - 10_005 - 65_536)
}

func TestConnWindow(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), zeros(100_000), h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
	p.request(1, true, get()...)
	p.dataUntil(65_535)
	p.wantNoData()
	p.WriteWindowUpdate(0, 7)
	p.dataUntil(7)
	p.wantNoData()
	p.WriteWindowUpdate(0, 100_000)
	if got := p.dataUntil(100_000 - 65_542); got[1] != 100_000-65_542 {
		t.Errorf("got %v", got)
	}
	p.request(3, true, get()...)
	if got := p.dataUntil(65_542); got[3] != 65_542 {
		t.Errorf("got %v", got)
	}
	p.wantNoData()
}

// A window of the connection, given in small parts, is shared evenly, and a
// stream that may send nothing itself is not waited for.
func TestFair(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), zeros(1<<20), h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
	p.request(1, true, get()...)
	p.dataUntil(65_535)
	p.wantNoData()
	p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 0})
	p.request(3, true, get()...) // this one starves by its own window
	p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
	const streams = 10
	for id := uint32(5); id < 5+2*streams; id += 2 {
		p.request(id, true, get()...)
	}
	for heads := 0; heads < streams+1; heads++ { // with which all begin to wait
		f, ok := p.next().(*h2.HeadersFrame)
		for ; !ok; f, ok = p.next().(*h2.HeadersFrame) {
		}
		p.fields(f)
	}
	p.wantNoData()
	total := make(map[uint32]int)
	for range 100 {
		p.WriteWindowUpdate(0, 16_375)
		for id, n := range p.dataUntil(16_375) {
			total[id] += n
		}
	}
	if len(total) != streams+2 {
		t.Errorf("%d streams got something, want %d: %v", len(total), streams+2, total)
	}
	for id, n := range total {
		if mean := 100 * 16_375 / (streams + 2); n < mean/2 || n > mean*2 {
			t.Errorf("stream %d got %d octets, want about %d: %v", id, n, mean, total)
		}
	}
}

func TestBodyWindow(t *testing.T) {
	read := make(chan int)
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		for n := range read {
			if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
				t.Error(err)
			}
		}
		s.Abort(h2.ErrCodeNo)
	})
	p.request(1, false, post()...)
	for range 16 {
		p.WriteData(1, false, make([]byte, 16<<10))
	}
	p.wantAlive() // all of the stream's window is used
	read <- 100 << 10
	p.wantAlive() // less than half is read: nothing is given back yet
	read <- 28 << 10
	if w, isUpdate := p.next().(*h2.WindowUpdateFrame); !isUpdate || w.StreamID != 1 || w.Increment != 128<<10 {
		t.Fatalf("got %v, want WINDOW_UPDATE by 131072 on stream 1", w)
	}
	for range 8 {
		p.WriteData(1, false, make([]byte, 16<<10))
	}
	p.wantAlive()
	close(read)
	p.wantReset(1, h2.ErrCodeNo)
}

// What nobody reads is given back to the connection, or uploads would end.
func TestUnreadBody(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		if s.Path == "/" {
			ok(s)
			return
		}
		echo(s)
	})
	room := 1 << 20
	for id := uint32(1); id < 400; id += 2 {
		p.request(id, false, post()...)
		for range 4 {
			p.WriteData(id, false, make([]byte, 15<<10))
			room -= 15 << 10
		}
		p.WriteRSTStream(id, h2.ErrCodeCancel)
		p.WritePing(false, [8]byte{1})
		for synced := false; !synced; {
			switch f := p.next().(type) {
			case nil:
				t.Fatal("the connection has ended")
			case *h2.WindowUpdateFrame:
				if f.StreamID == 0 {
					room += int(f.Increment)
				}
			case *h2.PingFrame:
				synced = true
			case *h2.HeadersFrame:
				p.fields(f)
			}
		}
		if room < 256<<10 {
			t.Fatalf("stream %d: %d octets are left of the connection's window", id, room)
		}
	}
}

func TestEcho(t *testing.T) {
	p := dial(t, newServer(t, http2.Config{}), echo, h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 24})
	p.WriteWindowUpdate(0, 1<<24)
	p.request(1, false, post()...)
	var want, got bytes.Buffer
	sent := make(chan struct{})
	room := make(chan int, 1000) // given to the stream
	go func() {
		defer close(sent)
		left := 256 << 10
		for i := range 300 {
			piece := bytes.Repeat([]byte{byte(i)}, 1+i*37%9000)
			for left < len(piece) {
				left += <-room
			}
			left -= len(piece)
			want.Write(piece)
			if p.WriteData(1, i == 299, piece) != nil {
				return
			}
		}
	}()
	for ended := false; !ended; {
		switch f := p.next().(type) {
		case nil:
			t.Fatal("the connection has ended")
		case *h2.WindowUpdateFrame:
			if f.StreamID == 1 {
				room <- int(f.Increment)
			}
		case *h2.DataFrame:
			got.Write(f.Data())
			ended = f.StreamEnded()
		}
	}
	<-sent
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("got %d octets, not the %d that were sent", got.Len(), want.Len())
	}
}

func TestCancel(t *testing.T) {
	type result struct{ notified, read, write, err error }
	tests := []struct {
		name string
		end  func(p *peer)
		want func(err error) bool
	}{
		{"by RST_STREAM", func(p *peer) { p.WriteRSTStream(1, h2.ErrCodeCancel) }, func(err error) bool {
			e, ok := errors.AsType[*http2.StreamError](err)
			return ok && e.Client && e.Code == h2.ErrCodeCancel
		}},
		{"by a fault", func(p *peer) { p.WriteWindowUpdate(1, 0) }, func(err error) bool {
			e, ok := errors.AsType[*http2.StreamError](err)
			return ok && !e.Client && e.Code == h2.ErrCodeProtocol
		}},
		{"by the connection's end", func(p *peer) { p.nc.Close() }, func(err error) bool { return err == http2.ErrGone }},
		{"by a fault of the connection", func(p *peer) { p.WriteWindowUpdate(0, 0) }, func(err error) bool { return err == http2.ErrGone }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			results := make(chan result, 1)
			writing := make(chan struct{})
			p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
				notified := make(chan error, 1)
				s.Notify(notice(func(err error) { notified <- err }))
				readErr := make(chan error, 1)
				go func() {
					_, err := io.Copy(io.Discard, s)
					readErr <- err
				}()
				s.WriteHead(200, false)
				s.Flush()
				close(writing)
				var err error
				for err == nil {
					err = s.WriteData(make([]byte, 50_000), false)
				}
				results <- result{<-notified, <-readErr, err, s.Err()}
			})
			p.request(1, false, post()...)
			<-writing
			tt.end(p)
			r := <-results
			for _, err := range []error{r.notified, r.read, r.write, r.err} {
				if !tt.want(err) {
					t.Errorf("got %+v", r)
					break
				}
			}
		})
	}
}

// Who has taken its notice back is not told, and who comes late is told at once.
func TestNotifyNil(t *testing.T) {
	begun, done := make(chan struct{}), make(chan struct{})
	p := dial(t, newServer(t, http2.Config{}), func(s *http2.Stream) {
		defer close(done)
		gone := make(chan struct{})
		s.Notify(notice(func(error) { t.Error("told, though taken back") }))
		s.Notify(notice(func(error) { close(gone) }))
		close(begun)
		<-gone
		again := false
		s.Notify(notice(func(error) { again = true }))
		if !again {
			t.Error("not told of what had happened before")
		}
	})
	p.request(1, false, post()...)
	<-begun
	p.WriteRSTStream(1, h2.ErrCodeCancel)
	<-done
}
