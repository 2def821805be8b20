package http1_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/proxy/http1"
)

// readBody reads a body that comes step octets at a time and returns the
// payload, what is behind the body, and the error.
func readBody(b *http1.Body, s string, step int) (payload, rest string, err error) {
	var p []byte
	for at := 0; ; {
		for {
			var got []byte
			var n int
			got, n, err = b.Next(p)
			payload += string(got)
			if err != nil {
				return payload, string(p[n:]) + s[at:], err
			}
			if p = p[n:]; n == 0 || len(p) == 0 && len(got) == 0 {
				break
			}
		}
		if at == len(s) {
			return payload, string(p), b.End()
		}
		to := min(at+step, len(s))
		p = append(p, s[at:to]...)
		at = to
	}
}

func TestChunks(t *testing.T) {
	for _, tt := range []struct {
		name, octets, payload, rest string
		err                         error
	}{
		{"two chunks", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nnext", "hello!", "next", io.EOF},
		{"none", "0\r\n\r\n", "", "", io.EOF},
		{"capitals and zeros", "00A\r\n0123456789\r\n000\r\n\r\n", "0123456789", "", io.EOF},
		{"extensions", "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n", "hello", "", io.EOF},
		{"white space before an extension", "5 \t;a\r\nhello\r\n0\r\n\r\n", "hello", "", io.EOF},
		{"trailers", "0\r\nX: y\r\nZ:\r\n\r\nnext", "", "next", io.EOF},
		{"cut in a chunk", "5\r\nhel", "hel", "", io.ErrUnexpectedEOF},
		{"cut behind a chunk", "5\r\nhello\r\n", "hello", "", io.ErrUnexpectedEOF},
		{"cut in the trailers", "0\r\nX: y\r\n", "", "X: y\r\n", io.ErrUnexpectedEOF},
		{"hexadecimal with a prefix", "0x5\r\nhello\r\n0\r\n\r\n", "", "x5\r\nhello\r\n0\r\n\r\n", http1.ErrChunkSize},
		{"signed", "+5\r\nhello\r\n", "", "+5\r\nhello\r\n", http1.ErrChunkSize},
		{"empty size", "\r\nhello\r\n", "", "\r\nhello\r\n", http1.ErrChunkSize},
		{"only an extension", ";a\r\nhello\r\n", "", ";a\r\nhello\r\n", http1.ErrChunkSize},
		{"overflow", "10000000000000000\r\n", "", "00\r\n", http1.ErrChunkSize},
		{"white space before", " 5\r\nhello\r\n", "", " 5\r\nhello\r\n", http1.ErrChunkSize},
		{"white space behind", "5 \r\nhello\r\n", "", "\r\nhello\r\n", http1.ErrChunkSize},
		{"junk behind", "5g\r\nhello\r\n", "", "g\r\nhello\r\n", http1.ErrChunkSize},
		{"underscore", "1_0\r\n", "", "_0\r\n", http1.ErrChunkSize},
		{"bare LF behind the size", "5\nhello\r\n", "", "\nhello\r\n", http1.ErrChunkSize},
		{"CR and no LF behind the size", "5\rXhello\r\n", "", "Xhello\r\n", http1.ErrLineEnd},
		{"bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n", "", "\nhello\r\n0\r\n\r\n", http1.ErrChunkExtension},
		{"CR in an extension", "5;a\rb\r\nhello\r\n", "", "b\r\nhello\r\n", http1.ErrLineEnd},
		{"bare LF behind the data", "5\r\nhello\n0\r\n\r\n", "hello", "\n0\r\n\r\n", http1.ErrChunkEnd},
		{"more data than announced", "5\r\nhello!\r\n0\r\n\r\n", "hello", "!\r\n0\r\n\r\n", http1.ErrChunkEnd},
		{"long extension", "5;" + strings.Repeat("a", 300) + "\r\n", "", strings.Repeat("a", 44) + "\r\n", http1.ErrChunkExtension},
		{"folded trailer", "0\r\n X: y\r\n\r\n", "", " X: y\r\n\r\n", http1.ErrFolded},
		{"bare LF in the trailers", "0\r\nX: y\n\r\n", "", "X: y\n\r\n", http1.ErrLineEnd},
		{"bare LF at the end", "0\r\n\n", "", "\n", http1.ErrLineEnd},
	} {
		for _, step := range []int{1, 3, 1 << 20} {
			t.Run(fmt.Sprint(tt.name, step), func(t *testing.T) {
				var b http1.Body
				b.BeginChunked()
				payload, rest, err := readBody(&b, tt.octets, step)
				if payload != tt.payload || rest != tt.rest || !errors.Is(err, tt.err) {
					t.Errorf("got %q, rest %q, %v; want %q, %q, %v", payload, rest, err, tt.payload, tt.rest, tt.err)
				}
			})
		}
	}
	var b http1.Body
	b.BeginChunked()
	if _, _, err := readBody(&b, "0\r\n"+strings.Repeat("a: b\r\n", 1000), 1<<20); err != http1.ErrTrailerTooLarge && err != http1.ErrTooManyFields {
		t.Errorf("endless trailers: got %v; want them refused", err)
	}
	b.BeginChunked()
	if _, _, err := readBody(&b, "0\r\nX-Sum: 42\r\n\r\n", 1<<20); err != io.EOF {
		t.Fatal(err)
	}
	if v, ok := b.Trailers.Find("x-sum"); !ok || string(v) != "42" {
		t.Errorf("trailer: got %q, %v; want 42", v, ok)
	}
}

func TestSizedAndOpenBodies(t *testing.T) {
	var b http1.Body
	for _, tt := range []struct {
		name          string
		begin         func()
		payload, rest string
		err           error
	}{
		{"sized", func() { b.BeginSized(3) }, "abc", "def", io.EOF},
		{"empty", func() { b.BeginSized(0) }, "", "abcdef", io.EOF},
		{"cut", func() { b.BeginSized(7) }, "abcdef", "", io.ErrUnexpectedEOF},
		{"open", func() { b.BeginOpen() }, "abcdef", "", io.EOF},
	} {
		for _, step := range []int{1, 2, 6} {
			tt.begin()
			payload, rest, err := readBody(&b, "abcdef", step)
			if payload != tt.payload || rest != tt.rest || err != tt.err {
				t.Errorf("%s: got %q, rest %q, %v; want %q, %q, %v", tt.name, payload, rest, err, tt.payload, tt.rest, tt.err)
			}
		}
	}
}

func TestAppendChunkSize(t *testing.T) {
	for _, n := range []int{0, 1, 9, 10, 15, 16, 255, 256, 65535, 65536, 1 << 30} {
		if got, want := string(http1.AppendChunkSize(nil, n)), fmt.Sprintf("%x\r\n", n); got != want {
			t.Errorf("%d: got %q; want %q", n, got, want)
		}
	}
}
