package dnsd_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// TestNameBeforeRoute registers and removes 10,000 clones at random, and asks
// over UDP meanwhile: a name is there no later than its route, and is gone no
// later than its route. What was acknowledged is seen by the next question.
func TestNameBeforeRoute(t *testing.T) {
	r := openRegistry(t)
	s := serve(t, dnsd.Config{Directory: r.View()}, nil)
	var changes, compared atomic.Int64
	stop := make(chan struct{})
	var watchers sync.WaitGroup
	for i := range 2 {
		watchers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 9))
			c := newAsker(t, s.addrs[0])
			for {
				select {
				case <-stop:
					return
				default:
					if compareRoute(t, r.View(), c, random.IntN(orderClones)) {
						compared.Add(1)
					}
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(5, 6))
	c := newAsker(t, s.addrs[0])
	lives := map[int]int{}
	for range 10_000 {
		n := random.IntN(orderClones)
		id := registry.ID(fmt.Sprint(n))
		var err error
		alive := lives[n] > 0
		if alive {
			_, err = r.Unregister(t.Context(), registry.System, id, fmt.Sprint("life", lives[n]))
			lives[n] = -lives[n]
		} else {
			lives[n] = 1 - lives[n]
			_, err = r.Register(t.Context(), registry.System, id, registry.Registration{
				Instance: fmt.Sprint("life", lives[n]), Aliases: []string{"pr-" + string(id)},
				Services: map[string]registry.ServiceRegistration{"www": {Endpoints: []string{"10.80.0.10:80"}}},
				Hosts:    map[string][]string{"db": {"10.80.0.11"}},
			}, false)
		}
		if err != nil {
			t.Fatal(err)
		}
		changes.Add(1)
		name := orderNames(n)[random.IntN(4)]
		if got := c.resolves(name); got == alive {
			t.Fatalf("%s: resolves=%t after change %d was acknowledged, want %t", name, got, changes.Load(), !alive)
		}
	}
	close(stop)
	watchers.Wait()
	t.Logf("%d changes, %d comparisons meanwhile", changes.Load(), compared.Load())
	if compared.Load() < 1000 {
		t.Errorf("only %d comparisons with a steady route", compared.Load())
	}
}

// orderClones is how many clones come and go.
const orderClones = 200

func orderNames(n int) []string {
	return []string{fmt.Sprintf("www-%d", n), fmt.Sprintf("www-pr-%d", n), fmt.Sprintf("www.%d", n), fmt.Sprintf("db.%d", n)}
}

// compareRoute asks for a name between two looks at its route, and compares
// if that was the same both times.
func compareRoute(t *testing.T, view *registry.View, c *orderAsker, n int) bool {
	label := orderNames(n)[0]
	route := func() (*registry.Clone, bool) {
		to, ok := view.Lookup(label)
		return to.Clone, ok && to.Service == "www" && to.Clone.State.Routable()
	}
	before, works := route()
	resolves := c.resolves(label)
	after, worksStill := route()
	if before != after || works != worksStill {
		return false
	}
	if resolves != works {
		t.Errorf("%s: resolves=%t while its route works=%t", label, resolves, works)
	}
	return true
}

// An orderAsker asks from one socket, one question at a time.
type orderAsker struct {
	t    *testing.T
	conn *dns.Conn
}

func newAsker(t *testing.T, addr string) *orderAsker {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &orderAsker{t, &dns.Conn{Conn: conn}}
}

func (c *orderAsker) resolves(label string) bool {
	m := new(dns.Msg).SetQuestion(label+"."+zone+".", dns.TypeA)
	for range 3 {
		c.conn.SetDeadline(time.Now().Add(2 * time.Second))
		err := c.conn.WriteMsg(m)
		var reply *dns.Msg
		if err == nil {
			reply, err = c.conn.ReadMsg()
		}
		if err == nil && reply.Id == m.Id {
			return reply.Rcode == dns.RcodeSuccess && len(reply.Answer) > 0
		}
		if ne, ok := errors.AsType[net.Error](err); err != nil && (!ok || !ne.Timeout()) {
			break
		}
	}
	c.t.Errorf("%s: no answer", label)
	return false
}
