package process_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/pipeline/process"
	"github.com/clonegate/clonegate/registry"
)

func TestSubnets(t *testing.T) {
	pool := netip.MustParsePrefix("127.97.4.0/22") // four subnets
	p := open(t, process.Config{Pool: pool})
	seen := map[netip.Addr]bool{}
	for _, id := range []registry.ID{"1", "2", "3", "4"} {
		site := prepare(t, p, order(id, "s"+string(id), nil))
		addr := site.Addresses["web"]
		if !pool.Contains(addr) || seen[addr] {
			t.Errorf("clone %s got %s, want another address in %s", id, addr, pool)
		}
		seen[addr] = true
	}
	_, err := p.Prepare(t.Context(), order("5", "s5", nil))
	if err == nil || !strings.Contains(err.Error(), "4 clones have one each") {
		t.Errorf("fifth clone: got %v, want no subnet left", err)
	}
	must(t, p.Remove(t.Context(), "2"))
	prepare(t, p, order("5", "s5", nil))
}

func TestSubnetsWithForeignPortsAreSkipped(t *testing.T) {
	pool := netip.MustParsePrefix("127.97.8.0/23") // two subnets
	for _, addr := range []string{"127.97.8.10:8080", "127.97.9.10:8080"} {
		ln, err := net.Listen("tcp4", addr)
		must(t, err)
		p := open(t, process.Config{Pool: pool})
		site := prepare(t, p, order("1", "foreign", nil))
		if got := netip.AddrPortFrom(site.Addresses["web"], 8080).String(); got == addr {
			t.Errorf("the clone got %s, where somebody else listens", got)
		}
		ln.Close()
	}
}

func TestAPortThatIsTakenEverywhere(t *testing.T) {
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	must(t, err)
	defer ln.Close()
	p := open(t, process.Config{})
	o := order("1", "taken", nil)
	web := o.Hosts["web"]
	web.Ports = []uint16{netip.MustParseAddrPort(ln.Addr().String()).Port()}
	o.Hosts["web"] = web
	_, err = p.Prepare(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "0.0.0.0") {
		t.Errorf("got %v, want the port and the likely reason", err)
	}
	if held := p.Held(); len(held) != 0 {
		t.Errorf("held: %v, want nothing", held)
	}
}

func TestTwoDaemonsOnOnePool(t *testing.T) {
	one, two := open(t, process.Config{}), open(t, process.Config{})
	a, b := prepare(t, one, order("1", "d1", nil)), prepare(t, two, order("1", "d2", nil))
	if a.Addresses["web"] == b.Addresses["web"] {
		t.Skip("the two directories begin at one place, which happens once in 4096 times")
	}
}
