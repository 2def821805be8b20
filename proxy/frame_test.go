package proxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// frame returns a WebSocket frame.
func frame(opcode byte, payload int, masked bool) []byte {
	f := []byte{0x80 | opcode, 0}
	switch {
	case payload < 126:
		f[1] = byte(payload)
	case payload < 1<<16:
		f[1] = 126
		f = binary.BigEndian.AppendUint16(f, uint16(payload))
	default:
		f[1] = 127
		f = binary.BigEndian.AppendUint64(f, uint64(payload))
	}
	if masked {
		f[1] |= 0x80
		f = append(f, 1, 2, 3, 4)
	}
	return append(f, make([]byte, payload)...)
}

// TestFrameScanner feeds frames of every shape in pieces of every size.
func TestFrameScanner(t *testing.T) {
	var whole []byte
	var ends []int
	for _, masked := range []bool{true, false} {
		for _, payload := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
			whole = append(whole, frame(2, payload, masked)...)
			ends = append(ends, len(whole))
		}
	}
	for _, piece := range []int{1, 2, 3, 7, 1000, len(whole)} {
		var f frameScanner
		var got []int
		for at := 0; at < len(whole); {
			rest := whole[at:min(at+piece, len(whole))]
			for len(rest) > 0 {
				n := f.skip(rest)
				at, rest = at+n, rest[n:]
				if f.atBoundary() {
					got = append(got, at)
				}
			}
		}
		if !slices.Equal(got, ends) {
			t.Errorf("in pieces of %d: frames end at %v; want %v", piece, got, ends)
		}
		if f.closed {
			t.Errorf("in pieces of %d: a close frame was seen; there is none", piece)
		}
	}
	var f frameScanner
	f.skip(frame(8, 2, false))
	if !f.closed {
		t.Error("a close frame was not seen")
	}
}

// FuzzFrameScanner holds that it does not matter how octets are cut.
func FuzzFrameScanner(f *testing.F) {
	f.Add(append(frame(1, 200, true), frame(8, 2, false)...), uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, piece uint8) {
		ends := func(size int) (out []int, last frameScanner) {
			var f frameScanner
			for at := 0; at < len(p); {
				rest := p[at:min(at+size, len(p))]
				for len(rest) > 0 {
					n := f.skip(rest)
					if n <= 0 || n > len(rest) {
						t.Fatalf("skip of %d octets took %d", len(rest), n)
					}
					at, rest = at+n, rest[n:]
					if f.atBoundary() {
						out = append(out, at)
					}
				}
			}
			return out, f
		}
		a, atEnd := ends(int(piece) + 1)
		b, atEnd2 := ends(len(p) + 1)
		if !slices.Equal(a, b) || atEnd.rest != atEnd2.rest || atEnd.closed != atEnd2.closed {
			t.Fatalf("frames end at %v in pieces of %d, at %v in one", a, int(piece)+1, b)
		}
	})
}

// TestTunnelIsShutBetweenFrames shuts a tunnel while a frame passes: the frame
// arrives whole, then the close frame, and nothing behind it.
func TestTunnelIsShutBetweenFrames(t *testing.T) {
	client, clientEnd := net.Pipe()
	backend, backendEnd := net.Pipe()
	tun := newTunnel(time.Minute, new(buffers))
	ended := make(chan struct{})
	go func() { tun.run(clientEnd, backendEnd, nil, nil); close(ended) }()

	message := frame(1, 100, false)
	client.SetReadDeadline(time.Now().Add(5 * time.Second))
	go io.Copy(io.Discard, backend) // takes the other close frame
	go backend.Write(message[:40])
	if _, err := io.ReadFull(client, make([]byte, 40)); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte)
	go func() {
		rest, _ := io.ReadAll(client)
		got <- rest
	}()
	tun.shut()
	time.Sleep(20 * time.Millisecond) // the tunnel hears of it within the frame
	backend.Write(append(message[40:], frame(1, 5, false)...))
	backend.Close()
	if rest, want := <-got, append(bytes.Clone(message[40:]), 0x88, 2, 0x03, 0xe9); !bytes.Equal(rest, want) {
		t.Errorf("then the client got % x; want the rest of the message and a close frame 1001", rest)
	}
	<-ended
}

func TestCloseFrame(t *testing.T) {
	f := closeFrame(goingAway, true)
	if len(f) != 8 || f[0] != 0x88 || f[1] != 0x82 || f[6]^f[2] != 0x03 || f[7]^f[3] != 0xe9 {
		t.Errorf("masked: % x", f)
	}
}
