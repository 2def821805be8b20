//go:build amd64 || arm64

package dnsd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// packetBatch is how many packets one system call receives or sends, at most.
// More than this wins nothing on loopback and makes the first one wait.
const packetBatch = 16

// serveUDP answers the packets of one socket. What has to wait for upstreams
// goes to a bounded number of goroutines; everything else is answered here,
// several packets for two system calls if several are there.
func (f *front) serveUDP(ctx context.Context, conn *net.UDPConn) error {
	socket, err := newUDPSocket(conn)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("dns listener %v: %w", f.addr, err)
	}
	b := newUDPBatch(socket)
	w := f.newWorker()
	for {
		n, err := b.receive()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("dns listener %v: %w", f.addr, err)
			}
			f.metrics.dropped("receive")
			time.Sleep(readPause)
			continue
		}
		for i := range n {
			packet, client := b.packet(i)
			w.out = b.room()
			reply, waiting := w.take(packet, client, false)
			if waiting != nil {
				waiting.socket, waiting.to = socket, b.peer(i)
				f.later(ctx, waiting)
			} else if reply != nil {
				b.add(reply, i)
			}
		}
		if lost := b.send(); lost > 0 {
			f.metrics.drops.WithLabelValues("send").Add(float64(lost))
		}
	}
}

// A peer is who sent a packet, and to which of our addresses.
type peer struct {
	addr    netip.AddrPort
	control []byte // makes the reply leave from the address that was asked; nil if there is but one
}

func (f *front) send(socket *udpSocket, reply []byte, to peer) {
	if _, _, err := socket.WriteMsgUDPAddrPort(reply, to.control, to.addr); err != nil {
		f.metrics.dropped("send")
	}
}

// A udpSocket is a socket that clients send packets to.
type udpSocket struct {
	*net.UDPConn
	raw        syscall.RawConn
	everywhere bool // bound to every address, so replies must say which they come from
}

func newUDPSocket(conn *net.UDPConn) (*udpSocket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &udpSocket{UDPConn: conn, raw: raw, everywhere: conn.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()}
	if s.everywhere {
		var sockErr error
		err = raw.Control(func(fd uintptr) {
			if unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) != nil { // an IPv4 socket
				sockErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			}
		})
		err = errors.Join(err, sockErr)
	}
	return s, err
}

// mmsghdr is what recvmmsg(2) and sendmmsg(2) take, on 64-bit systems.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // octets received
	_   [4]byte
}

// A udpBatch receives and sends packets in numbers. All of its memory is its
// own and is used again and again.
type udpBatch struct {
	*udpSocket
	first [packetBatch]struct { // of packets received
		data    [maxQuery]byte
		name    unix.RawSockaddrInet6
		control [8]uint64 // aligned for what the system writes there
		iov     unix.Iovec
	}
	second [packetBatch]struct { // of replies
		data [maxSize]byte
		iov  unix.Iovec
	}
	in, out [packetBatch]mmsghdr

	replies    int // collected in out
	n          int // of replies that were sent, or lost
	done       int // packets of the last system call
	errno      syscall.Errno
	recv, push func(fd uintptr) bool
}

func newUDPBatch(s *udpSocket) *udpBatch {
	b := &udpBatch{udpSocket: s}
	b.recv = func(fd uintptr) bool {
		b.done, b.errno = mmsg(unix.SYS_RECVMMSG, fd, b.in[:])
		return b.errno != unix.EAGAIN
	}
	b.push = func(fd uintptr) bool {
		b.done, b.errno = mmsg(unix.SYS_SENDMMSG, fd, b.out[b.n:b.replies])
		return b.errno != unix.EAGAIN
	}
	return b
}

// mmsg receives or sends messages, and returns how many. It does not tell the
// scheduler: nothing blocks here, and a batch is over sooner than it would take
// to hand the processor on.
func mmsg(trap, fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// receive waits for packets and returns how many came.
func (b *udpBatch) receive() (int, error) {
	b.replies = 0
	for i := range b.in {
		m, h := &b.first[i], &b.in[i].hdr
		m.iov.Base = &m.data[0]
		m.iov.SetLen(len(m.data))
		h.Iov = &m.iov
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&m.name))
		h.Namelen = unix.SizeofSockaddrInet6
		if b.everywhere {
			h.Control = (*byte)(unsafe.Pointer(&m.control))
			h.SetControllen(int(unsafe.Sizeof(m.control)))
		}
	}
	if err := b.raw.Read(b.recv); err != nil {
		return 0, err
	}
	if b.errno != 0 {
		return 0, b.errno
	}
	return b.done, nil
}

// packet returns a packet that was received, and who sent it.
func (b *udpBatch) packet(i int) ([]byte, netip.AddrPort) {
	m := &b.first[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&m.name.Port))[:])
	addr := netip.AddrFrom16(m.name.Addr)
	if m.name.Family == unix.AF_INET {
		addr = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&m.name)).Addr)
	}
	return m.data[:b.in[i].n], netip.AddrPortFrom(addr, port)
}

// control returns what makes a reply to a packet leave from the address that
// the packet was sent to: what came with it, without the interface it came in
// by, which need not be the way back.
func (b *udpBatch) control(i int) []byte {
	n := int(b.in[i].hdr.Controllen)
	if !b.everywhere || n < unix.SizeofCmsghdr {
		return nil
	}
	c := (*[unsafe.Sizeof(b.first[i].control)]byte)(unsafe.Pointer(&b.first[i].control))[:n]
	h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
	data := unsafe.Pointer(&c[unix.CmsgLen(0)])
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO:
		(*unix.Inet4Pktinfo)(data).Ifindex = 0
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO:
		if info := (*unix.Inet6Pktinfo)(data); !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
			info.Ifindex = 0
		}
	}
	return c
}

// peer returns who sent a packet, to reply later.
func (b *udpBatch) peer(i int) peer {
	_, addr := b.packet(i)
	if ip := addr.Addr(); ip.Is6() && b.first[i].name.Scope_id != 0 {
		addr = netip.AddrPortFrom(ip.WithZone(fmt.Sprint(b.first[i].name.Scope_id)), addr.Port())
	}
	return peer{addr, append([]byte(nil), b.control(i)...)}
}

// room returns where the next reply may be written.
func (b *udpBatch) room() []byte { return b.second[b.replies].data[:0] }

// add collects the reply to packet i.
func (b *udpBatch) add(reply []byte, i int) {
	m, h := &b.second[b.replies], &b.out[b.replies].hdr
	m.iov.Base = &reply[0]
	m.iov.SetLen(len(reply))
	h.Iov = &m.iov
	h.SetIovlen(1)
	h.Name, h.Namelen = b.in[i].hdr.Name, b.in[i].hdr.Namelen
	if control := b.control(i); control != nil {
		h.Control = &control[0]
		h.SetControllen(len(control))
	} else {
		h.Control = nil
		h.SetControllen(0)
	}
	b.replies++
}

// send sends the replies that were collected and returns how many could not be.
func (b *udpBatch) send() (lost int) {
	for b.n = 0; b.n < b.replies; {
		if b.raw.Write(b.push) != nil {
			return lost + b.replies - b.n
		}
		if b.errno != 0 { // says why the first of them was not sent
			lost++
			b.done = 1
		}
		b.n += b.done
	}
	return lost
}
