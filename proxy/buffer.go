package proxy

import "sync"

// bufferSize is the size of the buffers that octets pass through.
const bufferSize = 32 << 10

// buffers lends out buffers of bufferSize octets. The zero value is ready.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return buf
	}
	return new(make([]byte, bufferSize))
}

func (b *buffers) put(buf *[]byte) { b.pool.Put(buf) }
