package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// TestOutcomes asks for clones in every state that has an answer of the
// gateway, as a program and as a browser.
func TestOutcomes(t *testing.T) {
	b := newBench(t)
	up := httptest.NewServer(who("1"))
	defer up.Close()
	addr := up.Listener.Addr().String()

	b.register("1234", map[string]registry.ServiceRegistration{"www": {Endpoints: []string{addr}, Default: true}, "api": {Endpoints: []string{addr}}})
	b.register("empty", www())
	b.register("down", www(closedPort(t), closedPort(t)))
	b.register("ill", www(closedPort(t)))
	b.setState("ill", registry.Degraded, "host web was killed by signal 9")
	b.register("gone", www(addr))
	b.unregister("gone")
	b.register("starting", www(addr), func(r *registry.Registration) { r.State = registry.Starting })
	b.register("asleep", www(addr))
	b.setState("asleep", registry.Suspending, "")
	b.setState("asleep", registry.Suspended, "")
	b.register("stopping", www(addr))
	b.setState("stopping", registry.Stopping, "")
	b.register("failed", www(addr), func(r *registry.Registration) { r.State = registry.Starting })
	b.setState("failed", registry.Failed, "db: exit status 1")

	for _, tt := range []struct {
		host   string
		status int
		reason proxy.Reason
		retry  string
		says   []string // in the page and in the problem
	}{
		{"www-1243", 404, proxy.UnknownClone, "", []string{"www-1243", "https://www-1234." + zone + ":8443"}},
		{"ww.1234", 404, proxy.UnknownService, "", []string{"https://www-1234." + zone + ":8443", "https://api-1234." + zone + ":8443"}},
		{"shop-1234", 404, proxy.UnknownService, "", []string{"https://www-1234." + zone + ":8443"}},
		{"www-empty", 503, proxy.NoEndpoint, "", []string{"Nothing serves www in clone empty"}},
		{"www-down", 503, proxy.Unreachable, "2", []string{"www of clone down", "connection refused"}},
		{"www-ill", 503, proxy.Unreachable, "2", []string{"www of clone ill", "The clone is degraded: host web was killed by signal 9."}},
		{"www-gone", 410, proxy.Gone, "", []string{"clonegate ended it", "s ago"}},
		{"www-starting", 503, proxy.Starting, "2", []string{"Clone starting is starting"}},
		{"www-asleep", 503, proxy.Asleep, "", []string{"Clone asleep is asleep"}},
		{"www-stopping", 503, proxy.Stopping, "", []string{"shutting down"}},
		{"www-failed", 502, proxy.Failed, "", []string{"Db: exit status 1."}},
	} {
		t.Run(tt.host, func(t *testing.T) {
			url := "https://" + tt.host + "." + zone + "/path"
			page := b.get(url, asBrowser)
			page.wantReason(t, tt.status, tt.reason)
			answer := b.get(url)
			p := answer.wantReason(t, tt.status, tt.reason)
			for name, r := range map[string]reply{"page": page, "problem": answer} {
				if got := r.Header.Get("Retry-After"); got != tt.retry {
					t.Errorf("%s: Retry-After %q; want %q", name, got, tt.retry)
				}
				if got := r.Header.Get("Vary"); got != "Accept" {
					t.Errorf("%s: Vary %q; want Accept", name, got)
				}
				for _, words := range tt.says {
					if !strings.Contains(strings.ReplaceAll(r.body, "&#34;", `"`), words) {
						t.Errorf("the %s does not say %q:\n%s", name, words, r.body)
					}
				}
			}
			if id := strings.TrimPrefix(tt.host, "www-"); p.Clone != "" && id != tt.host && p.Clone != id {
				t.Errorf("problem about clone %q; want %q", p.Clone, id)
			}
			if got := page.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
				t.Errorf("page: Content-Type %q", got)
			}
			if csp := page.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") {
				t.Errorf("page: Content-Security-Policy %q", csp)
			}
			if head := b.get(url, method("HEAD")); head.StatusCode != tt.status || head.body != "" {
				t.Errorf("HEAD: got %d %q", head.StatusCode, head.body)
			}
		})
	}
}

// TestLostCloneSaysWhen lets a lease run out.
func TestLostCloneSaysWhen(t *testing.T) {
	t.Parallel()
	b := newBenchOver(t, func(c *registry.Config) {
		c.TTL, c.RenewEvery, c.SweepEvery = 3*time.Second, time.Second, 50*time.Millisecond
	})
	b.register("1", www(closedPort(t)))
	url := "https://www-1." + zone + "/"
	page := b.get(url, asBrowser)
	page.wantReason(t, 503, proxy.Unreachable)
	if !strings.Contains(page.body, "unless the clone renews it") {
		t.Errorf("the page does not tell of the lease:\n%s", page.body)
	}
	eventually(t, "the clone is lost", func() bool { return b.get(url).StatusCode == 410 })
	if p := b.get(url).wantReason(t, 410, proxy.Lost); !strings.Contains(p.Detail, " s ago, on ") || p.State != "lost" {
		t.Errorf("got %+v; want it to say when the lease ended", p)
	}
}

