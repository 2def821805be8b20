package dnsd_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ dnsd.Directory = (*registry.View)(nil)

const (
	zone  = "test_envs.localhost"
	alias = "test-envs.localhost"
)

var (
	gateway4 = netip.MustParseAddr("192.0.2.80")
	gateway6 = netip.MustParseAddr("2001:db8::80")
)

// A world is a registry's view whose contents a test sets at will.
type world struct {
	t     *testing.T
	zones *registry.Zones
	atomic.Pointer[registry.View]
	revision atomic.Uint64
}

func newWorld(t *testing.T, clones ...*registry.Clone) *world {
	t.Helper()
	zones, err := registry.NewZones(zone, alias)
	if err != nil {
		t.Fatal(err)
	}
	return newWorldIn(t, zones, clones...)
}

// newWorldIn returns a world in other zones than those of most tests.
func newWorldIn(t *testing.T, zones *registry.Zones, clones ...*registry.Clone) *world {
	t.Helper()
	w := &world{t: t, zones: zones}
	w.revision.Store(1)
	w.set(clones...)
	return w
}

// set replaces every clone.
func (w *world) set(clones ...*registry.Clone) {
	w.t.Helper()
	store := registrytest.NewStore()
	b := &registry.Batch{Clones: clones, Events: []registry.Event{{Seq: 1}}}
	if err := store.Commit(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
	r, err := registry.Open(w.t.Context(), registry.Config{Store: store, Zones: w.zones})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Store(r.View())
	w.revision.Add(1)
}

func (w *world) Lookup(sub string) (registry.Target, bool)    { return w.Load().Lookup(sub) }
func (w *world) Clone(id registry.ID) (*registry.Clone, bool) { return w.Load().Clone(id) }
func (w *world) Zones() *registry.Zones                       { return w.Load().Zones() }
func (w *world) Revision() uint64                             { return w.revision.Load() }

func addrs(texts ...string) []netip.Addr {
	out := make([]netip.Addr, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// shop returns a clone with something of everything.
func shop(id registry.ID) *registry.Clone {
	return &registry.Clone{
		ID: id, Incarnation: 1, State: registry.Ready, Desired: registry.WantReady,
		Aliases: []string{"pr-" + string(id)},
		Services: map[string]*registry.Service{
			"www": {Endpoints: []netip.AddrPort{netip.MustParseAddrPort("10.80.0.10:8080")}, Default: true},
			"api": {Endpoints: []netip.AddrPort{netip.MustParseAddrPort("10.80.0.20:8080")}},
		},
		Production: map[string]string{"*.shops.example.com": "api"},
		Hosts: map[registry.Host][]netip.Addr{
			"db":                  addrs("10.80.0.30"),
			"dual":                addrs("10.80.0.31", "10.80.0.32", "fd00:80::31"),
			"www":                 addrs("10.80.0.10"),
			"a.b.deep":            addrs("10.80.0.40"),
			"db.shop.example.com": addrs("10.80.0.30"),
			"_odd-.name":          addrs("10.80.0.41"),
		},
		Records: []registry.Record{
			{Name: "_sip._tcp", Type: "SRV", TTL: 60, Data: "0 5 5060 db"},
			{Name: "_sip._tcp", Type: "SRV", TTL: 60, Data: "1 5 5060 other.example.com."},
			{Name: "@", Type: "TXT", Data: `"v=spf1 -all" "two"`},
			{Name: "mail", Type: "CNAME", TTL: 30, Data: "db"},
			{Name: "out", Type: "CNAME", TTL: 30, Data: "www.example.net."},
			{Name: "front", Type: "CNAME", TTL: 30, Data: "www"},
			{Name: "loop1", Type: "CNAME", TTL: 30, Data: "loop2"},
			{Name: "loop2", Type: "CNAME", TTL: 30, Data: "loop1"},
			{Name: "nowhere", Type: "CNAME", TTL: 30, Data: "missing"},
			{Name: "*.wild", Type: "A", TTL: 30, Data: "10.80.0.99"},
			{Name: "*.wild", Type: "TXT", TTL: 30, Data: "wild"},
			{Name: "x.y.wild", Type: "A", TTL: 30, Data: "10.80.0.98"},
			{Name: "db", Type: "TXT", TTL: 30, Data: "primary"},
			{Name: "api", Type: "TXT", TTL: 30, Data: `"beside the service"`},
			{Name: "api", Type: "CNAME", TTL: 30, Data: "db"},
			{Name: "odd", Type: "TYPE65280", TTL: 30, Data: `\# 2 0a0b`},
		},
	}
}

// A server is a dnsd.Server at work on listeners of its own.
type server struct {
	*dnsd.Server
	addrs []string // of the listeners, in order
}

// serve starts a server with one listener per resolver; nil stands for an
// authoritative one. It ends with the test.
func serve(t testing.TB, cfg dnsd.Config, resolvers ...*dnsd.Resolver) *server {
	t.Helper()
	return serveWith(t, cfg, nil, resolvers...)
}

func serveWith(t testing.TB, cfg dnsd.Config, prepare func(*dnsd.Server), resolvers ...*dnsd.Resolver) *server {
	t.Helper()
	var listeners []dnsd.Listener
	out := &server{}
	for _, r := range resolvers {
		udp, tcp, err := dnsd.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: r})
		out.addrs = append(out.addrs, tcp.Addr().String())
	}
	out.Server = run(t, cfg, prepare, listeners...)
	return out
}

// run starts a server on listeners; it ends with the test.
func run(t testing.TB, cfg dnsd.Config, prepare func(*dnsd.Server), listeners ...dnsd.Listener) *dnsd.Server {
	t.Helper()
	if cfg.Gateway == nil {
		cfg.Gateway = []netip.Addr{gateway4, gateway6}
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = t.TempDir() + "/absent"
	}
	s, err := dnsd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, listeners...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil after cancellation", err)
		}
	})
	return s
}

// ask sends one question and returns the reply.
func ask(t testing.TB, addr, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	return send(t, addr, m)
}

func send(t testing.TB, addr string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Timeout: 8 * time.Second}
	r, _, err := c.Exchange(m, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", m.Question[0].Name, dns.Type(m.Question[0].Qtype), err)
	}
	return r
}

// short returns the rcode and the answer section, one record a line, without
// owners and TTLs, as in "NOERROR A 192.0.2.80".
func short(m *dns.Msg) string {
	var b strings.Builder
	b.WriteString(dns.RcodeToString[m.Rcode])
	for _, rr := range m.Answer {
		fmt.Fprintf(&b, "; %s %s", dns.Type(rr.Header().Rrtype), strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return b.String()
}

// edeOf returns the code of the reply's extended error, -1 if there is none.
func edeOf(m *dns.Msg) int {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return int(e.InfoCode)
			}
		}
	}
	return -1
}

// raw sends octets by UDP and returns what comes back, nil if nothing does.
func raw(t testing.TB, addr string, packet []byte, wait time.Duration) []byte {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 65535)
	n, err := c.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// A logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
