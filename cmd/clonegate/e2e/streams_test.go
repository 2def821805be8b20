package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// pace is the time between two messages of a stream.
const pace = 5 * time.Millisecond

// A streamer is what a clone serves that lasts until it is done: numbered lines
// on /events and /download, echoes on /ws and as the method of a gRPC service.
type streamer struct {
	name string // what it says on /who
	done *atomic.Bool
	ill  atomic.Bool // it fails its health check
	open atomic.Int64

	http, grpc string // addresses
}

func newStreamer(t *testing.T, name string, done *atomic.Bool) *streamer {
	t.Helper()
	s := &streamer{name: name, done: done}
	mux := http.NewServeMux()
	mux.HandleFunc("/who", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s.name) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if s.ill.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/events", s.lines("text/event-stream", func(n int) string { return fmt.Sprintf("data: %d\n\n", n) }))
	mux.HandleFunc("/download", s.lines("text/plain", func(n int) string { return fmt.Sprintf("%s: %d\n", strings.Repeat("x", 8000), n) }))
	mux.HandleFunc("/ws", s.echo)
	s.http = startBackend(t, mux)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(octets{}), grpc.UnknownServiceHandler(s.echoGRPC))
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	s.grpc = ln.Addr().String()
	return s
}

func (s *streamer) lines(kind string, line func(int) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.open.Add(1)
		defer s.open.Add(-1)
		w.Header().Set("Content-Type", kind)
		for n := 0; r.Context().Err() == nil; n++ {
			if s.done.Load() {
				io.WriteString(w, "the end\n")
				return
			}
			io.WriteString(w, line(n))
			w.(http.Flusher).Flush()
			time.Sleep(pace)
		}
	}
}

func (s *streamer) echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	s.open.Add(1)
	defer s.open.Add(-1)
	for {
		kind, text, err := conn.Read(r.Context())
		if err != nil || conn.Write(r.Context(), kind, text) != nil {
			return
		}
	}
}

func (s *streamer) echoGRPC(_ any, stream grpc.ServerStream) error {
	s.open.Add(1)
	defer s.open.Add(-1)
	for {
		var msg []byte
		if err := stream.RecvMsg(&msg); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&msg); err != nil {
			return err
		}
	}
}

// octets is a gRPC codec of messages that are *[]byte.
type octets struct{}

func (octets) Name() string                       { return "octets" }
func (octets) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (octets) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }

// useStream reads numbered lines to their end, and returns how many there were.
func useStream(ctx context.Context, c *http.Client, url string, heard func()) (n int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == "":
		case line == "the end":
			_, err := io.ReadAll(resp.Body)
			return n, err
		case !strings.HasSuffix(line, ": "+strconv.Itoa(n)):
			return n, fmt.Errorf("line %d is %.100q", n, line)
		default:
			heard()
			n++
		}
	}
	return n, errors.Join(errors.New("cut off"), lines.Err())
}

// A talk sends a message and returns what comes back.
type talk func(msg string) (string, error)

// useEcho sends numbers and reads their echoes until done.
func useEcho(done *atomic.Bool, say talk, heard func()) (n int, err error) {
	for ; !done.Load(); n++ {
		want := strconv.Itoa(n)
		if got, err := say(want); err != nil || got != want {
			return n, fmt.Errorf("echo of %s is %q, %w", want, got, err)
		}
		heard()
		time.Sleep(pace)
	}
	return n, nil
}

// useWebSocket talks over a WebSocket until done, and ends it well.
func useWebSocket(ctx context.Context, c *http.Client, url string, done *atomic.Bool, heard func()) (n int, err error) {
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: c})
	if err != nil {
		return 0, err
	}
	defer conn.CloseNow()
	n, err = useEcho(done, func(msg string) (string, error) {
		if err := conn.Write(ctx, websocket.MessageText, []byte(msg)); err != nil {
			return "", err
		}
		_, got, err := conn.Read(ctx)
		return string(got), err
	}, heard)
	return n, errors.Join(err, conn.Close(websocket.StatusNormalClosure, ""))
}

// useWebSocket2 does so over a stream of HTTP/2 (RFC 8441).
func useWebSocket2(ctx context.Context, g *gateway, url string, done *atomic.Bool, heard func()) (n int, err error) {
	cfg := g.transport().TLSClientConfig
	cfg.ServerName, cfg.NextProtos = "www-1."+zone, []string{"h2"}
	conn, err := tls.Dial("tcp", g.at.Gateway.Listen, cfg)
	if err != nil {
		return 0, err
	}
	//lint:ignore SA1019 net/http's client has no extended CONNECT
	client, err := new(http2.Transport).NewClientConn(conn)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	r, up := io.Pipe()
	defer up.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodConnect, url, r)
	if err != nil {
		return 0, err
	}
	req.Header.Set(":protocol", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	resp, err := client.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return useEcho(done, func(msg string) (string, error) {
		// A frame of text with a mask of zeros, and one without a mask back (RFC 6455 §5.2).
		if _, err := up.Write(append([]byte{0x81, 0x80 | byte(len(msg)), 0, 0, 0, 0}, msg...)); err != nil {
			return "", err
		}
		frame := make([]byte, 2+len(msg))
		if _, err := io.ReadFull(resp.Body, frame); err != nil {
			return "", err
		}
		if frame[0] != 0x81 || int(frame[1]) != len(msg) {
			return "", fmt.Errorf("a frame that begins with %x", frame[:2])
		}
		return string(frame[2:]), nil
	}, heard)
}

// useGRPC talks over a stream that goes both ways until done, and ends it well.
func useGRPC(ctx context.Context, g *gateway, done *atomic.Bool, heard func()) (n int, err error) {
	conn, err := grpc.NewClient("passthrough:///"+g.at.Gateway.Listen,
		grpc.WithTransportCredentials(credentials.NewTLS(g.transport().TLSClientConfig)),
		grpc.WithAuthority("grpc-1."+zone), grpc.WithDefaultCallOptions(grpc.ForceCodec(octets{})))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/echo/Both")
	if err != nil {
		return 0, err
	}
	n, err = useEcho(done, func(msg string) (string, error) {
		if err := stream.SendMsg(new([]byte(msg))); err != nil {
			return "", err
		}
		var got []byte
		err := stream.RecvMsg(&got)
		return string(got), err
	}, heard)
	if err != nil {
		return n, err
	}
	if err := stream.CloseSend(); err != nil {
		return n, err
	}
	if err := stream.RecvMsg(new([]byte)); err != io.EOF {
		return n, fmt.Errorf("the end is %w", err)
	}
	return n, nil
}
