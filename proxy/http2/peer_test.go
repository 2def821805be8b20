package http2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A peer is a client that speaks frames, well or badly.
type peer struct {
	*h2.Framer
	t     testing.TB
	nc    net.Conn
	block bytes.Buffer
	enc   *hpack.Encoder
	dec   *hpack.Decoder
	ended chan error // what Serve returned
	drain context.CancelFunc
}

// newServer returns a Server, or ends the test.
func newServer(t testing.TB, cfg http2.Config) *http2.Server {
	t.Helper()
	srv, err := http2.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// pair returns the two ends of a connection over loopback.
func pair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// dial connects a peer to srv and greets it with settings.
func dial(t testing.TB, srv *http2.Server, h http2.HandlerFunc, settings ...h2.Setting) *peer {
	t.Helper()
	client, server := pair(t)
	return greet(t, srv, h, client, server, settings...)
}

func greet(t testing.TB, srv *http2.Server, h http2.HandlerFunc, client, server net.Conn, settings ...h2.Setting) *peer {
	t.Helper()
	p := bare(t, srv, h, client, server)
	greeted := make(chan struct{})
	go func() { // with net.Pipe, who writes waits for the reader
		io.WriteString(client, h2.ClientPreface)
		p.WriteSettings(settings...)
		p.WriteSettingsAck()
		close(greeted)
	}()
	for acked := false; !acked; {
		if f, ok := p.next().(*h2.SettingsFrame); ok {
			acked = f.IsAck()
		}
	}
	<-greeted
	return p
}

// bare connects a peer that says nothing yet.
func bare(t testing.TB, srv *http2.Server, h http2.HandlerFunc, client, server net.Conn) *peer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &peer{Framer: h2.NewFramer(client, client), t: t, nc: client, ended: make(chan error, 1), drain: cancel}
	p.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.block)
	p.dec = hpack.NewDecoder(4096, nil)
	client.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { p.ended <- srv.Serve(ctx, server, h) }()
	t.Cleanup(func() {
		client.Close()
		cancel()
		if p.ended != nil {
			<-p.ended
		}
	})
	return p
}

// serveErr waits for the connection's end and returns what Serve returned.
func (p *peer) serveErr() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		p.ended = nil
		return err
	case <-time.After(5 * time.Second):
		p.t.Fatal("Serve has not returned")
		return nil
	}
}

// get is the head of an ordinary request.
func get(extra ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", "www-1.example.com", ":path", "/"}, extra...)
}

// post is the head of a request with a body.
func post(extra ...string) []string {
	return append([]string{":method", "POST", ":scheme", "https", ":authority", "www-1.example.com", ":path", "/"}, extra...)
}

// encode returns a field block of names and values in turn.
func (p *peer) encode(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.block.Bytes())
}

// request opens a stream.
func (p *peer) request(id uint32, end bool, fields ...string) {
	p.t.Helper()
	err := p.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(fields...), EndStream: end, EndHeaders: true})
	if err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next frame, nil at the end of the connection.
func (p *peer) next() h2.Frame {
	p.t.Helper()
	f, err := p.ReadFrame()
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			p.t.Fatalf("waiting for a frame: %v", err)
		}
		return nil
	}
	return f
}

// An answer is what came back on a stream.
type answer struct {
	status   string
	interim  []string
	fields   map[string]string
	body     []byte
	trailers map[string]string
	reset    h2.ErrCode
	wasReset bool
}

// answer reads until the answer on stream id is complete.
func (p *peer) answer(id uint32) answer {
	p.t.Helper()
	var a answer
	for {
		f := p.next()
		if f == nil {
			p.t.Fatalf("stream %d: the connection ended before the answer", id)
		}
		if f.Header().StreamID != id {
			if g, ok := f.(*h2.GoAwayFrame); ok && g.ErrCode != h2.ErrCodeNo {
				p.t.Fatalf("stream %d: GOAWAY %v %q before the answer", id, g.ErrCode, g.DebugData())
			}
			if h, ok := f.(*h2.HeadersFrame); ok {
				p.fields(h)
			}
			continue
		}
		switch f := f.(type) {
		case *h2.HeadersFrame:
			p.takeHead(&a, p.fields(f))
			if f.StreamEnded() {
				return a
			}
		case *h2.DataFrame:
			a.body = append(a.body, f.Data()...)
			if f.StreamEnded() {
				return a
			}
		case *h2.RSTStreamFrame:
			a.reset, a.wasReset = f.ErrCode, true
			return a
		}
	}
}

