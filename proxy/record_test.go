package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/clonegate/clonegate/registry"
)

func TestTargetsAreKeptWithoutValues(t *testing.T) {
	for _, tt := range []struct {
		target, want string
		cut          bool
	}{
		{"/", "/", false},
		{"/a%20b", "/a%20b", false},
		{"*", "*", false},
		{"/?", "/?", false},
		{"/a?b=c", "/a?b=*", false},
		{"/a?b", "/a?*", false},
		{"/a?b=c&d&e=&f&&g=h=i", "/a?b=*&*&e=*&*&&g=*", false},
		{"/0123456789012345678", "/0123456789012345678", false},
		{"/01234567890123456789", "/0123456789012345678", true},
		{"/a?token=secret&next=/b&cut=c", "/a?token=*&next=*", true},
		{"/a?a123456789012345=secret", "/a", true},
	} {
		out, cut := appendWithoutValues(make([]byte, 0, 20), []byte(tt.target))
		if string(out) != tt.want || cut != tt.cut {
			t.Errorf("%q: kept as %q, cut %v; want %q, %v", tt.target, out, cut, tt.want, tt.cut)
		}
	}
}

func FuzzTargetsAreKeptWithoutValues(f *testing.F) {
	f.Add("/a?b=secret&secret", 20)
	f.Add("?secret=secret", 3)
	f.Fuzz(func(t *testing.T, target string, room int) {
		room = max(0, room%(2*slotText))
		out, cut := appendWithoutValues(make([]byte, 0, room), []byte(target))
		path, _, _ := strings.Cut(target, "?")
		switch got, _, _ := strings.Cut(string(out), "?"); {
		case len(out) > room || cap(out) != room:
			t.Fatalf("%q took %d octets; there were %d", target, len(out), room)
		case !cut && got != path || !strings.HasPrefix(path, got):
			t.Fatalf("%q: path kept as %q", target, got)
		}
		again, _ := appendWithoutValues(make([]byte, 0, room), out)
		if string(again) != string(out) {
			t.Fatalf("%q: %q still holds what is to be left out: %q", target, out, again)
		}
	})
}

func TestSlotIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(slot{}); got != 512 {
		t.Errorf("a slot takes %d octets; want 512", got)
	}
}

// exchangeOf returns an exchange with clone 1 that is over.
func exchangeOf(c *registry.Clone, path string) *exchange {
	x := new(exchange)
	x.begin(time.Now(), netip.MustParseAddr("192.0.2.7"), false, "HTTP/1.1")
	x.request.method, x.request.target = "GET", []byte(path)
	x.target = target{host: "www-1.zone", clone: c, service: "www"}
	x.endpoint = newEndpoint(&pool{clone: "1"}, netip.MustParseAddrPort("10.0.0.1:80"), &registry.Service{Protocol: registry.HTTP})
	x.status = 200
	return x
}

func paths(js *journals, id registry.ID) string {
	j := js.find(id)
	if j == nil {
		return "none"
	}
	records, _, _ := j.after(0, &RequestFilter{}, 1000)
	var out []string
	for _, r := range records {
		out = append(out, r.Path)
	}
	return strings.Join(out, " ")
}

func TestJournalKeepsTheNewest(t *testing.T) {
	s := newScript()
	c := s.set(life(1, 1, registry.Ready, "1"))
	js := newJournals(s, 20, 1<<20)
	want := ""
	for i := range 100 {
		x := exchangeOf(c, fmt.Sprint(i))
		js.keep(x, time.Second)
		if i >= 80 {
			want += fmt.Sprint(i) + " "
		}
	}
	if got := paths(js, "1"); got+" " != want {
		t.Errorf("kept %s; want %s", got, want)
	}
	if got := js.bytes.Load(); got != 20*slotBytes {
		t.Errorf("%d octets are counted; want %d", got, 20*slotBytes)
	}
	j := js.find("1")
	records, last, missed := j.after(j.begun+49, &RequestFilter{}, 1000)
	if missed != 30 || len(records) != 20 || last != records[19].Seq {
		t.Errorf("behind the 50th request: %d records, %d missed; want 20 and 30", len(records), missed)
	}
	if _, _, missed := j.after(7, &RequestFilter{}, 1000); missed != 0 {
		t.Errorf("behind a number of another journal: %d missed; want 0, nobody knows", missed)
	}
}

