package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"strings"

	"github.com/clonegate/clonegate/bench/load"
)

// serveOrigin is what stands behind every clone: HTTP/1.1 in as little CPU as
// Go allows, at the port of addr on every address of 127.0.0.0/8 at once. Each
// body begins with the address that was asked, so that clients see which clone
// answered.
func serveOrigin(ctx context.Context, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	large := bytes.Repeat([]byte("x"), 1<<20)
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go answer(c, large)
	}
}

// head is the head of an answer, as frameworks send it.
func head(size int) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nServer: clone\r\n"+
		"Date: Sat, 01 Nov 2025 00:00:00 GMT\r\nCache-Control: no-cache, private\r\nX-Frame-Options: SAMEORIGIN\r\n"+
		"Vary: Accept-Encoding\r\nContent-Length: %d\r\n\r\n", size)
}

// answer answers the requests of one connection. They have no bodies.
func answer(c net.Conn, large []byte) {
	defer c.Close()
	tag := c.LocalAddr().(*net.TCPAddr).IP.String() + "\n"
	small := []byte(head(1<<10) + tag + strings.Repeat("x", 1<<10-len(tag)))
	largeStart := []byte(head(len(large)) + tag)
	buf, n := make([]byte, 8<<10), 0
	for {
		end := bytes.Index(buf[:n], []byte("\r\n\r\n"))
		if end < 0 {
			k, err := c.Read(buf[n:])
			if err != nil || n+k == len(buf) {
				return
			}
			n += k
			continue
		}
		var err error
		switch _, target, _ := bytes.Cut(buf[:end], []byte(" ")); {
		case bytes.HasPrefix(target, []byte(load.Large+" ")):
			parts := net.Buffers{largeStart, large[len(tag):]}
			_, err = parts.WriteTo(c)
		case bytes.HasPrefix(target, []byte(load.Socket+" ")):
			echo(c, string(buf[:end]), tag, buf[end+4:n])
			return
		default:
			_, err = c.Write(small)
		}
		if err != nil {
			return
		}
		n = copy(buf, buf[end+4:n])
	}
}

// echo accepts a WebSocket, sends a first message, and sends back every small
// message that comes.
func echo(c net.Conn, head, first string, early []byte) {
	key := ""
	for line := range strings.SplitSeq(head, "\r\n") {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Sec-WebSocket-Key") {
			key = strings.TrimSpace(value)
		}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, section 4.2.2
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n\x82%c%s",
		base64.StdEncoding.EncodeToString(sum[:]), len(first), first)
	buf := make([]byte, 4<<10)
	n := copy(buf, early)
	out := make([]byte, 0, len(buf))
	for {
		for n >= 6 { // two octets, four of mask, and fewer than 126 of payload (RFC 6455, section 5.2)
			size := int(buf[1] & 0x7f)
			if size > 125 {
				return
			}
			if n < 6+size {
				break
			}
			out = append(out[:0], buf[0], byte(size))
			for i, b := range buf[6 : 6+size] {
				out = append(out, b^buf[2+i%4])
			}
			if _, err := c.Write(out); err != nil {
				return
			}
			n = copy(buf, buf[6+size:n])
		}
		k, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += k
	}
}
