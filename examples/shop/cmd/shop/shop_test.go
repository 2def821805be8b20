package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/clonegate/clonegate/examples/shop"
)

// mug is an order through the API.
const mug = `{"name": "Grace Hopper", "email": "grace@example.com", "items": [{"sku": "MUG-031", "quantity": 2}]}`

func TestPages(t *testing.T) {
	t.Parallel()
	c := startClone(t)

	t.Run("front", func(t *testing.T) {
		a := c.get("web", "/")
		a.has(t, 200, "clone 1234", "shop@2026.11.21-1", "for ada", "Good &lt;evening&gt;", "Thumb-rest mug", "€15.80", `data-api="`+apiURL+`"`, `href="`+wwwURL+`/orders"`)
		if got, want := a.header.Get("Content-Security-Policy"), "connect-src 'self' https:;"; !strings.Contains(got, want) {
			t.Errorf("policy %q, want %q in it", got, want)
		}
		if strings.Contains(a.body, "<evening>") {
			t.Error("the greeting is not escaped")
		}
	})
	t.Run("search", func(t *testing.T) {
		a := c.get("web", "/?q=brass+lamp")
		a.has(t, 200, "1 found for", `href="/products/LMP-301"`)
		if strings.Contains(a.body, `href="/products/MUG-031"`) {
			t.Error("a mug was found for brass lamp")
		}
	})
	t.Run("product", func(t *testing.T) {
		c.get("web", "/products/SEE-311").has(t, 200, "Heirloom tomato seeds", "★★★★★", "Came up within a week")
	})
	t.Run("orders", func(t *testing.T) {
		a := c.get("web", "/orders")
		a.has(t, 200, `id="orders"`, `href="/orders/10501"`, "Older orders")
		if a = c.get("web", "/orders?before=10020"); strings.Contains(a.body, `id="orders"`) {
			t.Error("new orders would appear on a page of old ones")
		}
		a.has(t, 200, `href="/orders/10001"`)
	})
	t.Run("nothing there", func(t *testing.T) {
		for _, path := range []string{"/nothing", "/products/XXX-000", "/orders/1", "/orders/x"} {
			c.get("web", path).has(t, 404, "not found", "Back to the shop")
		}
	})
	t.Run("static", func(t *testing.T) {
		for _, path := range []string{"/static/shop.css", "/static/shop.js", "/static/icons.svg", "/static/finch.svg"} {
			c.get("web", path).has(t, 200)
		}
	})
	t.Run("an address of years ago", func(t *testing.T) {
		a := c.get("web", "/old-shop")
		a.has(t, 301)
		if got, want := a.header.Get("Location"), wwwURL+"/"; got != want {
			t.Errorf("Location %q, want %q", got, want)
		}
	})
	t.Run("order form", func(t *testing.T) {
		a := c.form("/orders", "sku=PCL-120&quantity=3&name=Ada&email=Ada@Example.com")
		a.has(t, 303)
		path, ok := strings.CutPrefix(a.header.Get("Location"), wwwURL)
		if !ok {
			t.Fatalf("Location %q, want an absolute URL below %s", a.header.Get("Location"), wwwURL)
		}
		c.get("web", path).has(t, 200, "Ada", "Twelve cedar pencils", "€41.40")
		c.get("web", "/products/PCL-120").has(t, 200, `max="69"`)
	})
	t.Run("order form with faults", func(t *testing.T) {
		c.form("/orders", "sku=PCL-120&quantity=0&name=Ada&email=ada@example.com").has(t, 422, "want 1 to 99")
		c.form("/orders", "sku=PCL-120&quantity=x&name=Ada&email=ada@example.com").has(t, 422, "want 1 to 99")
		c.form("/orders", "sku=BRD-150&quantity=7&name=Ada&email=ada@example.com").has(t, 409, "sold out: 6 left, 7 wanted")
		c.form("/orders", "sku=PCL-120&name=Ada&email=nobody").has(t, 422, "is not an e-mail address")
	})
}

