package proxy_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// escapesOf returns the names that escaped from a clone, each with its field.
func (b *bench) escapesOf(id registry.ID) map[string]string {
	b.t.Helper()
	list, _, err := b.gateway.Escapes(id)
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range list {
		out[e.Name] = e.Field
	}
	return out
}

func TestEscapesAreFound(t *testing.T) {
	b := newBench(t)
	n := 0
	for _, tt := range []struct{ name, value, want string }{
		{"Location", "https://pay.shop.example/card?x=1", "pay.shop.example"},
		{"Location", "//PAY.Shop.Example./", "pay.shop.example"},
		{"Location", "https://shop.example", "shop.example"},
		{"Location", "https://www.shop.example/", ""}, // is mapped
		{"Location", "https://login.example/?to=https%3A%2F%2Fwww.shop.example%2Fhome", "www.shop.example"},
		{"Location", "https://login.example/?to=https://u@www.shop.example:443/", "www.shop.example"},
		{"Location", "https://myshop.example/", ""},
		{"Location", "https://my-shop.example/", ""},
		{"Location", "https://shop.example.evil.test/", ""},
		{"Location", "https://shop.examples/", ""},
		{"Location", "https://other.test/a.b.c", ""},
		{"X-Canonical", "https://www.shop.example/", "www.shop.example"},
		{"X-Served-By", "web-3.shop.example", "web-3.shop.example"},
		{"Link", "<https://static.shop.example/a.css>; rel=preload, <https://api.shop.example/>; rel=x", "static.shop.example"},
		{"Access-Control-Allow-Origin", "https://pay.shop.example", "pay.shop.example"},
		{"Content-Security-Policy", "img-src *.cdn.shop.example", "*.cdn.shop.example"},
		{"Set-Cookie", "a=b; Domain=.pay.shop.example", "pay.shop.example"},
		{"Set-Cookie", "a=b; Domain=.shop.example", ""}, // stays with the clone
		{"X-Ours", "https://www-1." + hyphen + "/ https://www-1." + zone, ""},
		{"X-Far", strings.Repeat("a", 300) + ".shop.example", ""}, // no name can be so long
	} {
		n++
		id := registry.ID(fmt.Sprint(n))
		b.saying(id, production, func(r *registry.Registration) {
			r.Aliases = nil
			r.Production["www.example.com"] = "www" // the zones lie below its domain
		})
		for _, client := range []*http.Client{b.client, b.h2} {
			b.do(client, "https://www-"+string(id)+"."+hyphen+"/", header("Say-Name", tt.name), header("Say-Value", tt.value))
		}
		want := map[string]string{}
		if tt.want != "" {
			want[tt.want] = tt.name
		}
		if got := b.escapesOf(id); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %s: %v escaped; want %v", tt.name, tt.value, got, want)
		}
	}
}

// TestEscapesAreCounted holds that they are counted each time, logged once for
// each name, shown by metrics, bounded, and gone with their clone.
func TestEscapesAreCounted(t *testing.T) {
	b := newBench(t)
	b.saying("1", production)
	b.serve("2", func(http.ResponseWriter, *http.Request) {}) // knows nothing of production
	say := func(value string) {
		t.Helper()
		b.get("https://www-1."+zone+"/pay?card=4", header("Say-Name", "X-Said"), header("Say-Value", value))
	}
	b.get("https://www-2." + zone + "/")
	for range 3 {
		say("pay.shop.example static.shop.example")
	}
	say("pay.shop.example")
	list, total, err := b.gateway.Escapes("1")
	if err != nil || total != 7 || len(list) != 2 || list[0].Name != "pay.shop.example" || list[0].Count != 4 ||
		list[0].Field != "X-Said" || list[0].Service != "www" || list[0].Path != "/pay" || !list[0].First.Before(list[0].Last) {
		t.Fatalf("escaped: %+v, %d in all, %v", list, total, err)
	}
	logged := b.log.records("production name escapes")
	if len(logged) != 2 || logged[0]["clone"] != "1" || logged[0]["name"] != "pay.shop.example" || logged[0]["path"] != "/pay" {
		t.Errorf("logged %v; want each name once", logged)
	}
	if got := b.series("clonegate_proxy_escapes_total"); len(got) != 1 || got["1 "] != 7 {
		t.Errorf("metrics show %v; want 7 of clone 1", got)
	}
	for n := range 100 {
		say(fmt.Sprintf("n%d.shop.example", n))
	}
	if list, total, _ := b.gateway.Escapes("1"); len(list) != 32 || total != 107 {
		t.Errorf("%d names are told apart, %d escapes counted; want 32 and 107", len(list), total)
	}
	if n := len(b.log.records("production name escapes")) + len(b.log.records("more production names escape than are told apart")); n != 33 {
		t.Errorf("%d lines in the log; want 32, and that there are more", n)
	}

	c, _ := b.registry.View().Clone("1")
	b.register("1", www(c.Services["www"].Endpoints[0].String()), production, func(r *registry.Registration) { r.Production["pay.shop.example"] = "www" })
	eventually(t, "a map that changed begins anew", func() bool { return len(b.escapesOf("1")) == 0 })
	say("static.shop.example")
	b.unregister("1")
	eventually(t, "the clone's series is gone", func() bool { return len(b.series("clonegate_proxy_escapes_total")) == 0 })
	if got := b.escapesOf("1"); len(got) != 0 {
		t.Errorf("of a clone that is gone, %v escaped", got)
	}
	if _, _, err := b.gateway.Escapes("9"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("escapes of a clone that never was: %v", err)
	}
}

// TestEscapesOverEveryWay holds that answers of h2c services, interim answers and
// those that begin WebSockets are watched, too.
func TestEscapesOverEveryWay(t *testing.T) {
	b := newBench(t)
	said := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Said", "h2c.shop.example")
		w.Header().Set("X-Saw", r.Host+" "+r.Header.Get("Origin")+" "+r.Header.Get("Cookie"))
	}
	up := httptest.NewUnstartedServer(http.HandlerFunc(said))
	up.Config.Protocols = new(http.Protocols)
	up.Config.Protocols.SetUnencryptedHTTP2(true)
	up.Start()
	defer up.Close()
	named := func(r *registry.Registration) {
		r.Production = map[string]string{"www.shop.example": "www"}
		r.StripCookies = []string{"SESSION_PROD"}
	}
	b.register("1", map[string]registry.ServiceRegistration{
		"www": {Endpoints: []string{up.Listener.Addr().String()}, Protocol: registry.H2C},
	}, named)
	got := b.get("https://www-1."+zone+"/", header("Origin", "https://www-1."+zone), header("Cookie", "SESSION_PROD=x;a=1; "+lifeCookie+"=2; SESSION_PROD=y"))
	if saw := got.Header.Get("X-Saw"); saw != "www.shop.example https://www.shop.example a=1" {
		t.Errorf("an h2c service saw %s", saw)
	}
	if got := b.escapesOf("1"); got["h2c.shop.example"] == "" {
		t.Errorf("of an h2c service, %v escaped", got)
	}

	b.bareBackend("2", "HTTP/1.1 103 Early Hints\r\nLink: <https://early.shop.example/a>\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nX-Said: socket.shop.example", "the end")
	c, _ := b.registry.View().Clone("2")
	b.register("2", www(c.Services["www"].Endpoints[0].String()), named)
	conn := b.dialTLS("www-2." + zone)
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: www-2.%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", zone)
	eventually(t, "both names were seen", func() bool {
		got := b.escapesOf("2")
		return got["early.shop.example"] == "Link" && got["socket.shop.example"] == "X-Said"
	})
	conn.Close()
}
