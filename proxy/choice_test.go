package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// members registers clone 1, whose service www has so many endpoints; each says
// its number and the Cookie it saw, and speaks WebSocket at /ws.
func (b *bench) members(n int, change ...func(*registry.ServiceRegistration)) []*httptest.Server {
	b.t.Helper()
	var servers []*httptest.Server
	s := registry.ServiceRegistration{Default: true}
	for i := range n {
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Number", fmt.Sprint(i+1))
			if r.URL.Path == "/ws" {
				echo(w, r)
				return
			}
			w.Header().Set("X-Seen-Cookie", strings.Join(r.Header["Cookie"], "|"))
			w.Header().Set("X-Seen-Member", r.Header.Get("Clonegate-Member"))
			io.WriteString(w, fmt.Sprint(i+1))
		}))
		b.t.Cleanup(up.Close)
		servers = append(servers, up)
		s.Endpoints = append(s.Endpoints, up.Listener.Addr().String())
	}
	for _, fn := range change {
		fn(&s)
	}
	b.register("1", map[string]registry.ServiceRegistration{"www": s})
	return servers
}

func sticky(s *registry.ServiceRegistration) { s.Sticky = true }

var stickyCookie = regexp.MustCompile(`^(__Host-clonegate-[0-9a-f]{8}=[0-9a-f]{8}); Path=/; Secure; HttpOnly; SameSite=Lax$`)

// TestStickyClientsStay follows a browser's cookie to one endpoint of several,
// over HTTP/1.1, HTTP/2 and WebSocket.
func TestStickyClientsStay(t *testing.T) {
	b := newBench(t)
	b.members(4, sticky)
	url := "https://www-1." + zone + "/"
	b.each(t, func(t *testing.T, client *http.Client) {
		first := b.do(client, url, header("Cookie", "a=1; b=2"))
		set := stickyCookie.FindStringSubmatch(first.Header.Get("Set-Cookie"))
		if set == nil {
			t.Fatalf("Set-Cookie %q; want %s", first.Header.Get("Set-Cookie"), stickyCookie)
		}
		for range 20 {
			got := b.do(client, url, header("Cookie", "a=1; "+set[1]+"; b=2"))
			if got.body != first.body || got.Header.Get("Set-Cookie") != "" {
				t.Fatalf("got endpoint %s, Set-Cookie %q; want endpoint %s and none", got.body, got.Header.Get("Set-Cookie"), first.body)
			}
			if seen := got.Header.Get("X-Seen-Cookie"); seen != "a=1; b=2" {
				t.Errorf("the clone saw Cookie %q; want all but ours", seen)
			}
			if got := b.do(client, url, header("Cookie", set[1])); got.Header.Get("X-Seen-Cookie") != "" {
				t.Errorf("the clone saw Cookie %q; want none", got.Header.Get("X-Seen-Cookie"))
			}
		}
		for range 8 {
			c, res, err := websocket.Dial(t.Context(), "https://www-1."+zone+"/ws", &websocket.DialOptions{
				HTTPClient: b.client, HTTPHeader: http.Header{"Cookie": {set[1]}},
			})
			if err != nil {
				t.Fatal(err)
			}
			c.CloseNow()
			if got := res.Header.Get("X-Number"); got != first.body || res.Header.Get("Set-Cookie") != "" {
				t.Fatalf("the WebSocket went to endpoint %s; want %s", got, first.body)
			}
		}
	})
	if got := b.get("https://www-1.test-envs.example.com/").Header.Get("Set-Cookie"); strings.Contains(b.get(url).Header.Get("Set-Cookie"), got[:26]) {
		t.Errorf("two zones share the cookie %q", got)
	}
}