// TestPagesEscapeNames puts markup where names are shown.
func TestPagesEscapeNames(t *testing.T) {
	b := newBench(t)
	b.register("1", www(closedPort(t)), func(r *registry.Registration) { r.Owner = "<script>alert(1)</script>" })
	for _, tt := range []struct{ host, request string }{
		{"www-1", "GET / HTTP/1.1\r\nHost: www-1." + zone},
		{"a quote in a name", "GET / HTTP/1.1\r\nHost: '-alert(1)-'." + zone},
		{"the list of clones", "GET / HTTP/1.1\r\nHost: " + zone},
	} {
		got := b.raw(tt.request + "\r\nAccept: text/html\r\n\r\n")
		if strings.Contains(got.body, "<script>alert") || strings.Contains(got.body, "'-alert") {
			t.Errorf("%s: not escaped:\n%s", tt.host, got.body)
		}
	}
}

func TestWhoGetsAPage(t *testing.T) {
	b := newBench(t)
	for accept, page := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "application/json, text/html;q=0": false, "text/*": false,
		"text/html": true, "application/json, text/html;q=0.1": true, "TEXT/HTML": true,
	} {
		got := b.get("https://www-9."+zone+"/", header("Accept", accept))
		if is := strings.HasPrefix(got.Header.Get("Content-Type"), "text/html"); is != page {
			t.Errorf("Accept %q: page %v; want %v", accept, is, page)
		}
	}
}

// TestOnlyNavigationsGoOn holds that a page goes on by itself only if a person
// opened it, and only if waiting helps.
func TestOnlyNavigationsGoOn(t *testing.T) {
	b := newBench(t)
	b.register("1", www(), func(r *registry.Registration) { r.State = registry.Starting })
	b.register("2", www())
	for _, tt := range []struct {
		name   string
		id     string
		change []func(*http.Request)
		goesOn bool
	}{
		{"navigation", "1", []func(*http.Request){asBrowser}, true},
		{"an old browser", "1", []func(*http.Request){header("Accept", "text/html")}, true},
		{"a form", "1", []func(*http.Request){asBrowser, method("POST")}, false},
		{"fetch", "1", []func(*http.Request){asBrowser, header("Sec-Fetch-Mode", "cors")}, false},
		{"nothing to wait for", "2", []func(*http.Request){asBrowser}, false},
	} {
		got := b.get("https://www-"+tt.id+"."+zone+"/", tt.change...)
		if on := strings.Contains(got.body, "<script>") && strings.Contains(got.body, `http-equiv="refresh"`); on != tt.goesOn {
			t.Errorf("%s: goes on by itself: %v; want %v", tt.name, on, tt.goesOn)
		}
	}
}

// TestRetriesOnlyWhatWasNotSent has dead endpoints in front of a living one.
func TestRetriesOnlyWhatWasNotSent(t *testing.T) {
	b := newBench(t)
	var served atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		served.Add(1)
		w.Write(body)
	}))
	defer up.Close()
	b.register("1", www(closedPort(t), closedPort(t), up.Listener.Addr().String()))
	for range 30 {
		got := b.get("https://www-1."+zone+"/", method("POST"), func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("body")) })
		if got.StatusCode != 200 || got.body != "body" {
			t.Fatalf("got %d %q; want the living endpoint's answer", got.StatusCode, got.body)
		}
	}
	if n := served.Load(); n != 30 {
		t.Errorf("%d requests were served; want 30", n)
	}

	var broken atomic.Int64
	b.backend("2", func(c *net.TCPConn, _ *bufio.Reader) {
		broken.Add(1)
		c.SetLinger(0) // a reset
	})
	b.get("https://www-2."+zone+"/", method("POST")).wantReason(t, 502, proxy.UpstreamBroken)
	if n := broken.Load(); n != 1 {
		t.Errorf("a POST that was sent came %d times; want once", n)
	}
}