func TestSession(t *testing.T) {
	t.Parallel()
	c := startClone(t)
	c.form("/login", "email=nobody@example.com").has(t, 422, "Nobody has ordered")
	a := c.form("/login", "email=rosa.lindqvist@example.com")
	a.has(t, 303)
	if got, want := a.header.Get("Location"), wwwURL+"/"; got != want {
		t.Errorf("Location %q, want %q", got, want)
	}
	cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.Domain != "" {
		t.Errorf("cookie %q, want HttpOnly, Secure, SameSite=Lax and no Domain", cookie)
	}
	in := []string{"Cookie", cookie.Name + "=" + cookie.Value}
	c.get("web", "/", in...).has(t, 200, `id="visitor">Rosa Lindqvist`)

	c.form("/products/MUG-031/reviews", "stars=4&text=Fits+two+thumbs.", in...).has(t, 303)
	c.get("web", "/products/MUG-031").has(t, 200, "Fits two thumbs.", "★★★★☆")
	c.form("/products/MUG-031/reviews", "stars=6&text=x", in...).has(t, 422, "want 1 to 5")
	if a := c.form("/products/MUG-031/reviews", "stars=4&text=Anonymous"); a.header.Get("Location") != wwwURL+"/login" {
		t.Errorf("a review without signing in went to %q", a.header.Get("Location"))
	}

	payload, signature, _ := strings.Cut(cookie.Value, ".")
	for _, forged := range []string{"", payload, payload + ".", payload + "x." + signature} {
		if a := c.get("web", "/", "Cookie", cookie.Name+"="+forged); strings.Contains(a.body, "Rosa Lindqvist</span>") {
			t.Errorf("cookie %q signs Rosa in", forged)
		}
	}
	out, err := http.ParseSetCookie(c.form("/logout", "", in...).header.Get("Set-Cookie"))
	if err != nil || out.Name != cookie.Name || out.MaxAge != -1 {
		t.Errorf("signing out set %v, %v", out, err)
	}
}

// TestOtherOrigins asks as pages of other sites, and of another clone, would.
func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	c := startClone(t)
	const other = "https://www-1235.test_envs.localhost:8443"
	order := "sku=MUG-031&name=Ada&email=ada@example.com"

	c.form("/orders", order, "Origin", wwwURL).has(t, 303)
	c.form("/orders", order, "Origin", other).has(t, 403)
	c.form("/orders", order, "Origin", other, "Sec-Fetch-Site", "same-site").has(t, 403)

	if a := c.get("api1", "/products", "Origin", wwwURL); a.header.Get("Access-Control-Allow-Origin") != wwwURL || a.header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("our own pages are told %v", a.header)
	}
	if a := c.get("api1", "/products", "Origin", other); a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Vary") != "Origin" {
		t.Errorf("pages of another clone are told %v", a.header)
	}
	if a := c.ask("OPTIONS", c.url("api1", "/orders"), "", "Origin", wwwURL, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"); a.status != 204 || !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
	c.ask("POST", c.url("api1", "/orders"), mug, "Content-Type", "text/plain").has(t, 415, "application/json")

	for origin, want := range map[string]int{wwwURL: 101, "": 101, other: 403, apiURL: 403} {
		_, res, err := dial(c, "/live", origin)
		if res == nil || res.StatusCode != want {
			t.Errorf("WebSocket of origin %q: %v, %v; want status %d", origin, res, err, want)
		}
	}
}

// dial opens a WebSocket that is closed when the test ends.
func dial(c *clone, path, origin string) (*websocket.Conn, *http.Response, error) {
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	conn, res, err := websocket.Dial(c.t.Context(), "ws"+strings.TrimPrefix(c.url("web", path), "http"), &websocket.DialOptions{HTTPHeader: header})
	if err == nil {
		c.t.Cleanup(func() { conn.CloseNow() })
	}
	return conn, res, err
}

// next reads one event from a WebSocket.
func next(t *testing.T, conn *websocket.Conn) shop.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var e shop.Event
	if err := wsjson.Read(ctx, conn, &e); err != nil {
		t.Fatalf("event: %v", err)
	}
	return e
}