// TestStickyClientsMoveOn takes a sticky client's endpoint away.
func TestStickyClientsMoveOn(t *testing.T) {
	b := newBench(t)
	servers := b.members(2, sticky)
	url := "https://www-1." + zone + "/"
	first := b.get(url)
	cookie := stickyCookie.FindStringSubmatch(first.Header.Get("Set-Cookie"))[1]
	for n, up := range servers {
		if fmt.Sprint(n+1) == first.body {
			up.Close()
		}
	}
	moved := b.get(url, header("Cookie", cookie))
	again := stickyCookie.FindStringSubmatch(moved.Header.Get("Set-Cookie"))
	if moved.StatusCode != 200 || moved.body == first.body || again == nil || again[1] == cookie {
		t.Fatalf("got %d from endpoint %s, Set-Cookie %q; want the other endpoint and its cookie", moved.StatusCode, moved.body, moved.Header.Get("Set-Cookie"))
	}
	for _, stale := range []string{strings.Split(cookie, "=")[0] + "=00000000", strings.Split(cookie, "=")[0] + "=", cookie + "; " + again[1]} {
		if got := b.get(url, header("Cookie", stale)); got.body != moved.body || got.Header.Get("Set-Cookie") == "" {
			t.Errorf("Cookie %q: got endpoint %s, Set-Cookie %q; want the living one and a new cookie", stale, got.body, got.Header.Get("Set-Cookie"))
		}
	}
}

// TestNobodyElseGetsCookies holds that services that do not ask are left alone.
func TestNobodyElseGetsCookies(t *testing.T) {
	b := newBench(t)
	b.members(2)
	got := b.get("https://www-1."+zone+"/", header("Cookie", "__Host-clonegate-00000000=1"))
	if got.Header.Get("Set-Cookie") != "" || got.Header.Get("X-Seen-Cookie") != "__Host-clonegate-00000000=1" {
		t.Errorf("Set-Cookie %q, the clone saw %q", got.Header.Get("Set-Cookie"), got.Header.Get("X-Seen-Cookie"))
	}
}

// TestOneMemberIsAddressed asks for each endpoint by label and by field.
func TestOneMemberIsAddressed(t *testing.T) {
	b := newBench(t)
	servers := b.members(3, sticky)
	b.each(t, func(t *testing.T, client *http.Client) {
		for n := range 3 {
			number := fmt.Sprint(n + 1)
			for range 5 {
				for name, got := range map[string]reply{
					"label":      b.do(client, "https://www-1--"+number+"."+zone+"/"),
					"bare label": b.do(client, "https://1--"+number+"."+zone+"/"),
					"field":      b.do(client, "https://www-1."+zone+"/", header("Clonegate-Member", number)),
				} {
					if got.body != number || got.Header.Get("X-Seen-Member") != "" || got.Header.Get("Set-Cookie") != "" {
						t.Fatalf("%s: got endpoint %s, which saw the field %q, Set-Cookie %q; want endpoint %s, and neither",
							name, got.body, got.Header.Get("X-Seen-Member"), got.Header.Get("Set-Cookie"), number)
					}
				}
			}
		}
		p := b.do(client, "https://www-1--4."+zone+"/").wantReason(t, 404, proxy.UnknownMember)
		if !strings.Contains(p.Detail, "3 endpoints") || !strings.Contains(p.Detail, "www-1--1") {
			t.Errorf("detail %q; want it to say which members there are", p.Detail)
		}
		for _, odd := range []string{"0", "-1", "x", "", "1, 2", "99999999999999999999"} {
			b.do(client, "https://www-1."+zone+"/", header("Clonegate-Member", odd)).wantReason(t, 404, proxy.UnknownMember)
		}
		b.do(client, "https://www-9--1."+zone+"/").wantReason(t, 404, proxy.UnknownClone)
		b.do(client, "https://api-1--1."+zone+"/").wantReason(t, 404, proxy.UnknownService)
	})
	page := b.get("https://www-1--4."+zone+"/", asBrowser)
	page.wantReason(t, 404, proxy.UnknownMember)
	if !strings.Contains(page.body, "has no such member") {
		t.Errorf("the page does not say so:\n%s", page.body)
	}
	// A member that is asked for is never replaced by another.
	servers[1].Close()
	for range 5 {
		b.get("https://www-1--2."+zone+"/").wantReason(t, 503, proxy.Unreachable)
	}
}

// TestOrderOfMembersIsThatOfTheRegistration changes a pool under the numbers.
func TestOrderOfMembersIsThatOfTheRegistration(t *testing.T) {
	b := newBench(t)
	servers := b.members(3)
	var addrs []string
	for _, i := range []int{2, 0, 1} {
		addrs = append(addrs, servers[i].Listener.Addr().String())
	}
	b.register("1", www(addrs...))
	for n, want := range []string{"3", "1", "2"} {
		if got := b.get(fmt.Sprintf("https://www-1--%d.%s/", n+1, zone)); got.body != want {
			t.Errorf("member %d is endpoint %s; want %s", n+1, got.body, want)
		}
	}
}
