package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestAsk asks endpoints of every kind.
func TestAsk(t *testing.T) {
	question := []byte("question")
	hears := func(t *testing.T, c net.Conn, n int) {
		t.Helper()
		if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
			t.Error(err)
		}
	}
	for _, row := range []struct {
		name     string
		question []byte
		before   func(t *testing.T, other net.Conn) // what the endpoint does unasked
		then     func(t *testing.T, other net.Conn)
		sent     int // -1: some of it
		answer   string
		err      error
	}{
		{
			"answers", question, nil,
			func(t *testing.T, c net.Conn) { hears(t, c, len(question)); io.WriteString(c, "answer") },
			len(question), "answer", nil,
		},
		{"answers before", question, func(_ *testing.T, c net.Conn) { io.WriteString(c, "a") }, nil, 0, "", errStale},
		{"has gone", question, func(_ *testing.T, c net.Conn) { c.Close() }, nil, 0, "", errStale},
		{"goes", question, nil, func(t *testing.T, c net.Conn) { hears(t, c, len(question)); c.Close() }, len(question), "", io.EOF},
		{"is silent", question, nil, nil, len(question), "", os.ErrDeadlineExceeded},
		{"takes no more", make([]byte, 64<<20), nil, nil, -1, "", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			own, other := connected(t)
			s := newSocket(own)
			if row.before != nil {
				row.before(t, other)
				time.Sleep(10 * time.Millisecond) // loopback has delivered by then
			}
			if row.then != nil {
				go row.then(t, other)
			}
			s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			answer := make([]byte, 100)
			sent, n, err := newAsker(s).ask(row.question, answer)
			if sent != row.sent && (row.sent >= 0 || sent <= 0 || sent >= len(row.question)) {
				t.Errorf("sent %d octets, want %d", sent, row.sent)
			}
			if got := answer[:n]; !bytes.Equal(got, []byte(row.answer)) || !errors.Is(err, row.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, row.answer, row.err)
			}
		})
	}
}

// connected returns the two ends of a connection over loopback.
func connected(t *testing.T) (own, other net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if own, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if other, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close(); other.Close() })
	return own, other
}
