package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/clonegate/clonegate/registry"
)

// octets is a codec of messages that are *[]byte.
type octets struct{}

func (octets) Name() string                       { return "octets" }
func (octets) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (octets) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }

// A greeter is a gRPC server that knows the methods of the tests.
type greeter struct {
	server    *grpc.Server
	addr      string
	cancelled atomic.Int64 // calls that the client ended
	conns     atomic.Int64
}

func newGreeter(t testing.TB) *greeter {
	g := new(greeter)
	g.server = grpc.NewServer(grpc.ForceServerCodec(octets{}), grpc.UnknownServiceHandler(g.serve))
	ln := listen(t)
	g.addr = ln.Addr().String()
	var served sync.WaitGroup
	served.Go(func() { g.server.Serve(countingListener{ln, &g.conns}) })
	t.Cleanup(func() { g.server.Stop(); served.Wait() })
	return g
}

type countingListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

func (g *greeter) serve(_ any, s grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(s)
	switch name {
	case "/greeter/Unary", "/greeter/Both":
		in, _ := metadata.FromIncomingContext(s.Context())
		s.SetHeader(metadata.Pairs("seen", strings.Join(in["say"], ","), "raw-bin", "\x00\xff"))
		s.SetTrailer(metadata.Pairs("sum", "42"))
		for {
			var msg []byte
			if err := s.RecvMsg(&msg); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(&msg); err != nil {
				return err
			}
		}
	case "/greeter/Count": // the client sends, the server says how much
		n := 0
		for {
			var msg []byte
			if err := s.RecvMsg(&msg); err != nil {
				break
			}
			n += len(msg)
		}
		msg := fmt.Append(nil, n)
		return s.SendMsg(&msg)
	case "/greeter/Pour": // the server sends
		for i := range 100 {
			msg := bytes.Repeat([]byte{byte(i)}, 10_000)
			if err := s.SendMsg(&msg); err != nil {
				return err
			}
		}
		return nil
	case "/greeter/Late": // says something, then fails
		msg := []byte("so far")
		s.SendMsg(&msg)
		return status.Error(codes.DataLoss, "the disk is full, 100 % of it")
	case "/greeter/Deadline":
		left := time.Duration(-1)
		if end, ok := s.Context().Deadline(); ok {
			left = time.Until(end)
		}
		msg := fmt.Append(nil, left.Milliseconds())
		return s.SendMsg(&msg)
	case "/greeter/Wait":
		<-s.Context().Done()
		g.cancelled.Add(1)
		return s.Context().Err()
	}
	return status.Error(codes.Unimplemented, "no such method")
}

// dialGRPC registers clone 1 with a gRPC service and connects to it.
func (b *bench) dialGRPC(g *greeter) *grpc.ClientConn {
	b.t.Helper()
	b.register("1", map[string]registry.ServiceRegistration{"grpc": {Endpoints: []string{g.addr}, Protocol: registry.H2C}})
	conn, err := grpc.NewClient("passthrough:///"+b.addr,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: b.roots, ServerName: "grpc-1." + zone})),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(octets{})))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

var bothWays = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// open begins a call.
func open(t testing.TB, ctx context.Context, conn *grpc.ClientConn, method string) grpc.ClientStream {
	t.Helper()
	s, err := conn.NewStream(ctx, bothWays, "/greeter/"+method)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return s
}

func send(t testing.TB, s grpc.ClientStream, msg string) {
	t.Helper()
	if err := s.SendMsg(new([]byte(msg))); err != nil {
		t.Errorf("send %.20q: %v", msg, err)
	}
}

// receive returns the next message, or the error of the call.
func receive(s grpc.ClientStream) (string, error) {
	var msg []byte
	err := s.RecvMsg(&msg)
	return string(msg), err
}

