//go:build linux

package dnsd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// inside is the resolver's address in every namespace of these tests.
const inside = "10.80.0.53:53"

// namespace makes a network namespace that has the address of inside, and
// removes it with the test.
func namespace(t *testing.T, name string) (path string, remove func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: network namespaces can be made by root only; run this test as root")
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("NOT TESTED: ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", name)
	remove = sync.OnceFunc(func() { exec.Command("ip", "netns", "del", name).Run() })
	t.Cleanup(remove)
	ip("-n", name, "address", "add", "10.80.0.53/24", "dev", "lo")
	ip("-n", name, "link", "set", "lo", "up")
	return "/run/netns/" + name, remove
}

// askInside asks a question from inside a namespace.
func askInside(path, name string, qtype uint16) (*dns.Msg, error) {
	var conn net.Conn
	err := dnsd.InNamespace(path, func() (err error) {
		conn, err = net.Dial("udp", inside)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	r, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeWithConn(m, &dns.Conn{Conn: conn})
	return r, err
}

// follow has a server look for resolvers in namespaces until the test ends.
func follow(t *testing.T, s *dnsd.Server, n dnsd.Namespaces) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx, n) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Follow = %v, want nil after cancellation", err)
		}
	})
}

// TestNamespaces: two clones of one template, whose hosts and resolvers have
// the same names and addresses, each resolve their own through one server at
// the same time.
func TestNamespaces(t *testing.T) {
	a, b := shop("1234"), shop("1235")
	a.Hosts["only-a"], b.Hosts["only-b"] = a.Hosts["db"], b.Hosts["db"]
	world := newWorld(t, a, b)
	up := newUpstream(t, says(0, []string{" 60 IN A 198.51.100.1"}, nil))
	s := serve(t, dnsd.Config{Directory: world}, to(up))
	prefix := fmt.Sprintf("clonegate-%d-", os.Getpid())
	follow(t, s.Server, dnsd.Namespaces{
		Path: "/run/netns/" + prefix + "{id}", Listen: netip.MustParseAddrPort(inside), Resolver: *to(up),
	})
	paths := map[string]string{}
	var removeB func()
	for _, id := range []string{"1234", "1235"} {
		paths[id], removeB = namespace(t, prefix+id)
	}
	namespace(t, prefix+"no clone's") // not an ID: left alone
	until(t, "two resolvers inside", func() bool { return s.Listeners() == 3 })

	var wg sync.WaitGroup
	for id, path := range paths {
		for range 4 {
			wg.Go(func() {
				for i := range 25 {
					for _, row := range []struct{ name, want string }{
						{"db.", "NOERROR; A 10.80.0.30"},
						{"only-a.", map[string]string{"1234": "NOERROR; A 10.80.0.30", "1235": "NOERROR; A 198.51.100.1"}[id]},
						{"only-b.", map[string]string{"1235": "NOERROR; A 10.80.0.30", "1234": "NOERROR; A 198.51.100.1"}[id]},
						{fmt.Sprintf("n%d.example.com.", i), "NOERROR; A 198.51.100.1"},
						{"www-1234." + zone + ".", "NOERROR; A 192.0.2.80"},
					} {
						r, err := askInside(path, row.name, dns.TypeA)
						if err != nil || short(r) != row.want {
							t.Errorf("clone %s: %s: got %v, %v; want %s", id, row.name, r, err, row.want)
							return
						}
					}
					r, err := askInside(path, "30.0.80.10.in-addr.arpa.", dns.TypePTR)
					if err != nil || len(r.Answer) == 0 {
						t.Errorf("clone %s: address of db: %v, %v", id, r, err)
					}
				}
			})
		}
	}
	wg.Wait()

	t.Run("a namespace that goes", func(t *testing.T) {
		removeB()
		until(t, "one resolver inside", func() bool { return s.Listeners() == 2 })
		if r, err := askInside(paths["1234"], "db.", dns.TypeA); err != nil || short(r) != "NOERROR; A 10.80.0.30" {
			t.Errorf("the other clone: %v, %v", r, err)
		}
	})
	t.Run("a clone that goes", func(t *testing.T) {
		before, _ := s.CacheSize()
		gone := *a
		gone.State, gone.Desired = registry.Gone, registry.WantGone
		world.set(&gone)
		until(t, "no resolver inside", func() bool { return s.Listeners() == 1 })
		if _, err := askInside(paths["1234"], "db.", dns.TypeA); !errors.Is(err, os.ErrDeadlineExceeded) && !isRefused(err) {
			t.Errorf("a resolver of a clone that is gone: %v, want none", err)
		}
		if n, _ := s.CacheSize(); before == 0 || n != 0 {
			t.Errorf("%d answers were kept for the clone, %d are left; want none", before, n)
		}
		world.set()
		again := *a
		again.Incarnation++
		world.set(&again)
		until(t, "a resolver for its next life", func() bool { return s.Listeners() == 2 })
	})
}

func isRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Err.Error() == "read: connection refused"
}

// TestOneNamespace: a resolver of one clone waits for its namespace, and is
// not mistaken for an upstream of the same address outside.
func TestOneNamespace(t *testing.T) {
	name := fmt.Sprintf("clonegate-one-%d", os.Getpid())
	up := newUpstream(t, says(0, []string{" 60 IN A 198.51.100.1"}, nil))
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, to(up))
	r := *to(up)
	r.Clone = "1234"
	follow(t, s.Server, dnsd.Namespaces{Path: "/run/netns/" + name, Listen: netip.MustParseAddrPort(inside), Resolver: r})
	for range 2 {
		path, remove := namespace(t, name)
		until(t, "a resolver inside", func() bool { return s.Listeners() == 2 })
		if m, err := askInside(path, "db.", dns.TypeA); err != nil || short(m) != "NOERROR; A 10.80.0.30" {
			t.Errorf("db: %v, %v", m, err)
		}
		if e, err := s.Explain(t.Context(), "1234", "db", "A"); err != nil || e.Listener != inside || !slices.Contains(e.Answer, "db.\t5\tIN\tA\t10.80.0.30") {
			t.Errorf("explained: %+v, %v", e, err)
		}
		remove()
		until(t, "no resolver inside", func() bool { return s.Listeners() == 1 })
	}
}

func TestNamespacesCheck(t *testing.T) {
	for _, n := range []dnsd.Namespaces{
		{Listen: netip.MustParseAddrPort(inside)},
		{Path: "netns/a", Listen: netip.MustParseAddrPort(inside)},
		{Path: "/run/{id}/a", Listen: netip.MustParseAddrPort(inside)},
		{Path: "/run/{id}-{id}", Listen: netip.MustParseAddrPort(inside)},
		{Path: "/run/a", Listen: netip.MustParseAddrPort("10.0.0.1:0")},
		{Path: "/run/a"},
	} {
		if err := n.Check(); err == nil {
			t.Errorf("%+v is taken for right", n)
		}
	}
	if err := (dnsd.Namespaces{Path: "/run/netns/a-{id}-b", Listen: netip.MustParseAddrPort(inside)}).Check(); err != nil {
		t.Error(err)
	}
}
