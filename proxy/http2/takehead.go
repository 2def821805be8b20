package http2

import (
	"fmt"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An opening is a field block on its way in.
type opening struct {
	id     uint32
	end    bool // the stream ends with it
	open   bool // CONTINUATION is to follow
	frames int  // CONTINUATION frames so far
}

// maxBlock is how long a field block may be on the wire.
func (c *conn) maxBlock() int { return max(2*c.srv.cfg.HeaderList, maxFrame) }

func (c *conn) takeHeaders(f frame) *ConnError {
	if err := f.unpad(); err != nil {
		return err
	}
	if f.flags.Has(h2.FlagHeadersPriority) {
		if len(f.payload) < 5 {
			return violation(h2.ErrCodeFrameSize, "HEADERS too short for its priority")
		}
		f.payload = f.payload[5:]
	}
	if f.id%2 == 0 {
		return violation(h2.ErrCodeProtocol, "HEADERS on a stream that only a server may open")
	}
	c.opening = opening{id: f.id, end: f.flags.Has(h2.FlagHeadersEndStream)}
	if f.flags.Has(h2.FlagHeadersEndHeaders) {
		return c.takeBlock(f.payload)
	}
	c.opening.open = true
	c.block = append(c.block, f.payload...)
	return nil
}

func (c *conn) takeContinuation(f frame) *ConnError {
	c.opening.frames++
	switch {
	case len(c.block)+len(f.payload) > c.maxBlock():
		return violation(h2.ErrCodeEnhanceYourCalm, fmt.Sprintf("a field block of more than %d octets", c.maxBlock()))
	case c.opening.frames > continuations:
		return violation(h2.ErrCodeEnhanceYourCalm, fmt.Sprintf("a field block of more than %d frames", continuations))
	}
	c.block = append(c.block, f.payload...)
	if !f.flags.Has(h2.FlagContinuationEndHeaders) {
		return nil
	}
	c.opening.open = false
	err := c.takeBlock(c.block)
	c.block = nil
	return err
}

// takeField is given the fields of a block by the decoder. Those over the
// limit are not decoded.
func (c *conn) takeField(f hpack.HeaderField) {
	c.head.size += int(f.Size())
	if c.head.size > c.srv.cfg.HeaderList {
		c.head.Oversized = true
		c.dec.SetEmitEnabled(false)
		return
	}
	c.head.add(f.Name, f.Value)
}

// unpinBlock is a whole field block, of the least effect: ":method: GET".
var unpinBlock = []byte{0x82}

// unpin makes the decoder forget the memory of the last block, which is not
// to be kept from others while the connection waits.
func (c *conn) unpin() {
	c.pinned = false
	c.dec.SetEmitEnabled(false)
	c.dec.Write(unpinBlock)
	c.dec.Close()
}

// takeBlock acts on a whole field block, a request's or its trailers'. It is
// decoded whatever becomes of it, because the next depends on it.
func (c *conn) takeBlock(block []byte) *ConnError {
	o := &c.opening
	trailers := o.id <= c.lastID // only this goroutine changes it
	c.head.reset(trailers)
	c.dec.SetEmitEnabled(true)
	c.pinned = true
	_, err := c.dec.Write(block)
	if err == nil {
		err = c.dec.Close()
	}
	if err != nil {
		return violation(h2.ErrCodeCompression, err.Error())
	}
	c.cookie = c.head.finish(o.end, c.cookie)
	if len(c.cookie) > 4<<10 {
		c.cookie = "" // too long to be kept by an idle connection
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if trailers {
		return c.takeTrailers()
	}
	return c.takeRequest()
}

// takeRequest opens a stream with the head that was read, or refuses it.
func (c *conn) takeRequest() *ConnError {
	id, cfg := c.opening.id, &c.srv.cfg
	if id > c.refuse { // said in GOAWAY
		return c.idleFrame(1)
	}
	c.lastID = id
	switch {
	case c.head.fault != "":
		return c.misuse(id, h2.ErrCodeProtocol, c.head.fault)
	case c.counted >= cfg.Streams || len(c.streams) >= 2*cfg.Streams ||
		c.held+c.head.size+cfg.ConnWindow > cfg.Memory:
		cfg.Count(Refused)
		c.out = appendReset(c.openOut(), id, h2.ErrCodeRefusedStream)
		c.closed.add(id, !c.opening.end)
		c.urgent = true
		return c.idleFrame(1)
	}
	c.frames.earn(requestEarns)
	s := c.srv.streams.Get().(*Stream)
	spare := s.Fields
	s.Request = c.head.Request
	c.head.Fields = spare
	s.size = min(c.head.size, cfg.HeaderList)
	s.begin(c, id, c.opening.end)
	c.streams[id] = s
	c.counted++
	c.held += s.size
	c.ready = append(c.ready, s)
	return nil
}

// takeTrailers ends a request with the fields that were read.
func (c *conn) takeTrailers() *ConnError {
	id := c.opening.id
	s := c.open(id)
	switch {
	case s == nil && c.closed.hasReset(id), s != nil && s.reset && !s.ended:
		return c.idleFrame(1)
	case s == nil && c.closed.hasEnded(id), s != nil && s.cut:
		return violation(h2.ErrCodeStreamClosed, "HEADERS on a stream that the client has closed")
	case s == nil:
		return violation(h2.ErrCodeProtocol, "HEADERS on a stream below one that was opened")
	case s.err != nil:
		return c.idleFrame(1)
	case s.ended:
		return c.misuse(id, h2.ErrCodeStreamClosed, "HEADERS after the end of the request")
	case !c.opening.end:
		return c.misuse(id, h2.ErrCodeProtocol, "HEADERS inside a body")
	case c.head.Oversized || c.held+c.head.size+c.srv.cfg.ConnWindow > c.srv.cfg.Memory:
		return c.misuse(id, h2.ErrCodeEnhanceYourCalm, "trailers over the limit")
	case c.head.fault != "":
		return c.misuse(id, h2.ErrCodeProtocol, c.head.fault)
	}
	s.trailers = c.head.Fields
	c.head.Fields = nil
	s.size += c.head.size
	c.held += c.head.size
	return c.endBody(s)
}
