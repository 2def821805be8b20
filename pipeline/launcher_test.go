package pipeline_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/registry"
)

const shop = `
name: shop
params:
  greeting: {default: Welcome}
hosts:
  db:    {address: 30, run: [HOST, ready=100ms], ready: {tcp: 8080}, env: {EVENTS}}
  api-1: {address: 20, run: [HOST, ready=300ms], needs: [db], ready: {http: "8080/healthz"}, env: {EVENTS}}
  api-2: {address: 21, run: [HOST, ready=300ms], needs: [db], ready: {http: "8080/healthz"}, env: {EVENTS}}
  web:   {address: 10, run: [HOST], needs: [api-1, api-2], ready: {http: "8080/healthz"}, env: {EVENTS, LOG_LEVEL: info}}
services:
  www: {hosts: [web], port: 8080, default: true, health: {path: /healthz}}
  api: {hosts: [api-1, api-2], port: 8080, protocol: http}
data: [data]
records: [{name: _shop._tcp, type: SRV, ttl: 60, data: "0 0 8080 web"}]
forward: [{zone: corp.example.com, servers: [10.0.0.53]}]
`

// one is a template of a single host without a startup command.
const one = `
name: one
hosts:
  web: {address: 10, run: [HOST], ready: {tcp: 8080}, env: {EVENTS}}
services:
  www: {hosts: [web], port: 8080}
data: [data]
`

func TestUpAndDown(t *testing.T) {
	metrics := prometheus.NewRegistry()
	h := build(t, func(cfg *pipeline.Config) { cfg.Metrics = metrics })
	h.publish(shop, nil)
	id := h.up("shop", map[string]string{"greeting": "Hello"})
	c := h.await(id, registry.Ready)

	at := func(host string) netip.Addr { return c.Hosts[registry.Host(host)][0] }
	end := func(host string) netip.AddrPort { return netip.AddrPortFrom(at(host), 8080) }
	want := &registry.Clone{
		ID: id, Incarnation: 1, Provider: "process", Template: "shop@1", DeployTag: "tag-7", Owner: "ada",
		Params: map[string]string{"greeting": "Hello"}, State: registry.Ready, Desired: registry.WantReady, TTL: 120,
		Services: map[string]*registry.Service{
			"www": {Endpoints: []netip.AddrPort{end("web")}, Protocol: "http", Default: true, Health: &registry.Health{Path: "/healthz", Interval: 10, Timeout: 2}},
			"api": {Endpoints: []netip.AddrPort{end("api-1"), end("api-2")}, Protocol: "http"},
		},
		Hosts:   c.Hosts,
		Records: []registry.Record{{Name: "_shop._tcp", Type: "SRV", TTL: 60, Data: "0 0 8080 web"}},
		Forward: []registry.Forward{{Zone: "corp.example.com", Servers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.53:53")}}},
	}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreFields(registry.Clone{}, "Revision", "Instance", "Created", "Changed", "Since"), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Errorf("registered (-want +got):\n%s", diff)
	}
	for host, octet := range map[string]byte{"web": 10, "api-1": 20, "api-2": 21, "db": 30} {
		if at(host).As4()[3] != octet {
			t.Errorf("host %s has address %s, want .%d", host, at(host), octet)
		}
	}

	// In the order of needs, parallel where that is free.
	note := func(host, what string) string { return fmt.Sprintf("%s %s %s", id, host, what) }
	h.before(note("db", "listen"), note("api-1", "begin"))
	h.before(note("db", "listen"), note("api-2", "begin"))
	h.before(note("api-1", "begin"), note("api-2", "listen"))
	h.before(note("api-2", "begin"), note("api-1", "listen"))
	h.before(note("api-1", "listen"), note("web", "begin"))
	h.before(note("api-2", "listen"), note("web", "begin"))

	h.environment(id, c)

	var b bytes.Buffer
	must(t, h.launcher.Logs(t.Context(), id, pipeline.LogQuery{Names: []string{"web"}, Tail: 10}, &b))
	if b.String() != "web serves\n" {
		t.Errorf("output of web: %q", b.String())
	}

	h.down(id)
	h.nothingRuns(id)
	h.before(note("web", "stop"), note("api-1", "stop"))
	h.before(note("web", "stop"), note("api-2", "stop"))
	h.before(note("api-1", "stop"), note("db", "stop"))
	if left, _ := os.ReadDir(filepath.Join(h.dir, "clones", string(id))); len(left) != 1 {
		t.Errorf("left of the clone: %v, want its logs alone", left)
	}
	b.Reset()
	must(t, h.launcher.Logs(t.Context(), id, pipeline.LogQuery{Names: []string{"web"}, Tail: 10}, &b))
	if b.String() != "web serves\n" {
		t.Errorf("output of web after its end: %q", b.String())
	}
	families, err := metrics.Gather()
	must(t, err)
	found := false
	for _, f := range families {
		if f.GetName() == "clonegate_pipeline_start_seconds" {
			found = f.Metric[0].Histogram.GetSampleCount() == 1
		}
	}
	if !found {
		t.Error("clonegate_pipeline_start_seconds has not counted one start")
	}
}

// environment checks what a host is told.
func (h *house) environment(id registry.ID, c *registry.Clone) {
	h.t.Helper()
	got := map[string]string{}
	for line := range strings.Lines(h.get(id, "web", "/env")) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[name] = value
	}
	want := map[string]string{
		"CLONEGATE_ID": string(id), "CLONEGATE_INSTANCE": c.Instance, "CLONEGATE_HOST": "web",
		"CLONEGATE_ADDRESS":       c.Hosts["web"][0].String(),
		"CLONEGATE_ADDRESS_WEB":   c.Hosts["web"][0].String(),
		"CLONEGATE_ADDRESS_API_1": c.Hosts["api-1"][0].String(),
		"CLONEGATE_ADDRESS_API_2": c.Hosts["api-2"][0].String(),
		"CLONEGATE_ADDRESS_DB":    c.Hosts["db"][0].String(),
		"CLONEGATE_URL_WWW":       "https://www-" + string(id) + ".test_envs.internal.example.com",
		"CLONEGATE_URL_API":       "https://api-" + string(id) + ".test_envs.internal.example.com",
		"CLONEGATE_TEMPLATE":      "shop@1", "CLONEGATE_DEPLOY_TAG": "tag-7", "CLONEGATE_OWNER": "ada",
		"CLONEGATE_PARAM_GREETING": "Hello",
		"CLONEGATE_DIR":            filepath.Join(h.dir, "clones", string(id), "files"),
		"LOG_LEVEL":                "info", "EVENTS": h.events,
	}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			want[name] = value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.t.Errorf("environment of web (-want +got):\n%s", diff)
	}
}

