package e2e

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// TestAdoption kills the daemon, ends it, and starts it again, under clones
// that do not notice.
func TestAdoption(t *testing.T) {
	long(t)
	need(t, map[string]string{"curl": "curl"})
	t.Parallel()
	g := newGateway(t, fixedPorts(t), "leases: {ttl: 6s, renew_every: 1s, sweep: 1s}")
	g.start()
	g.publishShop()
	clone := g.up("shop", "--alias", "pr-87", "--owner", "ada")
	id := string(clone.ID)
	number := g.order(clone, "Ada")
	hosts := hostsOf(t, g.data, id)
	if got := fmt.Sprint(len(hosts)); got != "5" { // four hosts and the startup command
		t.Fatalf("clone %s runs as %v", id, hosts)
	}
	follower, followed := g.followLogs(id)

	check := func(when string) {
		t.Helper()
		if now := hostsOf(t, g.data, id); !maps.EqualFunc(now, hosts, func(a, b running) bool { return a.pid == b.pid }) {
			t.Errorf("%s, clone %s runs as %v; it ran as %v", when, id, now, hosts)
		}
		has(t, "orders "+when, g.curl(clone.URLs["www"]+"/orders"), number)
		mark := "/mark-" + strings.ReplaceAll(when, " ", "-")
		g.curl(clone.URLs["www"] + mark)
		eventually(t, 5*time.Second, "its output goes on "+when, func() string {
			if logs := g.must("logs", id, "--host", "web"); !strings.Contains(logs, mark) {
				return "no " + mark + " in:\n" + logs
			}
			return ""
		})
	}
	check("at first")
	eventually(t, 5*time.Second, "a request shows in the output that is followed", func() string {
		text, err := os.ReadFile(followed)
		if err != nil || !strings.Contains(string(text), "/mark-at-first") {
			return fmt.Sprintf("%v, it holds:\n%s", err, text)
		}
		return ""
	})

	g.kill()
	if !follower.wait(10*time.Second) || follower.status() == "exit status 0" {
		t.Error("logs --follow does not fail with the daemon")
	}
	if left := hostsOf(t, g.data, id); len(left) != len(hosts) {
		t.Errorf("without a daemon, clone %s runs as %v", id, left)
	}
	if _, stderr, status := g.cli("list"); status != 6 {
		t.Errorf("list without a daemon: exit status %d, want 6; %s", status, stderr)
	} else {
		has(t, "list without a daemon", stderr, "clonegate doctor")
	}
	g.start()
	check("after kill -9")
	if c, err := g.api.Clone(t.Context(), clone.ID); err != nil || c.State != registry.Ready || c.Incarnation != clone.Incarnation {
		t.Errorf("after kill -9, clone %s is %+v, %v", id, c, err)
	}

	g.stop(20 * time.Second)
	g.start()
	check("after SIGTERM")
	time.Sleep(7 * time.Second) // a lease: renewals must reach the new daemon
	check("after a lease")

	g.must("down", "pr-87")
	noClones(t, g.data, time.Second)
	g.get(g.visitor(), clone.URLs["www"]).is(t, "the clone that is gone", 410, `"code": "gone"`)
	has(t, "logs of the clone that is gone", g.must("logs", id, "--host", "web"), "/mark-after-kill--9")
}

// followLogs follows the output of a clone into a file.
func (g *gateway) followLogs(id string) (p *process, file string) {
	g.t.Helper()
	f, err := os.Create(filepath.Join(g.t.TempDir(), "followed"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(binary, "--data", g.data, "logs", id, "--follow")
	cmd.Stdout, cmd.Stderr = f, f
	return startProcess(g.t, cmd), f.Name()
}

// TestDrain stops the daemon while a clone is still answering.
func TestDrain(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start()
	arrived, finish := make(chan bool), make(chan bool)
	backend := startBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			return
		}
		io.WriteString(w, "the beginning, ")
		w.(http.Flusher).Flush()
		close(arrived)
		select {
		case <-finish:
			io.WriteString(w, "the end")
		case <-r.Context().Done():
		}
	}))
	g.register("1", serving("a", backend))
	visitor := g.visitor()
	done := make(chan error, 1)
	go func() {
		a, err := ask(t.Context(), visitor, http.MethodGet, g.url("www-1", "/slow"), "")
		if err == nil && a.body != "the beginning, the end" {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		done <- err
	}()
	<-arrived
	stopping := make(chan bool)
	go func() {
		defer close(stopping)
		g.stop(10 * time.Second)
	}()
	eventually(t, 5*time.Second, "a daemon that stops takes no new connections", func() string {
		c := &http.Client{Transport: g.transport(), Timeout: time.Second}
		defer c.CloseIdleConnections()
		if _, err := ask(t.Context(), c, http.MethodGet, g.url("www-1", "/"), ""); err == nil {
			return "it does"
		}
		return ""
	})
	if g.ended() {
		t.Error("the daemon has ended before its last request")
	}
	close(finish)
	if err := <-done; err != nil {
		t.Errorf("the request that was open: %v", err)
	}
	<-stopping
}

// TestKillStarting kills the daemon while clones are starting. The next one
// brings them to their end, and nothing runs twice or for ever.
func TestKillStarting(t *testing.T) {
	long(t)
	need(t, map[string]string{"curl": "curl"})
	t.Parallel()
	g := newGateway(t, fixedPorts(t))
	g.start()
	g.publishShop()
	for range 5 {
		ids := []string{string(g.up("shop", "--no-wait").ID), string(g.up("shop", "--no-wait").ID)}
		time.Sleep(rand.N(400 * time.Millisecond))
		g.kill()
		g.start()
		for _, id := range ids {
			eventually(t, 60*time.Second, "clone "+id+" is ready", func() string {
				c, err := g.api.Clone(t.Context(), registry.ID(id))
				if err != nil {
					t.Fatal(err)
				}
				if c.State == registry.Ready {
					return ""
				}
				return string(c.State) + ": " + c.Reason
			})
			has(t, "page of clone "+id, g.curl(g.url("www-"+id, "/")), "clone "+id)
			if hosts := hostsOf(t, g.data, id); len(hosts) != 5 {
				t.Errorf("clone %s runs as %v", id, hosts)
			}
		}
		g.must(append([]string{"down"}, ids...)...)
		noClones(t, g.data, time.Second)
		for _, id := range ids {
			for _, name := range []string{"files", "private", "process.json"} {
				if _, err := os.Stat(filepath.Join(g.data, "clones", id, name)); !os.IsNotExist(err) {
					t.Errorf("clone %s is gone and its %s is left: %v", id, name, err)
				}
			}
		}
	}
}
