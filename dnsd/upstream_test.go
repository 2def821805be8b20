package dnsd_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// An upstream is a DNS server that a test writes: it may say anything.
type upstream struct {
	addr netip.AddrPort

	mu    sync.Mutex
	asked []asked // guarded by mu
}

// asked is one question that reached an upstream.
type asked struct {
	network string // "udp" or "tcp"
	msg     *dns.Msg
	from    netip.AddrPort
}

// A handler answers one question by calling send any number of times; nil
// closes the connection it came over.
type handler func(q asked, send func([]byte))

func newUpstream(t testing.TB, h handler) *upstream {
	t.Helper()
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	var loops sync.WaitGroup
	for _, conn := range dnsd.UDPConns(udp) {
		loops.Go(func() { u.serveUDP(&loops, conn, h) })
	}
	loops.Go(func() { u.serveTCP(&loops, tcp, h) })
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		loops.Wait()
	})
	return u
}

func (u *upstream) serveUDP(loops *sync.WaitGroup, conn *net.UDPConn, h handler) {
	buf := make([]byte, 65535)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(buf[:n]) != nil || dnsd.IsLoopProbe(m) {
			continue
		}
		q := asked{"udp", m, from}
		if !isHealthProbe(m) {
			u.note(q)
		}
		loops.Go(func() { h(q, func(p []byte) { conn.WriteToUDPAddrPort(p, from) }) })
	}
}

// isHealthProbe reports whether a question only asks whether anybody is there.
func isHealthProbe(m *dns.Msg) bool {
	return len(m.Question) == 1 && m.Question[0].Name == "." && m.Question[0].Qtype == dns.TypeNS
}

// serveTCP answers all questions of a connection, in the order in which the
// handler does.
func (u *upstream) serveTCP(loops *sync.WaitGroup, l net.Listener, h handler) {
	var open sync.Map // of connections
	defer func() { open.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true }) }()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		open.Store(conn, nil)
		loops.Go(func() {
			defer open.Delete(conn)
			defer conn.Close()
			var write sync.Mutex
			for {
				m := readQuestion(conn)
				if m == nil {
					return
				}
				q := u.note(asked{"tcp", m, conn.RemoteAddr().(*net.TCPAddr).AddrPort()})
				loops.Go(func() {
					h(q, func(p []byte) {
						write.Lock()
						defer write.Unlock()
						if p == nil {
							conn.Close()
							return
						}
						conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
					})
				})
			}
		})
	}
}

// readQuestion reads one message, nil if there is none.
func readQuestion(conn net.Conn) *dns.Msg {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil
	}
	p := make([]byte, binary.BigEndian.Uint16(length[:]))
	m := new(dns.Msg)
	if _, err := io.ReadFull(conn, p); err != nil || m.Unpack(p) != nil {
		return nil
	}
	return m
}

func (u *upstream) note(q asked) asked {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, q)
	return q
}

// questions returns what was asked so far.
func (u *upstream) questions() []asked {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]asked(nil), u.asked...)
}

func (u *upstream) count() int { return len(u.questions()) }

// says returns a handler that answers every question with the same records.
func says(rcode int, answer, ns []string, extra ...string) handler {
	return func(q asked, send func([]byte)) { send(pack(replyTo(q, rcode, answer, ns, extra...))) }
}

// replyTo returns a well-formed reply. An empty owner stands for the name
// that was asked.
func replyTo(q asked, rcode int, answer, ns []string, extra ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(q.msg, rcode)
	m.RecursionAvailable, m.AuthenticatedData = true, true
	m.Compress = true
	m.Answer, m.Ns, m.Extra = records(q, answer), records(q, ns), records(q, extra)
	if opt := q.msg.IsEdns0(); opt != nil {
		m.SetEdns0(1232, opt.Do())
	}
	return m
}

func records(q asked, texts []string) []dns.RR {
	var out []dns.RR
	for _, s := range texts {
		if s[0] == ' ' {
			s = q.msg.Question[0].Name + s
		}
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		out = append(out, rr)
	}
	return out
}

func pack(m *dns.Msg) []byte {
	p, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return p
}

// silent never answers.
func silent(asked, func([]byte)) {}

// to returns a resolver that asks the given upstreams.
func to(us ...*upstream) *dnsd.Resolver {
	r := &dnsd.Resolver{}
	for _, u := range us {
		r.Upstreams = append(r.Upstreams, u.addr)
	}
	return r
}
