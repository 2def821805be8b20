package http2

import "sync"

// chunkSize suits small uploads; a long one is a list.
const chunkSize = 8 << 10

// A chunk is a piece of a request's body.
type chunk struct {
	next       *chunk
	begin, end int
	data       [chunkSize]byte
}

// A body is what has arrived of a request's body and was not read yet. The
// flow-control windows bound it. The zero value is empty.
type body struct {
	first, last *chunk
	len         int
}

func (b *body) write(p []byte, spare *sync.Pool) {
	b.len += len(p)
	for len(p) > 0 {
		if b.last == nil || b.last.end == chunkSize {
			b.grow(spare.Get().(*chunk))
		}
		n := copy(b.last.data[b.last.end:], p)
		b.last.end += n
		p = p[n:]
	}
}

func (b *body) grow(c *chunk) {
	c.next, c.begin, c.end = nil, 0, 0
	if b.last == nil {
		b.first = c
	} else {
		b.last.next = c
	}
	b.last = c
}

func (b *body) read(p []byte, spare *sync.Pool) int {
	n := 0
	for n < len(p) && b.len > 0 {
		m := copy(p[n:], b.first.data[b.first.begin:b.first.end])
		n += m
		b.len -= m
		if b.first.begin += m; b.first.begin == b.first.end {
			b.drop(spare)
		}
	}
	return n
}

// drop gives the first chunk back.
func (b *body) drop(spare *sync.Pool) {
	c := b.first
	if b.first = c.next; b.first == nil {
		b.last = nil
	}
	spare.Put(c)
}

// clear empties the body and returns how many octets nobody will read.
func (b *body) clear(spare *sync.Pool) int {
	n := b.len
	for b.first != nil {
		b.drop(spare)
	}
	b.len = 0
	return n
}