// TestJournalsEndWithTheLife holds that nothing is kept of a life that is over,
// and nothing can be added to it.
func TestJournalsEndWithTheLife(t *testing.T) {
	for name, next := range map[string]*registry.Clone{
		"gone":       life(1, 2, registry.Gone, "1"),
		"lost":       life(1, 2, registry.Lost, "1"),
		"a new life": life(2, 2, registry.Ready, "1"),
	} {
		s := newScript()
		c := s.set(life(1, 1, registry.Ready, "1"))
		js := newJournals(s, 20, 1<<20)
		x := exchangeOf(c, "/")
		x.tenant = new(tenant)
		js.keep(x, 0)
		js.apply(s.set(life(1, 2, registry.Suspended, "1")))
		if got := paths(js, "1"); got != "/" {
			t.Errorf("%s: suspended, it keeps %q; want /", name, got)
		}
		js.apply(s.set(next))
		js.keep(x, 0)
		if got := paths(js, "1"); got != "none" || js.bytes.Load() != 0 {
			t.Errorf("%s: %q is kept in %d octets; want nothing", name, got, js.bytes.Load())
		}
	}
	s := newScript()
	js := newJournals(s, 20, 1<<20)
	js.keep(exchangeOf(s.set(life(1, 1, registry.Ready, "1")), "/"), 0)
	s.mu.Lock()
	delete(s.clones, "1")
	s.mu.Unlock()
	js.reread()
	if got := paths(js, "1"); got != "none" {
		t.Errorf("a clone that is not known keeps %q", got)
	}
}

// TestJournalsAreBounded has more clones than there is memory for.
func TestJournalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		clone := func(n int) *registry.Clone {
			return s.set(&registry.Clone{ID: registry.ID(fmt.Sprint(n)), Incarnation: 1, State: registry.Ready})
		}
		const room = 8
		js := newJournals(s, 2*firstSlots, int(room*firstSlots*slotBytes))
		for n := range room {
			js.keep(exchangeOf(clone(n), "/"), 0)
			time.Sleep(time.Millisecond)
		}
		for range 5 * firstSlots { // wants to grow
			js.keep(exchangeOf(clone(0), "/"), 0)
		}
		if got := len(js.find("0").slots); got != firstSlots {
			t.Errorf("a journal has grown to %d slots where there was no room", got)
		}
		js.keep(exchangeOf(clone(100), "/"), 0)
		if got := paths(js, "100"); got != "none" {
			t.Errorf("clone 100 has a journal: %q; want those that are in use kept", got)
		}
		time.Sleep(quietFor / 2)
		js.keep(exchangeOf(clone(0), "/"), 0)
		js.find("1").follow(1)
		time.Sleep(quietFor/2 + time.Second)
		js.keep(exchangeOf(clone(100), "/"), 0)
		for n, want := range map[int]bool{0: true, 1: true, 2: false, 7: true, 100: true} {
			if got := js.find(registry.ID(fmt.Sprint(n))) != nil; got != want {
				t.Errorf("clone %d has a journal: %v; want %v", n, got, want)
			}
		}
		if got := js.bytes.Load(); got > js.most {
			t.Errorf("%d octets are in use; want at most %d", got, js.most)
		}
		js.close()
		if got := js.bytes.Load(); got != 0 {
			t.Errorf("%d octets are counted at the end", got)
		}
	})
}

// TestKeepingAllocatesNothing notes requests on the path that they all take.
func TestKeepingAllocatesNothing(t *testing.T) {
	s := newScript()
	c := s.set(life(1, 1, registry.Ready, "1"))
	js := newJournals(s, firstSlots, 1<<20)
	x := exchangeOf(c, "/a?b=c")
	x.tenant = new(tenant)
	js.keep(x, 0)
	if n := testing.AllocsPerRun(1000, func() { js.keep(x, time.Millisecond) }); n != 0 {
		t.Errorf("keeping a request makes %v allocations; want none", n)
	}
}

func BenchmarkKeep(b *testing.B) {
	s := newScript()
	c := s.set(life(1, 1, registry.Ready, "1"))
	js := newJournals(s, 256, 1<<20)
	x := exchangeOf(c, "/assets/app.js?v=1234")
	x.tenant = new(tenant)
	h := newHistogram("h", "h")
	b.Run("journal", func(b *testing.B) {
		for b.Loop() {
			js.keep(x, time.Millisecond)
		}
	})
	b.Run("histogram", func(b *testing.B) {
		for b.Loop() {
			h.observe(3 * time.Millisecond)
		}
	})
}
