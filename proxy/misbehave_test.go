package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// A misbehaviour is how an endpoint treats the first connection it accepts. What
// comes after, on that connection or another, it answers well.
type misbehaviour struct {
	name string
	rude bool // it does not wait for a request
	act  func(c *net.TCPConn)

	reason proxy.Reason // of the gateway's answer in its place; "": the client gets an answer
	body   string       // what of it the client gets
	cut    bool         // and then an abort
}

// says returns a misbehaviour that is nothing but octets.
func says(octets string) func(*net.TCPConn) {
	return func(c *net.TCPConn) { io.WriteString(c, octets) }
}

// drips returns one that says octets and then others, at once or from time to
// time, until the gateway has had enough.
func drips(first, again string, every time.Duration) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, err := io.WriteString(c, first)
		for err == nil {
			_, err = io.WriteString(c, again)
			time.Sleep(every)
		}
	}
}

// slowly says octets one by one.
func slowly(octets string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		for i := range octets {
			c.Write([]byte{octets[i]})
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// thenResets says octets and ends by a reset that does not overtake them.
func thenResets(octets string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		io.WriteString(c, octets)
		time.Sleep(50 * time.Millisecond)
		c.SetLinger(0)
		c.Close()
	}
}

// thenCloses says octets and ends in good order.
func thenCloses(octets string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		io.WriteString(c, octets)
		c.Close()
	}
}