func TestClonesHaveTheirOwnData(t *testing.T) {
	h := build(t, nil)
	a := h.publish(one, nil)
	first, second := h.up("one", nil), h.up("one", nil)
	h.await(first, registry.Ready)
	h.await(second, registry.Ready)
	h.post(first, "web", "written in the first")
	if got, want := h.get(first, "web", "/rows"), "from the template\nwritten in the first\n"; got != want {
		t.Errorf("the first clone has %q, want %q", got, want)
	}
	if got, want := h.get(second, "web", "/rows"), "from the template\n"; got != want {
		t.Errorf("the second clone has %q, want %q", got, want)
	}
	must(t, h.store.Verify(t.Context(), a.Digest))
	third := h.up("one", nil)
	h.await(third, registry.Ready)
	if got, want := h.get(third, "web", "/rows"), "from the template\n"; got != want {
		t.Errorf("a clone started later has %q, want %q", got, want)
	}
	if first, second := h.clone(first).Hosts["web"][0], h.clone(second).Hosts["web"][0]; first == second {
		t.Errorf("both clones have address %s", first)
	}
}

func TestAKilledHostDegradesTheClone(t *testing.T) {
	h := build(t, nil)
	h.publish(shop, nil)
	id := h.up("shop", nil)
	h.await(id, registry.Ready)
	before := h.running(id)
	kill(t, before["api-2"])
	c := h.await(id, registry.Degraded)
	if want := "host api-2 was killed by signal 9 (killed); its last output: api-2 serves"; c.Reason != want {
		t.Errorf("reason %q, want %q", c.Reason, want)
	}
	kill(t, before["web"])
	eventually(t, "the second reason", func() bool { return strings.Contains(h.clone(id).Reason, "; host web was killed") })
	if len(h.running(id)) != 2 {
		t.Errorf("still running: %v, want two hosts", h.running(id))
	}
	h.down(id)
	h.nothingRuns(id)
}

func TestTheLeaseIsRenewedUntilNothingRuns(t *testing.T) {
	t.Parallel()
	h := build(t, nil, leases(3*time.Second))
	h.publish(one, nil)
	id := h.up("one", nil)
	h.await(id, registry.Ready)
	first, _ := h.registry.Lease(id)
	eventually(t, "two renewals", func() bool {
		l, ok := h.registry.Lease(id)
		return ok && l.Renewed.Sub(first.Renewed) > 1500*time.Millisecond
	})
	kill(t, h.running(id)["web"])
	h.await(id, registry.Degraded)
	c := h.await(id, registry.Lost)
	if !strings.Contains(c.Reason, "not heard of for") {
		t.Errorf("reason %q", c.Reason)
	}
	h.down(id)
}

// TestALostCloneIsStopped has a clone whose lease ends while hosts still run.
func TestALostCloneIsStopped(t *testing.T) {
	t.Parallel()
	h := build(t, nil, leases(2*time.Second))
	h.publish(one+"startup: [sh, startup.sh]\n", map[string]string{"startup.sh": registerOnce + "exit 9\n"})
	id := h.up("one", nil)
	h.await(id, registry.Ready)
	c := h.await(id, registry.Degraded)
	if want := "the startup command ended with exit status 9, so nobody renews the lease"; !strings.HasPrefix(c.Reason, want) {
		t.Errorf("reason %q, want %q", c.Reason, want)
	}
	h.await(id, registry.Lost)
	eventually(t, "its end", func() bool { return len(h.running(id)) == 0 && len(h.registry.View().Tokens()) == 0 })
	if c := h.clone(id); c.State != registry.Lost {
		t.Errorf("it is %s now, want it to stay lost until somebody ends it", c.State)
	}
	h.down(id)
}

