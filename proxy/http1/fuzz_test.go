package http1_test

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/proxy/http1"
)

// seeds are requests and responses that fuzzing starts from.
var seeds = []string{
	browser, answer + strings.Repeat("x", 1024),
	"POST /a?b=%zz HTTP/1.1\r\nHost: h:80\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nbehind",
	"GET http://h/?x HTTP/1.1\r\nHost: h\r\nConnection: close, x\r\n\r\n",
	"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.0 404\r\nX: \xff\ty\r\n\r\nuntil the end",
	"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
}

// FuzzRequest holds our reading of requests against net/http's: we accept
// nothing that it refuses, and what both accept, both read alike.
func FuzzRequest(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		var r http1.Request
		done, err := r.Parse(octets, maxHead)
		sameInSteps(t, octets, done, err, func() func([]byte) (bool, error) {
			var r http1.Request
			return func(b []byte) (bool, error) { return r.Parse(b, maxHead) }
		})
		if !done || err != nil {
			return
		}
		in := bufio.NewReaderSize(bytes.NewReader(bytes.TrimPrefix(octets, []byte("\r\n"))), maxHead)
		ref, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http refuses: %v", err)
		}
		target := string(r.Bytes(r.Target))
		if got := string(r.Bytes(r.Method)); got != ref.Method {
			t.Errorf("method %q; want %q", got, ref.Method)
		}
		if !strings.HasSuffix(ref.RequestURI, target) || target[:min(1, len(target))] == "/" && ref.RequestURI[0] == '/' && target != ref.RequestURI {
			t.Errorf("target %q; want %q", target, ref.RequestURI)
		}
		if got := string(r.Bytes(r.Authority)); got != ref.Host {
			t.Errorf("authority %q; want %q", got, ref.Host)
		}
		if got := !r.Persists(r.Minor); got != ref.Close {
			t.Errorf("close %v; want %v", got, ref.Close)
		}
		if ref.ProtoMinor != r.Minor {
			t.Errorf("version 1.%d; want 1.%d", r.Minor, ref.ProtoMinor)
		}
		sameFields(t, &r.Section, ref.Header, "Host")
		var body http1.Body
		switch {
		case r.Chunked:
			body.BeginChunked()
		default:
			body.BeginSized(max(0, r.Length))
		}
		sameBody(t, &body, octets[r.Len:], ref.Body, in, func() http.Header { return ref.Trailer })
	})
}

// FuzzResponse does the same for responses to GET.
func FuzzResponse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		var r http1.Response
		done, err := r.Parse(octets, maxHead)
		sameInSteps(t, octets, done, err, func() func([]byte) (bool, error) {
			var r http1.Response
			return func(b []byte) (bool, error) { return r.Parse(b, maxHead) }
		})
		if !done || err != nil {
			return
		}
		in := bufio.NewReaderSize(bytes.NewReader(octets), maxHead)
		ref, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("net/http refuses: %v", err)
		}
		if r.Status != ref.StatusCode || r.Minor != ref.ProtoMinor {
			t.Errorf("status %d, version 1.%d; want %d, 1.%d", r.Status, r.Minor, ref.StatusCode, ref.ProtoMinor)
		}
		// net/http trims the whole line.
		if got := string(bytes.Trim(r.Bytes(r.Phrase), " \t")); got != strings.Trim(ref.Status[3:], " \t") {
			t.Errorf("phrase %q; want %q", got, ref.Status)
		}
		sameFields(t, &r.Section, ref.Header, "")
		var body http1.Body
		switch {
		case r.Status < 200, r.Status == 204, r.Status == 304:
			body.BeginSized(0)
		case r.Chunked:
			body.BeginChunked()
		case r.Length >= 0:
			body.BeginSized(r.Length)
		default:
			body.BeginOpen()
		}
		sameBody(t, &body, octets[r.Len:], ref.Body, in, func() http.Header { return ref.Trailer })
	})
}

// sameInSteps checks that a head that comes octet by octet reads the same.
func sameInSteps(t *testing.T, octets []byte, done bool, err error, parser func() func([]byte) (bool, error)) {
	t.Helper()
	if len(octets) > 4096 {
		return
	}
	parse := parser()
	for n := 0; n <= len(octets); n++ {
		gotDone, gotErr := parse(octets[:n])
		if gotDone || gotErr != nil {
			if gotDone != done || gotErr != err {
				t.Errorf("in steps: done %v, error %v after %d octets; at once: %v, %v", gotDone, gotErr, n, done, err)
			}
			return
		}
	}
	if done || err != nil {
		t.Errorf("in steps: never done; at once: %v, %v", done, err)
	}
}

// sameFields compares fields whose names net/http has not taken out.
func sameFields(t *testing.T, s *http1.Section, ref http.Header, without string) {
	t.Helper()
	got := http.Header{}
	for _, f := range s.Fields {
		name := textproto.CanonicalMIMEHeaderKey(string(s.Name(f)))
		if name != without && f.Kind != http1.TransferEncoding && f.Kind != http1.Trailer {
			got[name] = append(got[name], string(s.Value(f)))
		}
	}
	ref = ref.Clone()
	ref.Del("Trailer")
	if !maps.EqualFunc(got, ref, slices.Equal[[]string]) {
		t.Errorf("fields %q; want %q", got, ref)
	}
}

// sameBody compares payload, trailers, outcome and where the body ended.
func sameBody(t *testing.T, body *http1.Body, octets []byte, ref io.Reader, in *bufio.Reader, trailers func() http.Header) {
	t.Helper()
	payload, rest, err := readBody(body, string(octets), 1<<20)
	want, refErr := io.ReadAll(ref)
	if err != io.EOF {
		return // cut, or refused: being stricter is allowed
	}
	if refErr != nil {
		t.Fatalf("net/http refuses the body: %v", refErr)
	}
	if payload != string(want) {
		t.Errorf("payload %q; want %q", payload, want)
	}
	behind, _ := io.ReadAll(in)
	if rest != string(behind) {
		t.Errorf("behind the body is %q; want %q", rest, behind)
	}
	got := http.Header{}
	for _, f := range body.Trailers.Fields {
		name := textproto.CanonicalMIMEHeaderKey(string(body.Trailers.Name(f)))
		got[name] = append(got[name], string(body.Trailers.Value(f)))
	}
	ref2 := trailers().Clone()
	maps.DeleteFunc(ref2, func(_ string, v []string) bool { return len(v) == 0 }) // announced only
	if !maps.EqualFunc(got, ref2, slices.Equal[[]string]) {
		t.Errorf("trailers %q; want %q", got, ref2)
	}
}
