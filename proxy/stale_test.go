package proxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// A machine is an address that one clone has after the other. It answers with the
// ID of the one that has it.
type machine struct {
	t     *testing.T
	owner atomic.Pointer[string]
	tells bool     // in a field, too
	seen  sync.Map // the clone that requests on a connection were for, by its other end
	*httptest.Server
}

// newMachine starts one; setUp may be nil.
func newMachine(t *testing.T, owner string, tells bool, setUp func(*httptest.Server)) *machine {
	m := &machine{t: t, tells: tells}
	m.give(owner)
	m.Server = httptest.NewUnstartedServer(m)
	if setUp != nil {
		setUp(m.Server)
	}
	if m.TLS != nil {
		m.StartTLS()
	} else {
		m.Start()
	}
	t.Cleanup(m.Close)
	return m
}

func (m *machine) give(owner string) { m.owner.Store(&owner) }

func (m *machine) addr() string { return m.Listener.Addr().String() }

func (m *machine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if clone := r.Header.Get("Clonegate-Clone"); clone != "" { // of a probe it is
		if before, _ := m.seen.LoadOrStore(r.RemoteAddr, clone); before != clone {
			m.t.Errorf("a connection was used for clone %s and for clone %s", before, clone)
		}
	}
	owner := *m.owner.Load()
	if m.tells {
		w.Header().Set("Clonegate-Clone", owner)
	}
	io.WriteString(w, owner)
}

// TestReusedAddress gives an address that a clone had to another one, again and
// again, without closing a connection: who asks for the first gets no answer of
// the second's.
func TestReusedAddress(t *testing.T) {
	b := newBench(t)
	m := newMachine(t, "", false, nil)
	for round := range 20 {
		old, now := fmt.Sprint("old", round), fmt.Sprint("now", round)
		m.give(old)
		b.register(registry.ID(old), www(m.addr()))
		for _, client := range []*http.Client{b.client, b.h2} {
			b.wantServed(client, registry.ID(old), "www")
		}
		b.unregister(registry.ID(old))
		m.give(now)
		b.register(registry.ID(now), www(m.addr()))
		for range 3 {
			for _, client := range []*http.Client{b.client, b.h2} {
				b.do(client, "https://www-"+old+"."+zone+"/").wantReason(t, 410, proxy.Gone)
				b.wantServed(client, registry.ID(now), "www")
			}
		}
		b.unregister(registry.ID(now))
	}
}

// ownCertificate returns a certificate with a key of its own, and its pin.
func ownCertificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, registry.PinOf(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
}

// TestDroppedUnregister has a clone end without a word, and another come to its
// address while the lease of the first still runs. Services that say whose they
// are, by a field or by the key of a certificate, never answer for another clone.
func TestDroppedUnregister(t *testing.T) {
	t.Parallel()
	certs, pins := map[string]tls.Certificate{}, map[string]string{}
	for _, id := range []string{"old", "now"} {
		certs[id], pins[id] = ownCertificate(t)
	}
	for _, tt := range []struct {
		name     string
		protocol registry.Protocol
		tells    bool
		pinned   bool
	}{
		{"a field", registry.HTTP, true, false},
		{"a field over h2c", registry.H2C, true, false},
		{"a field over https", registry.HTTPS, true, false},
		{"a pinned key", registry.HTTPS, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBenchOver(t, func(c *registry.Config) {
				c.TTL, c.RenewEvery, c.SweepEvery = 2*time.Second, time.Second, 50*time.Millisecond
			})
			var m *machine
			m = newMachine(t, "old", tt.tells, func(s *httptest.Server) {
				switch tt.protocol {
				case registry.H2C:
					s.Config.Protocols = new(http.Protocols)
					s.Config.Protocols.SetUnencryptedHTTP2(true)
				case registry.HTTPS:
					s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
						c := tlsWith(certs[*m.owner.Load()])
						c.SessionTicketsDisabled = true // another machine could not read those of the first
						return c, nil
					}}
				}
			})
			register := func(id string) {
				s := registry.ServiceRegistration{Endpoints: []string{m.addr()}, Protocol: tt.protocol}
				if tt.pinned {
					s.TLS = &registry.TLS{Pin: pins[id]}
				}
				b.register(registry.ID(id), map[string]registry.ServiceRegistration{"www": s})
			}
			register("old")
			b.wantServed(b.client, "old", "www")
			m.give("now")
			if tt.pinned {
				m.CloseClientConnections() // the machine of the first has gone
			}
			register("now")
			renew := time.NewTicker(500 * time.Millisecond)
			defer renew.Stop()
			refused := 0
			for lost := false; !lost; {
				select {
				case <-renew.C:
					register("now")
				default:
				}
				for _, client := range []*http.Client{b.client, b.h2} {
					b.wantServed(client, "now", "www")
					switch got := b.do(client, "https://www-old."+zone+"/"); got.Header.Get("Clonegate-Reason") {
					case string(proxy.Untrusted):
						refused++
					case string(proxy.Lost):
						lost = true
					case string(proxy.NoEndpoint): // the lease ended under the request
					default:
						t.Fatalf("who asked for the one that has left got %d %q", got.StatusCode, got.body)
					}
				}
			}
			if refused == 0 {
				t.Error("the lease was over before anybody asked")
			}
		})
	}
}

