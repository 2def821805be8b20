package proxy

import (
	"strconv"

	"github.com/clonegate/clonegate/proxy/http1"
)

// This file is the writing half of a call. The head waits for the body's first
// octets or for the end, and the last octets wait for the end: a short answer
// leaves in one write, and no frame is empty.

func (c *call) interim(a *response) error {
	if a.status == 100 && !c.x.request.expects {
		return nil
	}
	c.addFields(a)
	return c.s.WriteHead(a.status, false)
}

func (c *call) head(a *response) error {
	c.x.status = a.status // 101 in the log, though HTTP/2 says 200
	if a.status == 101 {
		c.addFields(a)
		if err := c.s.WriteHead(200, false); err != nil {
			return err
		}
		return c.s.Flush()
	}
	c.status, c.silent = a.status, a.empty
	dated := c.addFields(a)
	var b [32]byte
	if a.length >= 0 && a.status != 204 {
		c.s.AddField([]byte("content-length"), strconv.AppendInt(b[:0], a.length, 10))
	}
	if !dated {
		c.s.AddField([]byte("date"), c.m.e.dates.append(b[:0], c.trip.now))
	}
	return nil
}

// addFields adds the fields of an answer that go to the client. dated reports
// that there is a Date among them.
func (c *call) addFields(a *response) (dated bool) {
	policy := &c.m.e.g.policy
	for _, f := range a.fields.Fields {
		name := a.fields.Name(f)
		switch {
		case f.Kind == http1.Trailer || f.Kind == http1.Ordinary && a.ours || policy.returns(a.fields, f, a.nominates):
		default:
			continue
		}
		if a.status == 101 && http1.EqualFold(name, "sec-websocket-accept") {
			continue // it answers a key that this client has not sent
		}
		dated = dated || len(name) == 4 && http1.EqualFold(name, "date")
		c.s.AddField(name, a.fields.Value(f))
	}
	return dated
}

// sayHead writes the head, if it still waits.
func (c *call) sayHead(end bool) error {
	if c.status == 0 {
		return nil
	}
	status := c.status
	c.status = 0
	return c.s.WriteHead(status, end)
}

// say queues what waits.
func (c *call) say() error {
	if err := c.sayHead(false); err != nil || len(c.held) == 0 {
		return err
	}
	held := c.held
	c.held = nil
	return c.s.QueueData(held)
}

func (c *call) write(p []byte) error {
	if c.silent {
		return nil
	}
	c.x.sent.Add(uint64(len(p)))
	err := c.say()
	c.held = p
	return err
}

func (c *call) flush() error {
	if err := c.say(); err != nil {
		return err
	}
	return c.s.Flush()
}

func (c *call) end(trailers *http1.Section) error {
	c.ended = true
	switch {
	case trailers != nil && len(trailers.Fields) > 0 && !c.silent:
		if err := c.say(); err != nil {
			return err
		}
		for _, f := range trailers.Fields {
			if isTrailer(trailers, f) {
				c.s.AddField(trailers.Name(f), trailers.Value(f))
			}
		}
		return c.s.WriteTrailers()
	case c.status != 0 && len(c.held) == 0:
		return c.sayHead(true)
	}
	if err := c.sayHead(false); err != nil {
		return err
	}
	held := c.held
	c.held = nil
	return c.s.WriteData(held, true)
}
