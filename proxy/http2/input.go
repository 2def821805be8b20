package http2

import (
	"io"
	"net"
	"sync"

	h2 "golang.org/x/net/http2"
)

// readSize holds the longest frame and what came with it.
const readSize = 18 << 10

// An input cuts what is read from a connection into frames. Between frames it
// holds no buffer.
type input struct {
	buf        *[readSize]byte // nil while there is nothing in it
	begin, end int
	one        [1]byte
	frames     int  // cut so far
	greeted    bool // the client's preface has been read
	settled    bool // its SETTINGS too
	partial    bool // as conn.partial
	heading    int  // as conn.heading
}

func (in *input) len() int { return in.end - in.begin }

// fill waits for octets and reads them.
func (in *input) fill(nc net.Conn, spare *sync.Pool) error {
	if in.len() == 0 {
		in.release(spare)
		n, err := nc.Read(in.one[:])
		if n == 0 {
			return err
		}
		in.buf = spare.Get().(*[readSize]byte)
		in.buf[0] = in.one[0]
		in.begin, in.end = 0, 1
	} else if in.begin > 0 {
		in.end = copy(in.buf[:], in.buf[in.begin:in.end])
		in.begin = 0
	}
	n, err := nc.Read(in.buf[in.end:])
	in.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (in *input) release(spare *sync.Pool) {
	if in.buf != nil {
		spare.Put(in.buf)
		in.buf = nil
	}
	in.begin, in.end = 0, 0
}

// preface takes the client's preface (RFC 9113 §3.4), as far as it is there.
func (in *input) preface() error {
	n := min(in.len(), len(h2.ClientPreface))
	if string(in.buf[in.begin:in.begin+n]) != h2.ClientPreface[:n] {
		return &ConnError{h2.ErrCodeProtocol, "the first octets are not HTTP/2's"}
	}
	if n == len(h2.ClientPreface) {
		in.begin += n
		in.greeted = true
	}
	return nil
}

// next returns the next frame, if all of it is there.
func (in *input) next() (f frame, ok bool, err error) {
	if in.len() == 0 {
		return f, false, nil
	}
	f, n, fault := cutFrame(in.buf[in.begin:in.end])
	if fault != nil {
		return f, false, fault
	}
	in.begin += n
	if n > 0 {
		in.frames++
	}
	return f, n > 0, nil
}
