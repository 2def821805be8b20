package http2_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"testing"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// browserHead is the head of a request as browsers send it.
var browserHead = []string{
	":method", "GET", ":authority", "www-1234.example.com", ":scheme", "https", ":path", "/",
	"sec-ch-ua", `"Chromium";v="156"`, "sec-ch-ua-mobile", "?0", "user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
	"accept", "text/html,application/xhtml+xml", "sec-fetch-site", "none", "accept-encoding", "gzip, deflate, br, zstd",
	"accept-language", "en-US,en;q=0.9", "cookie", "session=0123456789abcdef0123456789abcdef",
}

// A replay is a client that costs little: it sends the same octets again and
// again, and counts the streams that ended.
type replay struct {
	nc   net.Conn
	id   uint32
	in   []byte
	have int
	out  bytes.Buffer
	enc  *hpack.Encoder
	blk  bytes.Buffer
}

func newReplay(nc net.Conn) *replay {
	r := &replay{nc: nc, id: 1, in: make([]byte, 64<<10)}
	r.enc = hpack.NewEncoder(&r.blk)
	r.out.WriteString(h2.ClientPreface)
	fr := h2.NewFramer(&r.out, nil)
	fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1<<31 - 1})
	fr.WriteSettingsAck()
	fr.WriteWindowUpdate(0, 1<<30)
	return r
}

// round sends n requests in one write and reads until they are answered. Their
// path is given, or else "/".
func (r *replay) round(b testing.TB, n int, path ...string) {
	for i := range n {
		r.blk.Reset()
		for k := 0; k < len(browserHead); k += 2 {
			f := hpack.HeaderField{Name: browserHead[k], Value: browserHead[k+1]}
			if f.Name == ":path" && len(path) > 0 {
				f.Value = path[i]
			}
			r.enc.WriteField(f)
		}
		block := r.blk.Bytes()
		r.out.Write([]byte{0, byte(len(block) >> 8), byte(len(block)), 1, 5, byte(r.id >> 24), byte(r.id >> 16), byte(r.id >> 8), byte(r.id)})
		r.out.Write(block)
		r.id += 2
	}
	if _, err := r.nc.Write(r.out.Bytes()); err != nil {
		b.Fatal(err)
	}
	r.out.Reset()
	for n > 0 {
		m, err := r.nc.Read(r.in[r.have:])
		if err != nil {
			b.Fatal(err)
		}
		r.have += m
		p := r.in[:r.have]
		for len(p) >= 9 {
			size := 9 + int(p[0])<<16 + int(p[1])<<8 + int(p[2])
			if len(p) < size {
				break
			}
			if p[3] <= 1 && p[4]&1 != 0 {
				n--
			}
			if p[3] == 3 || p[3] == 7 {
				b.Fatalf("frame of type %d: % x", p[3], p[:min(size, 40)])
			}
			p = p[size:]
		}
		r.have = copy(r.in, p)
	}
}

// answer1K is how a gateway answers with a page of 1 KiB.
func answer1K(body []byte) http2.HandlerFunc {
	names := [][2][]byte{
		{[]byte("content-type"), []byte("text/html; charset=utf-8")},
		{[]byte("content-length"), []byte(strconv.Itoa(len(body)))},
		{[]byte("date"), []byte("Sat, 21 Nov 2026 10:00:00 GMT")},
		{[]byte("etag"), []byte(`"0123456789abcdef"`)},
		{[]byte("cache-control"), []byte("no-cache")},
		{[]byte("x-request-id"), []byte("0123456789abcdef")},
	}
	return func(s *http2.Stream) {
		for _, f := range names {
			s.AddField(f[0], f[1])
		}
		s.WriteHead(200, false)
		s.WriteData(body, true)
	}
}

func BenchmarkRequest(b *testing.B) {
	cert := selfSigned(b)
	for _, streams := range []int{1, 8, 64} {
		for _, secure := range []bool{false, true} {
			name := "plain/" + strconv.Itoa(streams)
			if secure {
				name = "tls/" + strconv.Itoa(streams)
			}
			b.Run(name, func(b *testing.B) {
				client, server := pair(b)
				if secure {
					server = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true})
					client = tls.Client(client, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
				}
				go newServer(b, http2.Config{}).Serve(b.Context(), server, answer1K(make([]byte, 1024)))
				defer client.Close()
				r := newReplay(client)
				for range 10 {
					r.round(b, streams)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for i := 0; i < b.N; i += streams {
					r.round(b, streams)
				}
			})
		}
	}
}

func BenchmarkBody(b *testing.B) {
	cert := selfSigned(b)
	for _, secure := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "tls"}[secure], func(b *testing.B) {
			client, server := pair(b)
			if secure {
				server = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true})
				client = tls.Client(client, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
			}
			body := make([]byte, 32<<10)
			go newServer(b, http2.Config{}).Serve(b.Context(), server, http2.HandlerFunc(func(s *http2.Stream) {
				s.WriteHead(200, false)
				for i := range 32 {
					if s.WriteData(body, i == 31) != nil {
						return
					}
				}
			}))
			defer client.Close()
			p := &peer{Framer: h2.NewFramer(client, client), t: b}
			p.enc = hpack.NewEncoder(&p.block)
			io.WriteString(client, h2.ClientPreface)
			p.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1<<31 - 1})
			p.WriteSettingsAck()
			p.SetReuseFrames()
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			id := uint32(1)
			for b.Loop() {
				p.WriteWindowUpdate(0, 1<<20)
				p.request(id, true, get()...)
				id += 2
				for {
					f := p.next()
					if f == nil {
						b.Fatal("the connection has ended")
					}
					if d, ok := f.(*h2.DataFrame); ok && d.StreamEnded() {
						break
					}
				}
			}
		})
	}
}
