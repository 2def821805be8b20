package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
)

const waits = "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"

// TestContinueIsSaidForClones has a clone that knows nothing of 100 and waits
// for the body.
func TestContinueIsSaidForClones(t *testing.T) {
	b := newBench(t)
	b.origin(func(c *net.TCPConn, r *http.Request) bool { io.WriteString(c, hello); return true })
	c := b.dialTLS("www-1." + zone)
	start := time.Now()
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: www-1."+zone+"\r\n"+waits)
	in := bufio.NewReader(c)
	if head := readHead(t, in); head != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Fatalf("got %q", head)
	}
	if d := time.Since(start); d < 900*time.Millisecond || d > 3*time.Second {
		t.Errorf("100 came after %s; want about 1 s, in which the clone could have declined", d)
	}
	io.WriteString(c, "body!")
	if head := readHead(t, in); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Errorf("then %q", head)
	}
}

// TestContinueIsNotSaidInVain asks for a clone that is not there: the body is not
// wanted, and nobody knows whether it comes.
func TestContinueIsNotSaidInVain(t *testing.T) {
	b := newBench(t)
	c := b.dialTLS("www-1." + zone)
	got := exchangeRaw(t, c, "POST / HTTP/1.1\r\nHost: www-9."+zone+"\r\n"+waits)
	got.wantReason(t, 404, proxy.UnknownClone)
	if !got.Close {
		t.Error("the connection stays open")
	}
}