// registerOnce registers the clone by curl with what the launcher prepared.
const registerOnce = `
set -eu
umask 077
printf 'header = "Authorization: Bearer %s"\n' "$(cat "$CLONEGATE_TOKEN_FILE")" |
  curl --config - --silent --show-error --fail-with-body --max-time 10 --request PUT \
    --header 'Content-Type: application/json' --data "@$CLONEGATE_REGISTRATION_FILE" "$CLONEGATE_API/v1/clones/$CLONEGATE_ID"
`

func TestClonesOutliveTheLauncher(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.publish(shop, nil)
	h.publish(strings.Replace(one, "[HOST]", "[HOST, ready=1500ms]", 1), nil)
	id, slow, lost := h.up("shop", nil), h.up("one", nil), h.up("shop", nil)
	h.await(id, registry.Ready)
	h.await(lost, registry.Ready)
	eventually(t, "a start at work", func() bool { return len(h.running(slow)) == 1 })
	before, half := h.running(id), h.running(slow)
	h.stop()
	if diff := cmp.Diff(before, h.running(id)); diff != "" {
		t.Errorf("the launcher's end changed what runs (-before +after):\n%s", diff)
	}
	kill(t, h.running(lost)["db"])
	ended := h.up("shop", nil)
	_, err := h.registry.Unregister(t.Context(), registry.System, ended, "")
	must(t, err)

	h.open(nil)
	h.await(slow, registry.Ready) // the start goes on where it was
	if diff := cmp.Diff(half, h.running(slow)); diff != "" {
		t.Errorf("a start that was interrupted (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(before, h.running(id)); diff != "" {
		t.Errorf("taken over (-before +after):\n%s", diff)
	}
	if c := h.await(lost, registry.Degraded); !strings.Contains(c.Reason, "host db ended while clonegate was not running") {
		t.Errorf("reason %q", c.Reason)
	}
	h.await(ended, registry.Gone)
	kill(t, before["web"])
	if c := h.await(id, registry.Degraded); !strings.Contains(c.Reason, "host web ended; its exit status is not known") {
		t.Errorf("reason %q", c.Reason)
	}
	for _, id := range []registry.ID{id, slow, lost} {
		h.down(id)
		h.nothingRuns(id)
	}
}

func TestEndClones(t *testing.T) {
	h := build(t, func(cfg *pipeline.Config) { cfg.EndClones = true; cfg.Starts = 1 })
	h.publish(shop, nil)
	ids := []registry.ID{h.up("shop", nil), h.up("shop", nil), h.up("shop", nil)}
	h.await(ids[0], registry.Ready)
	h.stop() // in the middle of the other starts
	for _, id := range ids {
		h.nothingRuns(id)
		if c := h.clone(id); c.State != registry.Gone || c.Reason != "the daemon stopped" {
			t.Errorf("clone %s is %s (%s), want gone", id, c.State, c.Reason)
		}
	}
	if held := h.provider.Held(); len(held) > 0 {
		t.Errorf("still held: %v", held)
	}
}

// TestStrangersAreLeftAlone has clones under a registry that does not know
// them, as after it was put back to an older state.
func TestStrangersAreLeftAlone(t *testing.T) {
	h := build(t, nil)
	h.publish(one, nil)
	id := h.up("one", nil)
	h.await(id, registry.Ready)
	h.stop()
	before := h.running(id)
	other := build(t, nil)
	other.stop()
	other.dir = h.dir
	other.publish(strings.Replace(one, "name: one", "name: two", 1), nil)
	other.open(nil)
	eventually(t, "a look at it", func() bool { return len(other.provider.Held()) == 1 })
	if diff := cmp.Diff(before, h.running(id)); diff != "" {
		t.Errorf("what runs (-before +after):\n%s", diff)
	}
	// Once its ID is given to another clone, it has to make room.
	mine := other.up("two", nil)
	if mine != id {
		t.Fatalf("the other registry allocated %s, want %s", mine, id)
	}
	other.await(mine, registry.Ready)
	if after := h.running(id); len(after) != 1 || after["web"] == before["web"] {
		t.Errorf("running: %v before and %v after; want one new process", before, after)
	}
	other.down(mine)
	h.nothingRuns(id)
}

func TestLogsOfOthers(t *testing.T) {
	h := build(t, nil)
	_, err := h.registry.Register(t.Context(), registry.System, "77", registry.Registration{Instance: "i"}, false)
	must(t, err)
	for id, want := range map[registry.ID]string{"77": "registered by its own startup script", "78": "clone 78: not found"} {
		err := h.launcher.Logs(t.Context(), id, pipeline.LogQuery{}, new(bytes.Buffer))
		if !errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("clone %s: got %v, want %q", id, err, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := pipeline.New(pipeline.Config{}); err == nil {
		t.Error("an empty Config was taken")
	}
}
