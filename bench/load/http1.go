package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// errStale says that a connection was closed before the first byte of an
// answer: on a kept connection, browsers ask again on a new one.
var errStale = errors.New("closed before any answer")

// HTTP1 asks for Path over one kept connection, again and again.
func HTTP1(w *worker) {
	req, pace := request(w.id, w.Path), w.pacer()
	var c *conn
	for w.alive() {
		due := pace.wait()
		kept := c != nil
		var err error
		if c == nil {
			c, err = w.open()
		}
		if err == nil {
			err = c.get(req, w.want)
		}
		if kept && errors.Is(err, errStale) {
			w.lost()
			c.Close()
			if c, err = w.open(); err == nil {
				err = c.get(req, w.want)
			}
		}
		if err == nil {
			w.answered(due)
		} else {
			w.fail(err)
		}
		if c != nil && (err != nil || c.last) {
			if err == nil {
				w.lost()
			}
			c.Close()
			c = nil
		}
	}
	if c != nil {
		c.Close()
	}
}

func (w *worker) open() (*conn, error) {
	t, err := w.dial(w.id, h1)
	if err != nil {
		return nil, err
	}
	return newConn(t), nil
}

// A conn is a connection of HTTP/1.1.
type conn struct {
	net.Conn
	buf  []byte // what was read
	r, w int    // of it, buf[r:w] was not looked at yet
	last bool   // the answer said that no other follows
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, buf: make([]byte, 64<<10)} }

// get asks and reads the answer, whose body has to begin with want.
func (c *conn) get(req, want []byte) error {
	if _, err := c.Write(req); err != nil {
		return errStale
	}
	head, err := c.head()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return fmt.Errorf("got %q", line)
	}
	text, ok := header(head, "content-length")
	size, err := strconv.Atoi(string(text))
	if !ok || err != nil {
		return errors.New("the answer has no Content-Length")
	}
	if connection, ok := header(head, "connection"); ok {
		c.last = bytes.EqualFold(connection, []byte("close"))
	}
	return c.body(size, want)
}

// head reads the head of an answer. It is valid until the next read.
func (c *conn) head() ([]byte, error) {
	for {
		if i := bytes.Index(c.buf[c.r:c.w], []byte("\r\n\r\n")); i >= 0 {
			head := c.buf[c.r : c.r+i+2]
			c.r += i + 4
			return head, nil
		}
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
		if c.w == len(c.buf) {
			return nil, errors.New("the answer's head is too long")
		}
		n, err := c.Read(c.buf[c.w:])
		c.w += n
		if err != nil && c.w == 0 {
			return nil, errStale
		}
		if err != nil {
			return nil, fmt.Errorf("in the answer's head: %w", err)
		}
	}
}

// body reads a body that has to begin with want.
func (c *conn) body(size int, want []byte) error {
	for seen := 0; seen < size; {
		if c.r == c.w {
			n, err := c.Read(c.buf)
			if err != nil {
				return fmt.Errorf("in the answer's body: %w", err)
			}
			c.r, c.w = 0, n
		}
		part := c.buf[c.r:min(c.w, c.r+size-seen)]
		if seen == 0 && !bytes.HasPrefix(part, want) {
			return fmt.Errorf("another clone answered: want %s", want)
		}
		c.r += len(part)
		seen += len(part)
	}
	return nil
}

// header returns the value of a header in a head that ends in CRLF.
func header(head []byte, name string) ([]byte, bool) {
	for len(head) > 0 {
		i := bytes.IndexByte(head, '\n')
		line := head[:i+1]
		head = head[i+1:]
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name)+1:]), true
		}
	}
	return nil, false
}