func misbehaviours() []misbehaviour {
	const (
		ok      = "HTTP/1.1 200 OK\r\n"
		sized   = ok + "Content-Length: 9\r\n\r\nhello"
		chunked = ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
		evil    = ok + "Content-Length: 4\r\n\r\nevil"
		tick    = 10 * time.Millisecond
	)
	wait := func(c *net.TCPConn) { c.Read(make([]byte, 1)) }
	broken := func(name, octets string) misbehaviour {
		return misbehaviour{name: name, act: says(octets), reason: proxy.UpstreamBroken}
	}
	return []misbehaviour{
		{name: "silent", act: wait, reason: proxy.UpstreamTimeout},
		{name: "silent behind half a head", act: func(c *net.TCPConn) { says(ok + "X: ")(c); wait(c) }, reason: proxy.UpstreamTimeout},
		{name: "silent behind an interim answer", act: func(c *net.TCPConn) { says("HTTP/1.1 103 Hints\r\n\r\n")(c); wait(c) }, reason: proxy.UpstreamTimeout},
		{name: "a field without end, by the octet", act: drips(ok+"X: ", "x", tick), reason: proxy.UpstreamTimeout},
		{name: "a field without end", act: drips(ok+"X: ", strings.Repeat("x", 4096), 0), reason: proxy.UpstreamBroken},
		{name: "fields without end, one by one", act: drips(ok, "X: x\r\n", tick), reason: proxy.UpstreamTimeout},
		{name: "fields without end", act: drips(ok, strings.Repeat("X: x\r\n", 500), 0), reason: proxy.UpstreamBroken},
		{name: "interim answers without end, one by one", act: drips("", "HTTP/1.1 102 Processing\r\n\r\n", tick), reason: proxy.UpstreamTimeout},
		{name: "interim answers without end", act: drips("", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 50), 0), reason: proxy.UpstreamBroken},

		{name: "slow head and body", act: slowly(ok + "Content-Length: 5\r\n\r\nhello"), body: "hello"},
		{name: "slow interim answer, chunks and trailers", act: slowly("HTTP/1.1 103 Hints\r\n\r\n" + chunked + "0\r\nX: y\r\n\r\n"), body: "hello"},
		{name: "slow, and cut", act: func(c *net.TCPConn) { slowly(sized)(c); c.Close() }, body: "hello", cut: true},

		{name: "closed when accepted", rude: true, act: thenCloses(""), reason: proxy.UpstreamBroken},
		{name: "reset when accepted", rude: true, act: thenResets(""), reason: proxy.UpstreamBroken},
		{name: "closed when asked", act: thenCloses(""), reason: proxy.UpstreamBroken},
		{name: "reset when asked", act: thenResets(""), reason: proxy.UpstreamBroken},
		{name: "closed in the head", act: thenCloses(ok + "Content-Le"), reason: proxy.UpstreamBroken},
		{name: "reset in the head", act: thenResets(ok + "Content-Le"), reason: proxy.UpstreamBroken},
		{name: "closed behind an interim answer", act: thenCloses("HTTP/1.1 103 Hints\r\n\r\n"), reason: proxy.UpstreamBroken},
		{name: "closed in the body", act: thenCloses(sized), body: "hello", cut: true},
		{name: "reset in the body", act: thenResets(sized), body: "hello", cut: true},
		{name: "closed in the chunks", act: thenCloses(chunked), body: "hello", cut: true},
		{name: "reset in the chunks", act: thenResets(chunked), body: "hello", cut: true},
		{name: "closed in the trailers", act: thenCloses(chunked + "0\r\nX: y\r\n"), body: "hello", cut: true},
		{name: "reset in a body that only the end would end", act: thenResets(ok + "\r\nhello"), body: "hello", cut: true},

		{name: "longer than its length", act: says(ok + "Content-Length: 5\r\n\r\nhello, evil"), body: "hello"},
		{name: "shorter than its length, and then another answer", act: thenCloses(ok + "Content-Length: 60\r\n\r\nhello"), body: "hello", cut: true},
		broken("two lengths", ok+"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
		broken("a length below zero", ok+"Content-Length: -1\r\n\r\n"),
		broken("a length over all numbers", ok+"Content-Length: 99999999999999999999\r\n\r\n"),
		broken("length and chunks", ok+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
		broken("another coding", ok+"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),

		{name: "a chunk size that is none", act: says(chunked + "0x5\r\nhello\r\n"), body: "hello", cut: true},
		{name: "a chunk size over all numbers", act: says(chunked + "ffffffffffffffff\r\n"), body: "hello", cut: true},
		{name: "a chunk longer than its size", act: says(ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n"), body: "hello", cut: true},
		{name: "a chunk size with a bare LF", act: says(chunked + "5\nhello\r\n"), body: "hello", cut: true},
		{name: "a chunk extension without end", act: drips(chunked+"5;", strings.Repeat("x", 100), 0), body: "hello", cut: true},
		{name: "trailers without end", act: drips(chunked+"0\r\n", strings.Repeat("X: x\r\n", 100), 0), body: "hello", cut: true},
		{name: "a trailer that is none", act: says(chunked + "0\r\n: x\r\n\r\n"), body: "hello", cut: true},

		broken("an upgrade nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		broken("not HTTP", "SSH-2.0-OpenSSH_9.2\r\n"),
		{name: "HTTP/2", act: thenCloses("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), reason: proxy.UpstreamBroken},
		broken("a status of four digits", "HTTP/1.1 1000 Odd\r\n\r\n"),
		broken("a status below 100", "HTTP/1.1 099 Odd\r\n\r\n"),
		broken("bare LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
		broken("a folded field", ok+"X: a\r\n b\r\n\r\n"),
		broken("a field without a name", ok+": a\r\n\r\n"),

		{name: "another answer behind its own", act: says(hello + evil), body: "hello"},
		{name: "another answer behind chunks", act: says(chunked + "0\r\n\r\n" + evil), body: "hello"},
		{name: "another answer behind nothing", act: says("HTTP/1.1 204 No Content\r\n\r\n" + evil)},
		{name: "another answer a little later", act: func(c *net.TCPConn) { says(hello)(c); time.Sleep(time.Millisecond); says(evil)(c) }, body: "hello"},
		{name: "a body where none may be", act: says("HTTP/1.1 304 Not Modified\r\n\r\nevil")},
		{name: "an answer before it is asked", rude: true, act: says(hello), body: "hello"},
	}
}

// spoil registers a clone that misbehaves once and then answers with the path it
// is asked for. acted is closed when it has misbehaved.
func (b *bench) spoil(t *testing.T, id registry.ID, m misbehaviour) (acted <-chan struct{}) {
	t.Helper()
	ln := listen(t)
	t.Cleanup(func() { ln.Close() })
	done := make(chan struct{})
	go func() {
		for first := true; ; first = false {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go b.spoilt(c.(*net.TCPConn), m, first, done)
		}
	}()
	b.register(id, www(ln.Addr().String()))
	return done
}

// spoilt serves one connection of a clone that misbehaves on its first.
func (b *bench) spoilt(c *net.TCPConn, m misbehaviour, first bool, done chan<- struct{}) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(c)
	if first {
		if !m.rude {
			if _, err := http.ReadRequest(in); err != nil {
				b.t.Errorf("%s: the request did not come: %v", m.name, err)
			}
		}
		m.act(c)
		close(done)
	}
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
	}
}

// post sends a POST, which nobody repeats, and reads the answer as far as it goes.
func post(rt http.RoundTripper, host, path string) (res *http.Response, body string, err error) {
	req, err := http.NewRequest("POST", "https://"+host+"."+zone+path, nil)
	if err != nil {
		return nil, "", err
	}
	if res, err = rt.RoundTrip(req); err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	p, err := io.ReadAll(res.Body)
	return res, string(p), err
}

// TestMisbehavingEndpoints holds that whatever an endpoint does, its client gets a
// clear refusal or an answer that is visibly cut, the next one its own answer,
// and the clients of other clones theirs in the meantime: of the same client
// connection over HTTP/2, of another over HTTP/1.1.
func TestMisbehavingEndpoints(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.ResponseTimeout = time.Second })
	b.serve("well", who("well"))
	t.Run("all", func(t *testing.T) { // so that the gateway outlives them
		for i, m := range misbehaviours() {
			for _, front := range []string{"h1", "h2"} {
				t.Run(front+" "+m.name, func(t *testing.T) {
					t.Parallel()
					id := registry.ID(fmt.Sprint(front, "x", i))
					var ill, well http.RoundTripper = b.newClient(false).Transport, b.newClient(false).Transport
					if front == "h2" {
						cc := b.conn2()
						ill, well = cc, cc
					} else {
						defer ill.(*http.Transport).CloseIdleConnections()
						defer well.(*http.Transport).CloseIdleConnections()
					}
					b.meet(t, ill, well, id, m)
				})
			}
		}
	})
}

// meet has a client meet a misbehaviour while another, or the same one, is served
// by a clone that is well.
func (b *bench) meet(t *testing.T, ill, well http.RoundTripper, id registry.ID, m misbehaviour) {
	t.Helper()
	acted := b.spoil(t, id, m)
	host := "www-" + string(id)
	ended := make(chan struct{})
	served := make(chan int)
	go func() {
		n := 0
		defer func() { served <- n }()
		for ; ; n++ {
			select {
			case <-ended:
				return
			default:
			}
			start := time.Now()
			if _, body, err := post(well, "www-well", "/"); body != "well as www-well."+zone || err != nil {
				t.Errorf("another clone: got %q, %v", body, err)
				return
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("another clone answered after %s", d)
			}
		}
	}()
	res, body, err := post(ill, host, "/first")
	close(ended)
	if n := <-served; m.reason == proxy.UpstreamTimeout && n < 2 {
		t.Errorf("another clone answered %d requests while this one was silent", n)
	}
	switch {
	case res == nil:
		t.Fatalf("no answer: %v", err)
	case m.reason != "":
		reply{res, body}.wantReason(t, m.reason.Status(), m.reason)
	case body != m.body || (err != nil) != m.cut || res.Header.Get("Clonegate-Reason") != "":
		t.Errorf("got %d %q, %v; want %q, and that cut: %v", res.StatusCode, body, err, m.body, m.cut)
	}
	want := m.reason
	if m.cut {
		want = proxy.CutByClone
	}
	if r := b.records(id, 1)[0]; r.Reason != want {
		t.Errorf("recorded with reason %q; want %q", r.Reason, want)
	}
	<-acted
	for _, path := range []string{"/second", "/third"} {
		if res, body, err := post(ill, host, path); err != nil || body != path {
			t.Errorf("then %s got %v %q, %v; want its own answer", path, res, body, err)
		}
	}
}

// TestUnaskedUpgradesKeepNothing has an endpoint switch protocols 1,000 times
// where nobody asked for that: no descriptor stays open (golang/go#80875).
func TestUnaskedUpgradesKeepNothing(t *testing.T) {
	b := newBench(t)
	b.backend("1", func(c *net.TCPConn, in *bufio.Reader) {
		io.WriteString(c, switched)
		if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the endpoint's connection was not closed: %v", err)
		}
	})
	storm := func(n int) {
		for range n {
			for _, client := range []*http.Client{b.client, b.h2} {
				b.do(client, "https://www-1."+zone+"/").wantReason(t, 502, proxy.UpstreamBroken)
			}
		}
	}
	storm(1)
	before := b.usage()
	storm(500)
	var after usage
	defer func() { t.Logf("before %+v, after %+v", before, after) }()
	eventually(t, "all connections are closed", func() bool {
		after = b.usage()
		return after.files <= before.files && after.goroutines <= before.goroutines
	})
}
