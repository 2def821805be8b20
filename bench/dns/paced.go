package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A paced asks at a fixed rate and takes the time of every answer.
type paced struct {
	server netip.AddrPort
	rate   int // queries per second
	dur    time.Duration
	clones int
}

// pacedSockets is over how many sockets a paced asks.
const pacedSockets = 8

// A pacedSocket is one socket with what it has asked.
type pacedSocket struct {
	conn *net.UDPConn

	mu    sync.Mutex // guards what follows
	sent  map[uint16]time.Time
	times []time.Duration
	wrong int
}

// run asks and returns the times of right answers, in ascending order, and how
// many queries were answered wrong or not at all.
func (p paced) run(ctx context.Context) (times []time.Duration, lost, wrong int, err error) {
	sockets := make([]*pacedSocket, pacedSockets)
	var readers sync.WaitGroup
	defer readers.Wait()
	for i := range sockets {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(p.server))
		if err != nil {
			return nil, 0, 0, err
		}
		defer conn.Close()
		sockets[i] = &pacedSocket{conn: conn, sent: map[uint16]time.Time{}}
		readers.Go(sockets[i].read)
	}
	sent, err := p.send(ctx, sockets)
	if err != nil {
		return nil, 0, 0, err
	}
	for late := time.Now().Add(300 * time.Millisecond); time.Now().Before(late); time.Sleep(time.Millisecond) {
		times, wrong = answered(sockets)
		if len(times)+wrong == sent {
			break
		}
	}
	slices.Sort(times)
	return times, sent - len(times) - wrong, wrong, nil
}

// answered returns the times of all right answers so far, and how many were wrong.
func answered(sockets []*pacedSocket) (times []time.Duration, wrong int) {
	for _, s := range sockets {
		s.mu.Lock()
		times = append(times, s.times...)
		wrong += s.wrong
		s.mu.Unlock()
	}
	return times, wrong
}

// send sends what is due every millisecond.
func (p paced) send(ctx context.Context, sockets []*pacedSocket) (sent int, err error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < p.dur; {
		for due := int(time.Since(start).Seconds() * float64(p.rate)); sent < due; sent++ {
			id := uint16(sent / len(sockets))
			msg := query(id, fmt.Sprintf(localNames, sent*7919%p.clones))
			if err := sockets[sent%len(sockets)].ask(id, msg); err != nil {
				return sent, fmt.Errorf("ask %s: %w", p.server, err)
			}
		}
		select {
		case <-ctx.Done():
			return sent, ctx.Err()
		case <-tick.C:
		}
	}
	return sent, nil
}

func (s *pacedSocket) ask(id uint16, msg []byte) error {
	s.mu.Lock()
	s.sent[id] = time.Now()
	s.mu.Unlock()
	_, err := s.conn.Write(msg)
	return err
}

// read takes answers until the socket is closed.
func (s *pacedSocket) read() {
	buf := make([]byte, 4<<10)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			return
		}
		now := time.Now()
		s.take(buf[:n], now)
	}
}

func (s *pacedSocket) take(msg []byte, now time.Time) {
	if len(msg) < 12 {
		return
	}
	id := binary.BigEndian.Uint16(msg)
	s.mu.Lock()
	defer s.mu.Unlock()
	start, ok := s.sent[id]
	if !ok {
		return
	}
	delete(s.sent, id)
	if !isAddress(msg) {
		s.wrong++
		return
	}
	s.times = append(s.times, now.Sub(start))
}

// isAddress reports whether an answer holds an address of a clone or of the
// gateway: no error, and an A record that lies in 127.0.0.0/8.
func isAddress(msg []byte) bool {
	return msg[3]&0xf == 0 && binary.BigEndian.Uint16(msg[6:]) >= 1 && bytes.Contains(msg[12:], []byte{0, 4, 127})
}

// lookUp asks once for a name and says if it has no address there.
func lookUp(ctx context.Context, server netip.AddrPort, name string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp4", server.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write(query(1, name)); err != nil {
		return err
	}
	buf := make([]byte, 4<<10)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	if n < 12 || !isAddress(buf[:n]) {
		return fmt.Errorf("%s is answered without an address, rcode %d", name, buf[3]&0xf)
	}
	return nil
}
