package main

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
)

// upstreamZone is the zone that servers forward to the upstream.
const upstreamZone = "up.example"

// serveUpstream is what servers under test forward to: it answers every A
// question with one address, at once and with as little work as can be, and
// every other with no data.
func serveUpstream(ctx context.Context, addr string) error {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetReadBuffer(4 << 20) // the system may allow less
	buf := make([]byte, 4<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if reply := answer(buf[:n]); reply != nil {
			conn.WriteToUDPAddrPort(reply, from) // a lost answer is asked for again
		}
	}
}

// answer turns a question into its answer, in place if there is room behind it
// (RFC 1035, section 4.1). It returns nil for what is no question.
func answer(msg []byte) []byte {
	const header, fixed = 12, 4 // octets: of the message, and of type and class
	if len(msg) < header || msg[2]&0xf8 != 0 || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return nil
	}
	end := header
	for end < len(msg) && msg[end] != 0 {
		end += 1 + int(msg[end])
	}
	end += 1 + fixed
	if end > len(msg) {
		return nil
	}
	edns := binary.BigEndian.Uint16(msg[10:]) > 0
	isA := binary.BigEndian.Uint16(msg[end-fixed:]) == 1
	msg[2] |= 0x84 // QR and AA
	msg[3] = 0x80  // RA, no error
	counts := [8]byte{0, 1}
	out := msg[:end]
	if isA {
		counts[3] = 1
		// The name at offset 12, A, IN, one day, four octets: 127.9.9.9.
		out = append(out, 0xc0, header, 0, 1, 0, 1, 0, 1, 0x51, 0x80, 0, 4, 127, 9, 9, 9)
	} else {
		counts[5] = 1
		// The same name, SOA, IN, a minute: two root names and five numbers.
		out = append(out, 0xc0, header, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0)
		for range 5 {
			out = append(out, 0, 0, 0, 60)
		}
	}
	if edns {
		counts[7] = 1
		out = append(out, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0) // OPT, 1232 octets (RFC 6891, section 6.1.2)
	}
	copy(out[4:], counts[:])
	return out
}