// TestFailingEndpointIsBenched sends requests to one of two endpoints that
// resets them: after three it is passed over.
func TestFailingEndpointIsBenched(t *testing.T) {
	b := newBench(t)
	var resets atomic.Int64
	b.backend("1", func(c *net.TCPConn, _ *bufio.Reader) {
		resets.Add(1)
		c.SetLinger(0)
	})
	c, _ := b.registry.View().Clone("1")
	up := httptest.NewServer(who("1"))
	defer up.Close()
	b.register("1", www(c.Services["www"].Endpoints[0].String(), up.Listener.Addr().String()))
	for range 100 {
		b.get("https://www-1."+zone+"/", method("POST"))
	}
	if n := resets.Load(); n != 3 {
		t.Errorf("the broken endpoint got %d requests; want 3", n)
	}
	if n := len(b.log.records("endpoint is benched")); n != 1 {
		t.Errorf("benching was logged %d times; want once", n)
	}
}

// TestUnhealthyServiceSaysWhy waits for the probe of a service that is ill, and
// for its recovery.
func TestUnhealthyServiceSaysWhy(t *testing.T) {
	b := newBench(t)
	var ill atomic.Bool
	ill.Store(true)
	var probedHost atomic.Value
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			probedHost.Store(r.Host)
			if ill.Load() {
				w.WriteHeader(500)
			}
			return
		}
		io.WriteString(w, "well")
	}))
	defer up.Close()
	b.register("1", map[string]registry.ServiceRegistration{"www": {
		Endpoints: []string{up.Listener.Addr().String()},
		Health:    &registry.HealthRegistration{Path: "/healthz", Interval: 1, Timeout: 1},
	}})
	url := "https://www-1." + zone + "/"
	eventually(t, "the probe finds it ill", func() bool { return b.get(url).StatusCode == 503 })
	if p := b.get(url).wantReason(t, 503, proxy.Unhealthy); !strings.Contains(p.Detail, "GET /healthz answered 500") {
		t.Errorf("detail %q does not say what is wrong", p.Detail)
	}
	if got := probedHost.Load(); got != "www-1."+zone {
		t.Errorf("probed as %q; want the public host", got)
	}
	ill.Store(false)
	eventually(t, "the probe finds it well", func() bool { return b.get(url).body == "well" })
}

// TestEndpointsAreCheckedAtDial has an address become forbidden after it was
// registered.
func TestEndpointsAreCheckedAtDial(t *testing.T) {
	var forbidden atomic.Bool
	b := newBench(t, func(c *proxy.Config) {
		check := c.CheckEndpoint
		c.CheckEndpoint = func(ep netip.AddrPort) error {
			if forbidden.Load() {
				return registry.NewNetworks(nil).Check(ep)
			}
			return check(ep)
		}
	})
	b.serve("1", who("1"))
	forbidden.Store(true)
	p := b.get("https://www-1."+zone+"/").wantReason(t, 502, proxy.AddressRefused)
	if !strings.Contains(p.Detail, "loopback") {
		t.Errorf("detail %q does not name the rule", p.Detail)
	}
}

// TestOneCloneCannotTakeAll fills one clone with requests.
func TestOneCloneCannotTakeAll(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.RequestsPerClone = 3 })
	release := make(chan struct{})
	var working sync.WaitGroup
	working.Add(3)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) { working.Done(); <-release })
	b.serve("2", who("2"))
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			if got := b.get("https://www-1." + zone + "/"); got.StatusCode != 200 {
				t.Errorf("a request at work: got %d", got.StatusCode)
			}
		})
	}
	working.Wait()
	got := b.get("https://www-1." + zone + "/")
	got.wantReason(t, 503, proxy.Overloaded)
	if got.Header.Get("Retry-After") == "" {
		t.Error("overloaded without Retry-After")
	}
	if got := b.get("https://www-2." + zone + "/"); got.StatusCode != 200 {
		t.Errorf("another clone: got %d; want 200", got.StatusCode)
	}
	close(release)
	clients.Wait()
	working.Add(1)
	if got := b.get("https://www-1." + zone + "/"); got.StatusCode != 200 {
		t.Errorf("afterwards: got %d; want 200", got.StatusCode)
	}
}

// TestOneSourceCannotTakeAll opens more connections than one source may have.
func TestOneSourceCannotTakeAll(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.ConnsPerSource = 2 })
	first, second := b.dialTLS(zone), b.dialTLS(zone)
	if c, err := net.Dial("tcp", b.addr); err == nil {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a third connection: %v; want it closed at once", err)
		}
		c.Close()
	}
	if got := b.series("clonegate_proxy_connections_refused_total")[""]; got != 1 {
		t.Errorf("%v refused connections are counted; want 1", got)
	}
	exchangeRaw(t, second, "GET / HTTP/1.1\r\nHost: "+zone+"\r\n\r\n").wantReason(t, 404, proxy.NoName)
	first.Close()
	eventually(t, "there is room again", func() bool {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			return false
		}
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err = c.Read(make([]byte, 1))
		return err != nil && strings.Contains(err.Error(), "timeout")
	})
}
