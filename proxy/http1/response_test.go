package http1_test

import (
	"strings"
	"testing"

	"github.com/clonegate/clonegate/proxy/http1"
)

const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\n" +
	"Date: Sat, 01 Nov 2025 00:00:00 GMT\r\nCache-Control: no-cache, private\r\nVary: Accept-Encoding\r\n\r\n"

func TestResponseRefused(t *testing.T) {
	for _, tt := range []struct {
		name, head string
		want       *http1.Error
	}{
		{"status of four digits", "HTTP/1.1 1000 Odd\r\n\r\n", http1.ErrStatusLine},
		{"status of two digits", "HTTP/1.1 99 Odd\r\n\r\n", http1.ErrStatusLine},
		{"status below 100", "HTTP/1.1 099 Odd\r\n\r\n", http1.ErrStatusLine},
		{"signed status", "HTTP/1.1 +20 Odd\r\n\r\n", http1.ErrStatusLine},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n", http1.ErrStatusLine},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", http1.ErrVersion},
		{"tab before the phrase", "HTTP/1.1 200\tOK\r\n\r\n", http1.ErrStatusLine},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", http1.ErrStatusLine},
		{"CR in the phrase", "HTTP/1.1 200 O\rK\r\n\r\n", http1.ErrStatusLine},
		{"bare LF", "HTTP/1.1 200 OK\nX: y\r\n\r\n", http1.ErrLineEnd},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", http1.ErrLengths},
		{"length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", http1.ErrLengthAndCoded},
		{"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", http1.ErrCoding},
		{"coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", http1.ErrOldCoding},
		{"folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", http1.ErrFolded},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", http1.ErrFieldName},
		{"too large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead), http1.ErrHeadTooLarge},
		{"empty line first", "\r\nHTTP/1.1 200 OK\r\n\r\n", http1.ErrStatusLine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done, err := new(http1.Response).Parse([]byte(tt.head), maxHead)
			if err != tt.want {
				t.Errorf("got done %v, error %v; want %v", done, err, tt.want)
			}
		})
	}
}

func TestResponseParts(t *testing.T) {
	for _, tt := range []struct {
		name, head, phrase string
		status             int
		length             int64
		chunked, persists  bool
	}{
		{"plain", answer, "OK", 200, 1024, false, true},
		{"no phrase", "HTTP/1.1 204\r\n\r\n", "", 204, -1, false, true},
		{"empty phrase", "HTTP/1.1 200 \r\n\r\n", "", 200, -1, false, true},
		{"long phrase", "HTTP/1.1 999 Go away, ü\r\n\r\n", "Go away, ü", 999, -1, false, true},
		{"chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n", "OK", 200, -1, true, false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "OK", 200, 0, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r http1.Response
			done, err := r.Parse([]byte(tt.head+"behind"), maxHead)
			if !done || err != nil || r.Len != len(tt.head) {
				t.Fatalf("got done %v, error %v, length %d; want a head of %d", done, err, r.Len, len(tt.head))
			}
			if r.Status != tt.status || string(r.Bytes(r.Phrase)) != tt.phrase || r.Length != tt.length ||
				r.Chunked != tt.chunked || r.Persists(r.Minor) != tt.persists {
				t.Errorf("got %d %q, length %d, chunked %v, persists %v; want %+v",
					r.Status, r.Bytes(r.Phrase), r.Length, r.Chunked, r.Persists(r.Minor), tt)
			}
		})
	}
}

func BenchmarkResponse(b *testing.B) {
	var r http1.Response
	head := []byte(answer)
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if done, err := r.Parse(head, maxHead); !done || err != nil {
			b.Fatal(done, err)
		}
	}
}