// TestStrangerFailsItsProbe has another clone answer the health checks of one that
// has left.
func TestStrangerFailsItsProbe(t *testing.T) {
	b := newBench(t)
	m := newMachine(t, "1", true, nil)
	b.register("1", map[string]registry.ServiceRegistration{"www": {
		Endpoints: []string{m.addr()}, Health: &registry.HealthRegistration{Path: "/", Interval: 1, Timeout: 1},
	}})
	b.wantServed(b.client, "1", "www") // probes begin with the first request
	eventually(t, "it is well", func() bool { return len(b.log.records("endpoint is healthy")) > 0 })
	m.give("2")
	eventually(t, "it is ill", func() bool { return len(b.log.records("endpoint is unhealthy")) > 0 })
	if p := b.get("https://www-1."+zone+"/").wantReason(t, 503, proxy.Unhealthy); !strings.Contains(p.Detail, `clone "2" answers there, not 1`) {
		t.Errorf("detail %q; want it to say who answers", p.Detail)
	}
}

// TestDeadMembers has three of a pool's four members dead: at most one client
// sees that.
func TestDeadMembers(t *testing.T) {
	for _, protocol := range []registry.Protocol{registry.HTTP, registry.H2C} {
		for round := range 5 {
			b := newBench(t)
			m := newMachine(t, "1", false, func(s *httptest.Server) {
				s.Config.Protocols = new(http.Protocols)
				s.Config.Protocols.SetHTTP1(true)
				s.Config.Protocols.SetUnencryptedHTTP2(true)
			})
			b.register("1", map[string]registry.ServiceRegistration{"www": {
				Endpoints: []string{closedPort(t), closedPort(t), closedPort(t), m.addr()}, Protocol: protocol,
			}})
			failed := 0
			for i := range 60 {
				client := []*http.Client{b.client, b.h2}[i%2]
				got := b.do(client, "https://www-1."+zone+"/", method([]string{"GET", "POST", "PUT"}[i%3]))
				switch {
				case got.StatusCode == 200 && got.body == "1":
				case got.Header.Get("Clonegate-Reason") == string(proxy.Unreachable):
					failed++
				default:
					t.Fatalf("%s, round %d: got %d %q", protocol, round, got.StatusCode, got.body)
				}
			}
			if failed > 1 {
				t.Errorf("%s, round %d: %d of 60 requests failed; want at most one", protocol, round, failed)
			}
			b.stop()
		}
	}
}

// TestLateUnregister has the farewell of a clone's former life come when its next
// has begun.
func TestLateUnregister(t *testing.T) {
	b := newBench(t)
	b.serve("1", who("former"))
	now := httptest.NewServer(who("present"))
	defer now.Close()
	b.register("1", www(now.Listener.Addr().String()), func(r *registry.Registration) { r.Instance = "life-2" })
	_, err := b.registry.Unregister(context.Background(), registry.System, "1", "life-1")
	if !errors.Is(err, registry.ErrFenced) {
		t.Errorf("the late farewell: %v; want %v", err, registry.ErrFenced)
	}
	for _, client := range []*http.Client{b.client, b.h2} {
		if got := b.do(client, "https://www-1."+zone+"/"); got.body != "present as www-1."+zone {
			t.Errorf("got %d %q; want the present life's answer", got.StatusCode, got.body)
		}
	}
}

// severed is routes whose watch can be cut.
type severed struct {
	proxy.Routes
	cut chan chan struct{} // takes what ends the cut
}

func (s severed) Changes(ctx context.Context, after uint64) ([]registry.Change, error) {
	cutting, cancel := context.WithCancel(ctx)
	defer cancel()
	var mended chan struct{}
	noted := make(chan struct{})
	go func() {
		defer close(noted)
		select {
		case mended = <-s.cut:
			cancel()
		case <-cutting.Done():
		}
	}()
	changes, err := s.Routes.Changes(cutting, after)
	cancel()
	<-noted
	if mended == nil {
		return changes, err
	}
	select {
	case <-mended:
		return nil, registry.ErrLagged
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestWatchIsCut has clones leave while the gateway's watch of the registry is
// cut, and their addresses go to others: nobody gets a wrong answer meanwhile, and
// afterwards the gateway holds nothing of those that have left.
func TestWatchIsCut(t *testing.T) {
	const clones = 20
	cut := make(chan chan struct{})
	b := newBench(t, func(c *proxy.Config) { c.Routes = severed{c.Routes, cut} })
	var machines []*machine
	name := func(kind string, i int) registry.ID { return registry.ID(fmt.Sprint(kind, i)) }
	for i := range clones {
		m := newMachine(t, string(name("old", i)), false, nil)
		machines = append(machines, m)
		b.register(name("old", i), www(m.addr()))
		b.wantServed(b.client, name("old", i), "www")
	}
	mended := make(chan struct{})
	cut <- mended
	for i, m := range machines {
		b.unregister(name("old", i))
		m.give(string(name("now", i)))
		b.register(name("now", i), www(m.addr()))
	}
	for i := range clones {
		for _, client := range []*http.Client{b.client, b.h2} {
			b.do(client, "https://www-"+string(name("old", i))+"."+zone+"/").wantReason(t, 410, proxy.Gone)
			b.wantServed(client, name("now", i), "www")
		}
	}
	close(mended)
	eventually(t, "nothing is left of those that have left", func() bool {
		series := b.series("clonegate_proxy_requests_at_work")
		for i := range clones {
			if _, ok := series[string(name("old", i))+" "]; ok {
				return false
			}
		}
		return len(series) == clones
	})
}
