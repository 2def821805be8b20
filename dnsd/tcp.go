package dnsd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of TCP, per listener.
const (
	maxConns          = 256 // unless habits differ
	maxConnsPerSource = 16
	maxPipelined      = 100     // questions of one connection that wait for upstreams
	maxUnread         = 1 << 20 // octets of replies that one connection does not take
)

var errUnread = errors.New("client does not take its replies")

// serveTCP accepts connections until the listener closes, and returns when
// the last of them has ended.
func (f *front) serveTCP(ctx context.Context) error {
	var open sync.WaitGroup
	defer open.Wait()
	sources := &busy{}
	for {
		conn, err := f.tcp.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("dns listener %v: %w", f.addr, err)
			}
			f.metrics.dropped("accept")
			time.Sleep(readPause)
			continue
		}
		client := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		leave, ok := enterConn(sources, client.Addr(), f.habits.MaxConns)
		if !ok {
			f.metrics.dropped("tcp_connections")
			conn.Close()
			continue
		}
		open.Go(func() {
			defer leave()
			f.serveConn(ctx, conn, client)
		})
	}
}

// enterConn takes one of limit places for a connection, among all and among
// those of its source: an IPv4 address or an IPv6 /64.
func enterConn(sources *busy, client netip.Addr, limit int) (leave func(), ok bool) {
	source := client.Unmap()
	bits := source.BitLen()
	if source.Is6() {
		bits = 64
	}
	prefix, _ := source.WithZone("").Prefix(bits)
	const all = "all"
	if !sources.enter(all, limit) {
		return nil, false
	}
	if !sources.enter(prefix.String(), maxConnsPerSource) {
		sources.leave(all)
		return nil, false
	}
	return func() { sources.leave(prefix.String()); sources.leave(all) }, true
}

// serveConn answers questions as they come, in the order in which answers are
// ready (RFC 7766 §6.2.1.1). Each message must arrive within the idle time,
// and each reply be taken within it.
func (f *front) serveConn(ctx context.Context, conn net.Conn, client netip.AddrPort) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	w := &tcpWriter{conn: conn, timeout: f.timing.idle}
	places := make(chan struct{}, maxPipelined)
	var jobs sync.WaitGroup
	defer jobs.Wait()
	var buf bytes.Buffer
	worker := f.newWorker()
	for {
		conn.SetReadDeadline(time.Now().Add(f.timing.idle))
		if err := readMessage(conn, &buf); err != nil {
			return
		}
		if served, err := f.serveTransfer(ctx, buf.Bytes(), client, w); err != nil {
			return
		} else if served {
			continue
		}
		reply, waiting := worker.take(buf.Bytes(), client, true)
		if waiting == nil {
			if reply == nil || w.write(reply) != nil {
				return
			}
			continue
		}
		places <- struct{}{}
		jobs.Add(1)
		waiting.send = func(reply []byte) {
			go func() { // a slow reader must not hold up those who bring answers
				defer func() { <-places; jobs.Done() }()
				if reply != nil {
					w.write(reply)
				}
			}()
		}
		f.later(ctx, waiting)
	}
}

// A tcpWriter writes whole messages, one after the other. If one is not taken
// in time, the connection closes: the client would not know where the next begins.
type tcpWriter struct {
	mu      sync.Mutex
	conn    net.Conn
	timeout time.Duration
	unread  atomic.Int64 // octets of replies that wait for the client
}

func (w *tcpWriter) write(reply []byte) error {
	defer w.unread.Add(-int64(len(reply)))
	if w.unread.Add(int64(len(reply))) > maxUnread {
		w.conn.Close()
		return errUnread
	}
	message := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
	message = append(message, reply...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn.SetWriteDeadline(time.Now().Add(w.timeout))
	_, err := w.conn.Write(message)
	if err != nil {
		w.conn.Close()
	}
	return err
}