func TestAPI(t *testing.T) {
	t.Parallel()
	c := startClone(t)
	for _, name := range []string{"api1", "api2"} {
		if a := c.get(name, "/healthz"); a.header.Get("Shop-Host") != name {
			t.Errorf("%s signs as %q", name, a.header.Get("Shop-Host"))
		}
	}
	a := c.json("api1", "/orders", mug)
	a.has(t, 201, `"customer":"Grace Hopper"`, `"total":3160`)
	var made shop.Order
	if err := json.Unmarshal([]byte(a.body), &made); err != nil {
		t.Fatal(err)
	}
	c.get("api2", fmt.Sprintf("/orders/%d", made.Number)).has(t, 200, "Thumb-rest mug")
	c.get("api2", "/orders?limit=1").has(t, 200, fmt.Sprintf(`"number":%d`, made.Number))
	c.get("api2", "/products?q=thumb").has(t, 200, `"stock":81`)
	c.get("api2", "/customers/grace@example.com").has(t, 200, "Grace Hopper")
	c.json("api2", "/reviews", `{"sku": "MUG-031", "email": "grace@example.com", "stars": 5, "text": "No bug in it."}`).has(t, 201)
	c.get("api1", "/products/MUG-031").has(t, 200, "No bug in it.")

	c.json("api1", "/orders", `{"email": "new@example.com", "items": [{"sku": "MUG-031", "quantity": 1}]}`).has(t, 422, "needs a name")
	c.json("api1", "/orders", `{"email": "grace@example.com", "items": [{"sku": "NO", "quantity": 1}]}`).has(t, 404, "NO")
	c.json("api1", "/orders", `{"email": "grace@example.com", "items": [{"sku": "BRD-150", "quantity": 4}, {"sku": "BRD-150", "quantity": 4}]}`).has(t, 409, "sold out")
	c.json("api1", "/orders", `{"mail": "grace@example.com"}`).has(t, 400, "mail")
	c.json("api1", "/orders", `{"email"`).has(t, 400)
	c.json("api1", "/reviews", `{"sku": "MUG-031", "email": "nobody@example.com", "stars": 5, "text": "x"}`).has(t, 404)
	c.get("api1", "/orders?before=x").has(t, 422)
	c.get("api1", "/nothing").has(t, 404)
}

// TestFeed reads server-sent events, leaves, and goes on at the other instance.
func TestFeed(t *testing.T) {
	t.Parallel()
	c := startClone(t)
	first := feed(c, "api1", "")
	start := first()
	if !strings.HasPrefix(start, "event: start\nid: ") {
		t.Fatalf("the feed begins with %q", start)
	}
	id := strings.TrimPrefix(strings.Split(start, "\n")[1], "id: ")
	c.json("api2", "/orders", mug).has(t, 201)
	if e := first(); !strings.HasPrefix(e, "event: order\n") || !strings.Contains(e, "Grace Hopper") {
		t.Errorf("after an order came %q", e)
	}
	c.json("api1", "/reviews", `{"sku": "MUG-031", "email": "grace@example.com", "stars": 5, "text": "x"}`).has(t, 201)

	resumed := feed(c, "api2", id)
	resumed() // where it begins
	if e := resumed(); !strings.HasPrefix(e, "event: order\n") {
		t.Errorf("the missed order came as %q", e)
	}
	if e := resumed(); !strings.HasPrefix(e, "event: review\n") {
		t.Errorf("the missed review came as %q", e)
	}
}

// feed opens a feed and returns a function that reads one event.
func feed(c *clone, name, lastID string) func() string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "GET", c.url(name, "/events"), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", lastID)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { res.Body.Close() })
	if got, want := res.Header.Get("Content-Type"), "text/event-stream"; got != want {
		c.t.Fatalf("Content-Type %q, want %q", got, want)
	}
	lines := bufio.NewReader(res.Body)
	return func() string {
		c.t.Helper()
		var event strings.Builder
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				c.t.Fatalf("feed of %s: %v after %q", name, err, event.String())
			}
			switch {
			case line != "\n":
				event.WriteString(line)
			case event.String() == ":\n": // a heartbeat
				event.Reset()
			default:
				return event.String()
			}
		}
	}
}

func TestLiveOrders(t *testing.T) {
	t.Parallel()
	c := startClone(t)
	one, _, err := dial(c, "/live", wwwURL)
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := dial(c, "/live", wwwURL)
	if err != nil {
		t.Fatal(err)
	}
	start := next(t, one)
	next(t, two)

	c.form("/orders", "sku=MUG-031&name=Ada&email=ada@example.com").has(t, 303)
	for _, conn := range []*websocket.Conn{one, two} {
		if e := next(t, conn); e.Order == nil || e.Order.Customer != "Ada" {
			t.Errorf("pushed %+v, want Ada's order", e)
		}
	}

	// Its API instances go away and come back, one after the other: the page
	// is told of what it missed.
	c.kill("api1")
	c.form("/orders", "sku=MUG-031&name=Bea&email=bea@example.com").has(t, 303)
	c.kill("api2")
	c.healthy("web", http.StatusServiceUnavailable)
	c.start("api1")
	c.healthy("web", http.StatusOK)
	if e := next(t, one); e.Order == nil || e.Order.Customer != "Bea" {
		t.Errorf("pushed %+v, want Bea's order", e)
	}

	late, _, err := dial(c, fmt.Sprintf("/live?after=%d", start.Seq+1), wwwURL)
	if err != nil {
		t.Fatal(err)
	}
	next(t, late)
	if e := next(t, late); e.Order == nil || e.Order.Customer != "Bea" {
		t.Errorf("a page that saw all but the last was pushed %+v, want Bea's order", e)
	}

	ended := make(chan error, 1)
	go func() {
		_, _, err := one.Read(t.Context())
		ended <- err
	}()
	c.stop("web")
	if err := <-ended; websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the page was told %v, want status 1001", err)
	}
}