// fields decodes a field block that begins with f.
func (p *peer) fields(f *h2.HeadersFrame) []hpack.HeaderField {
	p.t.Helper()
	block := bytes.Clone(f.HeaderBlockFragment())
	for ended := f.HeadersEnded(); !ended; {
		c, ok := p.next().(*h2.ContinuationFrame)
		if !ok {
			p.t.Fatal("no CONTINUATION after an open field block")
		}
		block = append(block, c.HeaderBlockFragment()...)
		ended = c.HeadersEnded()
	}
	fields, err := p.dec.DecodeFull(block)
	if err != nil {
		p.t.Fatal(err)
	}
	return fields
}

func (p *peer) takeHead(a *answer, fields []hpack.HeaderField) {
	m := make(map[string]string)
	for _, f := range fields {
		m[f.Name] = f.Value
	}
	switch status := m[":status"]; {
	case status == "":
		a.trailers = m
	case status[0] == '1':
		a.interim = append(a.interim, status)
	default:
		a.status, a.fields = status, m
	}
}

// wantReset reads until stream id is reset with code, and then sees that the
// connection is still good.
func (p *peer) wantReset(id uint32, code h2.ErrCode) {
	p.t.Helper()
	a := p.answer(id)
	if !a.wasReset || a.reset != code {
		p.t.Fatalf("stream %d: got %+v, want reset with %v", id, a, code)
	}
	p.wantAlive()
}

// wantAlive sees that the connection answers.
func (p *peer) wantAlive() {
	p.t.Helper()
	want := [8]byte{'a', 'l', 'i', 'v', 'e'}
	if err := p.WritePing(false, want); err != nil {
		p.t.Fatal(err)
	}
	for {
		switch f := p.next().(type) {
		case nil:
			p.t.Fatal("the connection has ended")
		case *h2.GoAwayFrame:
			p.t.Fatalf("GOAWAY %v %q", f.ErrCode, f.DebugData())
		case *h2.PingFrame:
			if f.IsAck() && f.Data == want {
				return
			}
		}
	}
}

// wantGoAway reads until the connection ends, for which a code was given.
func (p *peer) wantGoAway(code h2.ErrCode) {
	p.t.Helper()
	var last *h2.GoAwayFrame
	for {
		f := p.next()
		if f == nil {
			break
		}
		if g, ok := f.(*h2.GoAwayFrame); ok {
			last = &h2.GoAwayFrame{ErrCode: g.ErrCode, LastStreamID: g.LastStreamID}
			p.t.Logf("GOAWAY %v %q", g.ErrCode, g.DebugData())
		}
	}
	if last == nil || last.ErrCode != code {
		p.t.Fatalf("got %+v at the end of the connection, want GOAWAY with %v", last, code)
	}
	p.nc.Close()
	err := p.serveErr()
	if e, ok := errors.AsType[*http2.ConnError](err); ok != (code != h2.ErrCodeNo) || ok && e.Code != code {
		p.t.Fatalf("Serve returned %v, want a ConnError with %v", err, code)
	}
}

// add adds fields, names and values in turn.
func add(s *http2.Stream, fields ...string) {
	for i := 0; i < len(fields); i += 2 {
		s.AddField([]byte(fields[i]), []byte(fields[i+1]))
	}
}

// ok answers 200 without a body.
func ok(s *http2.Stream) { s.WriteHead(200, true) }

// echo answers with the request's body and trailers.
func echo(s *http2.Stream) {
	if s.WriteHead(200, false) != nil || s.Flush() != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := s.Read(buf)
		if err == io.EOF {
			break
		}
		if err != nil || s.WriteData(buf[:n], false) != nil {
			return
		}
	}
	trailers := s.Trailers()
	if len(trailers) == 0 {
		s.WriteData(nil, true)
		return
	}
	for _, f := range trailers {
		add(s, f.Name, f.Value)
	}
	s.WriteTrailers()
}
