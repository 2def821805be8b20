package proxy

import "sync"

// The sizes of buffers that octets pass through.
const (
	smallBuffer = 16 << 10 // a head, or a record of TLS
	largeBuffer = 64 << 10 // what one write of a long body takes
)

// buffers lends out buffers of one size.
type buffers struct {
	size int
	pool sync.Pool
}

func newBuffers(size int) *buffers { return &buffers{size: size} }

func (b *buffers) get() *[]byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return buf
	}
	return new(make([]byte, b.size))
}

// put takes a buffer back. One that has grown is left to the collector.
func (b *buffers) put(buf *[]byte) {
	if cap(*buf) == b.size {
		*buf = (*buf)[:b.size]
		b.pool.Put(buf)
	}
}
