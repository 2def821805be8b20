package load

import (
	"bytes"
	"fmt"
	"io"
)

// WebSocket opens a WebSocket and sends a message of 32 octets each time the
// last has come back.
func WebSocket(w *worker) {
	c, err := w.open()
	if err != nil {
		w.fail(err)
		return
	}
	defer c.Close()
	if err := c.upgrade(request(w.id, Socket, [2]string{"Connection", "Upgrade"}, [2]string{"Upgrade", "websocket"},
		[2]string{"Sec-WebSocket-Version", "13"}, [2]string{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}), w.want); err != nil {
		w.fail(err)
		return
	}
	const size = 32
	message := bytes.Repeat([]byte("m"), size)
	// A binary frame, masked with zeroes (RFC 6455, section 5.2), and its echo.
	frame := append([]byte{0x82, 0x80 | size, 0, 0, 0, 0}, message...)
	want, echo := append([]byte{0x82, size}, message...), make([]byte, 2+size)
	pace := w.pacer()
	for w.alive() {
		due := pace.wait()
		_, err := c.Write(frame)
		if err == nil {
			_, err = io.ReadFull(c, echo)
		}
		if err == nil && !bytes.Equal(echo, want) {
			err = fmt.Errorf("got %x, want %x", echo, want)
		}
		if err != nil {
			w.fail(fmt.Errorf("WebSocket: %w", err))
			return
		}
		w.answered(due)
	}
}

// upgrade asks for the protocol to be changed and reads the first message,
// which has to be want.
func (c *conn) upgrade(req, want []byte) error {
	if _, err := c.Conn.Write(req); err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	head, err := c.head()
	if err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return fmt.Errorf("WebSocket: got %q", line)
	}
	first := make([]byte, 2+len(want))
	n := copy(first, c.buf[c.r:c.w])
	if _, err := io.ReadFull(c.Conn, first[n:]); err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	if !bytes.Equal(first[2:], want) {
		return fmt.Errorf("WebSocket: another clone answered: want %s", want)
	}
	return nil
}
