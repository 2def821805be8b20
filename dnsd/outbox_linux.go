//go:build amd64 || arm64

package dnsd

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outboxSize is how many replies an outbox holds before it sends them.
const outboxSize = 32

// An outbox collects replies to clients of any sockets, and sends those of one
// socket with one system call. One goroutine uses it, and flushes it before it
// does anything else for long.
type outbox struct {
	letters [outboxSize]letter
	n       int // letters that wait
	msgs    [outboxSize]mmsghdr
	posted  [outboxSize]int // the letters in msgs
}

// A letter is a reply on its way to its client.
type letter struct {
	data   [maxSize]byte
	front  *front
	socket *udpSocket // nil once it was sent
	to     peer
	name   unix.RawSockaddrInet6 // the client's address, of either family
	iov    unix.Iovec
}

// room returns where the next reply may be written; nil has none.
func (o *outbox) room() []byte {
	if o == nil {
		return nil
	}
	return o.letters[o.n].data[:0]
}

// add takes a reply, which is in room if it was written there.
func (o *outbox) add(f *front, socket *udpSocket, reply []byte, to peer) {
	l := &o.letters[o.n]
	if to.addr.Addr().Zone() != "" || len(reply) > len(l.data) { // rare, and more than a letter can say
		f.send(socket, reply, to)
		return
	}
	if &reply[0] != &l.data[0] {
		copy(l.data[:], reply)
	}
	l.front, l.socket, l.to = f, socket, to
	l.iov.Base = &l.data[0]
	l.iov.SetLen(len(reply))
	if o.n++; o.n == outboxSize {
		o.flush()
	}
}

// flush sends everything.
func (o *outbox) flush() {
	for i := range o.n {
		if o.letters[i].socket != nil {
			o.post(i)
		}
	}
	for i := range o.n { // what is gone is not held
		o.letters[i].front, o.letters[i].to = nil, peer{}
	}
	o.n = 0
}

// post sends letter first and those behind it of the same socket.
func (o *outbox) post(first int) {
	socket := o.letters[first].socket
	n := 0
	for i := first; i < o.n; i++ {
		l := &o.letters[i]
		if l.socket != socket {
			continue
		}
		l.socket = nil
		l.envelop(&o.msgs[n].hdr)
		o.posted[n] = i
		n++
	}
	sent := 0
	socket.raw.Control(func(fd uintptr) { // a socket that was closed sends nothing
		for sent < n {
			done, errno := mmsg(unix.SYS_SENDMMSG, fd, o.msgs[sent:n])
			if errno != 0 {
				return
			}
			sent += done
		}
	})
	for _, i := range o.posted[sent:n] { // these may have to wait for room, or fail one by one
		l := &o.letters[i]
		l.front.send(socket, l.data[:l.iov.Len], l.to)
	}
}

// envelop writes what the system needs to know to send the letter.
func (l *letter) envelop(h *unix.Msghdr) {
	addr, port := l.to.addr.Addr(), l.to.addr.Port()
	l.name = unix.RawSockaddrInet6{Family: unix.AF_INET6}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&l.name.Port))[:], port)
	h.Namelen = unix.SizeofSockaddrInet6
	if addr.Is4() {
		l.name.Family = unix.AF_INET
		(*unix.RawSockaddrInet4)(unsafe.Pointer(&l.name)).Addr = addr.As4()
		h.Namelen = unix.SizeofSockaddrInet4
	} else {
		l.name.Addr = addr.As16()
	}
	h.Name = (*byte)(unsafe.Pointer(&l.name))
	h.Iov = &l.iov
	h.SetIovlen(1)
	h.Control = nil
	h.SetControllen(len(l.to.control))
	if len(l.to.control) > 0 {
		h.Control = &l.to.control[0]
	}
}