// TestKilledDatabase kills the database under writers: what was acknowledged
// is there afterwards, in order, and nothing twice.
func TestKilledDatabase(t *testing.T) {
	t.Parallel()
	c := startClone(t)
	var products []shop.Product
	if err := json.Unmarshal([]byte(c.get("api1", "/products").body), &products); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	acknowledged := map[string]int{} // e-mail address → order
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				email := fmt.Sprintf("w%d-%d@example.com", w, i)
				body := fmt.Sprintf(`{"name": "Writer", "email": %q, "items": [{"sku": %q, "quantity": 1}]}`, email, products[i%len(products)].SKU)
				res, err := http.Post(c.url("api1", "/orders"), "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				var made shop.Order
				err = json.NewDecoder(res.Body).Decode(&made)
				res.Body.Close()
				if err == nil && res.StatusCode == http.StatusCreated {
					mu.Lock()
					acknowledged[email] = made.Number
					mu.Unlock()
				}
			}
		})
	}
	for range 3 {
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(acknowledged)
		}
		before := count()
		eventually(t, "40 more orders are placed", func() bool { return count() >= before+40 })
		c.kill("db")
		c.healthy("api1", http.StatusServiceUnavailable)
		c.healthy("web", http.StatusServiceUnavailable)
		c.get("web", "/").has(t, 503, "not available now")
		c.start("db")
		c.healthy("web", http.StatusOK)
	}
	close(stop)
	writers.Wait()
	known := map[int]bool{}
	for before := 0; ; {
		var page []shop.Order
		if err := json.Unmarshal([]byte(c.get("api2", fmt.Sprintf("/orders?limit=500&before=%d", before)).body), &page); err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, o := range page {
			if known[o.Number] {
				t.Errorf("order %d is there twice", o.Number)
			}
			known[o.Number] = true
			before = o.Number
		}
	}
	for email, number := range acknowledged {
		if !known[number] {
			t.Errorf("order %d of %s was acknowledged and is lost", number, email)
		}
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	c := startClone(t)
	read := feed(c, "api1", "")
	read()
	for _, name := range []string{"web", "api1", "api2", "db"} {
		c.stop(name)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	env := func(vars map[string]string) func(string) string {
		return func(name string) string { return vars[name] }
	}
	tests := []struct {
		name   string
		args   []string
		env    map[string]string
		status int
		says   string
	}{
		{"no role", nil, nil, 2, "usage: shop db|api|web"},
		{"unknown role", []string{"cache"}, nil, 2, "usage: shop db|api|web"},
		{"unknown level", []string{"db"}, map[string]string{"LOG_LEVEL": "loud"}, 2, "LOG_LEVEL"},
		{"no address", []string{"db"}, nil, 1, "CLONEGATE_ADDRESS is not set"},
		{"no data", []string{"db"}, map[string]string{"CLONEGATE_ADDRESS": "127.0.0.1", "CLONEGATE_DIR": "/nonexistent"}, 1, "products.csv"},
		{"no database", []string{"api"}, map[string]string{"CLONEGATE_ADDRESS": "127.0.0.1"}, 1, "CLONEGATE_ADDRESS_DB is not set"},
		{"no api", []string{"web"}, map[string]string{"CLONEGATE_ADDRESS": "127.0.0.1"}, 1, "CLONEGATE_ADDRESS_API1 is not set"},
		{"not this machine", []string{"api"}, map[string]string{"CLONEGATE_ADDRESS": "192.0.2.1", "CLONEGATE_ADDRESS_DB": "127.0.0.1", "CLONEGATE_URL_WWW": wwwURL}, 1, "192.0.2.1:8080"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			said := new(strings.Builder)
			if got := run(t.Context(), tt.args, env(tt.env), said); got != tt.status || !strings.Contains(said.String(), tt.says) {
				t.Errorf("shop %q ended with %d and said %q; want %d and %q", tt.args, got, said, tt.status, tt.says)
			}
		})
	}
}