func TestGRPC(t *testing.T) {
	b := newBench(t)
	g := newGreeter(t)
	conn := b.dialGRPC(g)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	t.Run("unary, with metadata and trailers", func(t *testing.T) {
		var head, trailer metadata.MD
		var out []byte
		said := metadata.AppendToOutgoingContext(ctx, "say", "hello", "say", "again")
		if err := conn.Invoke(said, "/greeter/Unary", new([]byte("ping")), &out, grpc.Header(&head), grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		if string(out) != "ping" || head.Get("seen")[0] != "hello,again" || head.Get("raw-bin")[0] != "\x00\xff" || trailer.Get("sum")[0] != "42" {
			t.Errorf("got %q, header %v, trailer %v", out, head, trailer)
		}
	})
	t.Run("empty messages", func(t *testing.T) {
		out := []byte("left over")
		if err := conn.Invoke(ctx, "/greeter/Unary", new([]byte), &out); err != nil || len(out) != 0 {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("the server streams", func(t *testing.T) {
		s := open(t, ctx, conn, "Pour")
		s.CloseSend()
		for i := range 100 {
			if msg, err := receive(s); err != nil || len(msg) != 10_000 || msg[0] != byte(i) {
				t.Fatalf("message %d: %d octets, %v", i, len(msg), err)
			}
		}
		if _, err := receive(s); err != io.EOF {
			t.Errorf("the end is %v", err)
		}
	})
	t.Run("the client streams more than any window holds", func(t *testing.T) {
		s := open(t, ctx, conn, "Count")
		for range 100 {
			send(t, s, strings.Repeat("x", 30_000))
		}
		s.CloseSend()
		if msg, err := receive(s); msg != "3000000" || err != nil {
			t.Errorf("got %q, %v", msg, err)
		}
	})
	t.Run("both stream, in turn", func(t *testing.T) {
		s := open(t, ctx, conn, "Both")
		for i := range 50 {
			send(t, s, fmt.Sprint(i))
			if msg, err := receive(s); msg != fmt.Sprint(i) || err != nil {
				t.Fatalf("message %d: got %q, %v", i, msg, err)
			}
		}
		s.CloseSend()
		if _, err := receive(s); err != io.EOF || s.Trailer().Get("sum")[0] != "42" {
			t.Errorf("the end is %v, trailer %v", err, s.Trailer())
		}
	})
	t.Run("50 streams at once", func(t *testing.T) {
		var streams []grpc.ClientStream
		for range 50 {
			streams = append(streams, open(t, ctx, conn, "Both"))
		}
		for round := range 5 {
			for i, s := range streams {
				send(t, s, fmt.Sprint(i, round))
			}
			for i, s := range streams {
				if msg, err := receive(s); msg != fmt.Sprint(i, round) || err != nil {
					t.Fatalf("stream %d: got %q, %v", i, msg, err)
				}
			}
		}
		for _, s := range streams {
			s.CloseSend()
			if _, err := receive(s); err != io.EOF {
				t.Errorf("the end is %v", err)
			}
		}
	})
	t.Run("an error before any message is trailers only", func(t *testing.T) {
		if err := conn.Invoke(ctx, "/greeter/Nope", new([]byte), new([]byte)); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "no such method") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an error after a message", func(t *testing.T) {
		s := open(t, ctx, conn, "Late")
		s.CloseSend()
		if msg, err := receive(s); msg != "so far" || err != nil {
			t.Errorf("got %q, %v", msg, err)
		}
		if _, err := receive(s); status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "the disk is full, 100 % of it" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a deadline goes along", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		s := open(t, short, conn, "Deadline")
		s.CloseSend()
		var ms int
		msg, err := receive(s)
		fmt.Sscan(msg, &ms)
		if err != nil || ms < 1000 || ms > 5000 {
			t.Errorf("the server has %q ms left, %v", msg, err)
		}
	})
	t.Run("a deadline that passes", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		s := open(t, short, conn, "Wait")
		if _, err := receive(s); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancellation reaches the server", func(t *testing.T) {
		before := g.cancelled.Load()
		leaving, leave := context.WithCancel(ctx)
		s := open(t, leaving, conn, "Wait")
		send(t, s, "hello")
		time.AfterFunc(20*time.Millisecond, leave)
		if _, err := receive(s); status.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}
		eventually(t, "the server has learned of it", func() bool { return g.cancelled.Load() > before })
	})
	if n := g.conns.Load(); n != 1 {
		t.Errorf("all this took %d connections to the server; want 1", n)
	}
	if n := len(b.log.records("endpoint is benched")); n > 0 {
		t.Error("the endpoint was benched for what clients did")
	}
}

// TestGRPCServerLeaves has a server drain by GOAWAY with a call at work, which
// ends well; further calls go to the server that came in its place.
func TestGRPCServerLeaves(t *testing.T) {
	b := newBench(t)
	old, next := newGreeter(t), newGreeter(t)
	conn := b.dialGRPC(old)
	s := open(t, t.Context(), conn, "Both")
	send(t, s, "1")
	if _, err := receive(s); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	go func() { old.server.GracefulStop(); close(drained) }()
	b.register("1", map[string]registry.ServiceRegistration{"grpc": {Endpoints: []string{next.addr}, Protocol: registry.H2C}})
	for range 20 {
		if err := conn.Invoke(t.Context(), "/greeter/Unary", new([]byte("x")), new([]byte)); err != nil {
			t.Fatalf("a call while the old server drains: %v", err)
		}
	}
	if n := next.conns.Load(); n != 1 {
		t.Errorf("the new server has %d connections; want 1", n)
	}
	send(t, s, "2")
	if msg, err := receive(s); msg != "2" || err != nil {
		t.Errorf("the call at work: got %q, %v", msg, err)
	}
	s.CloseSend()
	if _, err := receive(s); err != io.EOF {
		t.Errorf("the call at work ends with %v", err)
	}
	select {
	case <-drained:
	case <-time.After(5 * time.Second):
		t.Error("the old server's connection stays open")
	}
}

// TestGRPCServerBreaks kills a server in the middle of calls.
func TestGRPCServerBreaks(t *testing.T) {
	b := newBench(t)
	g := newGreeter(t)
	conn := b.dialGRPC(g)
	s := open(t, t.Context(), conn, "Both")
	send(t, s, "1")
	if _, err := receive(s); err != nil {
		t.Fatal(err)
	}
	g.server.Stop()
	if msg, err := receive(s); err == nil || errors.Is(err, io.EOF) || status.Code(err) == codes.OK {
		t.Errorf("a cut call: got %q, %v; want an error", msg, err)
	}
	err := conn.Invoke(t.Context(), "/greeter/Unary", new([]byte("x")), new([]byte))
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a call to nobody: got %v; want Unavailable", err)
	}
}
