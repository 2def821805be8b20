package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/pipeline/process"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A house is a registry with its API, a template store and a launcher with
// the process provider, all real.
type house struct {
	t        *testing.T
	dir      string
	events   string
	registry *registry.Registry
	api      string
	store    *oci.Store
	provider *process.Provider
	launcher *pipeline.Launcher
	stop     func() // ends the launcher, as often as it is called
}

// build returns a house whose launcher runs.
func build(t *testing.T, change func(*pipeline.Config), records ...func(*registry.Config)) *house {
	t.Helper()
	return buildAt(t, t.TempDir(), change, records...)
}

// leases makes leases short.
func leases(ttl time.Duration) func(*registry.Config) {
	return func(cfg *registry.Config) {
		cfg.TTL, cfg.RenewEvery, cfg.SweepEvery = ttl, time.Second, 50*time.Millisecond
	}
}

// records is what the registry of every house is like.
func records(cfg *registry.Config) {
	cfg.Networks = registry.NewNetworks(append(registry.PrivateNetworks, process.DefaultPool))
	cfg.Providers = []string{"process"}
	cfg.CheckParams = pipeline.CheckParams
}

// buildAt returns a house in a directory, which may hold one already.
func buildAt(t *testing.T, dir string, change func(*pipeline.Config), more ...func(*registry.Config)) *house {
	t.Helper()
	h := &house{t: t, dir: dir}
	h.events = filepath.Join(h.dir, "events")
	h.registry = registrytest.New(t, append([]func(*registry.Config){records}, more...)...)
	h.api = serveAPI(t, h.registry)
	var err error
	h.store, err = oci.Open(oci.Config{Dir: filepath.Join(h.dir, "templates")})
	must(t, err)
	h.open(change)
	t.Cleanup(func() {
		if t.Failed() {
			for c := range h.registry.View().Clones("") {
				t.Logf("clone %s: %s, %s", c.ID, c.State, c.Reason)
			}
		}
		h.stop()
		endClones(t, h.dir)
	})
	return h
}

// endClones ends what still runs of a house that has no launcher any more.
func endClones(t *testing.T, dir string) {
	t.Helper()
	p, err := process.New(process.Config{Dir: filepath.Join(dir, "clones"), Grace: 100 * time.Millisecond})
	must(t, err)
	ctx, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	for _, id := range p.Held() {
		if err := p.Stop(ctx, id); err != nil {
			t.Error(err)
		}
	}
	cancel()
	must(t, p.Run(ctx)) // ends at once, and its watches with it
}

// serveAPI returns the base URL of the registry's API.
func serveAPI(t *testing.T, r *registry.Registry) string {
	t.Helper()
	a, err := api.New(api.Config{Registry: r})
	must(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := a.Server()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	t.Cleanup(func() {
		must(t, server.Close())
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

// open starts a provider and a launcher over what the house has.
func (h *house) open(change func(*pipeline.Config)) {
	h.t.Helper()
	var err error
	h.provider, err = process.New(process.Config{Dir: filepath.Join(h.dir, "clones"), Grace: time.Second})
	must(h.t, err)
	cfg := pipeline.Config{
		Registry: h.registry, Templates: h.store, API: h.api,
		Providers: map[string]pipeline.Provider{"process": h.provider},
	}
	if change != nil {
		change(&cfg)
	}
	h.launcher, err = pipeline.New(cfg)
	must(h.t, err)
	ctx, cancel := context.WithCancel(background)
	ended := make(chan error, 1)
	go func() { ended <- h.launcher.Run(ctx) }()
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("launcher: %v", err)
		}
	}
}

// files makes the files of a template. HOST stands for the test binary as a
// host, EVENTS for the file that hosts note what they do in.
func (h *house) files(yaml string, more map[string]string) string {
	h.t.Helper()
	return writeTemplate(h.t, h.events, yaml, more)
}

func writeTemplate(t *testing.T, events, yaml string, more map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	must(t, err)
	yaml = strings.NewReplacer("HOST", self+", host", "EVENTS", "EVENTS: "+events).Replace(yaml)
	files := map[string]string{"template.yaml": yaml, "data/rows": "from the template\n"}
	for name, content := range more {
		files[name] = content
	}
	for name, content := range files {
		full := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		must(t, os.WriteFile(full, []byte(content), 0o755))
	}
	return dir
}

// publish stores a template and publishes it as name@1.
func (h *house) publish(yaml string, more map[string]string) *oci.Artifact {
	h.t.Helper()
	a, err := h.store.Pack(h.t.Context(), h.files(yaml, more))
	must(h.t, err)
	h.record(a.Manifest.Name, a.Digest, a.Manifest.JSON())
	return a
}

func (h *house) record(name, digest string, manifest json.RawMessage) {
	h.t.Helper()
	_, _, err := h.registry.PublishTemplate(h.t.Context(), registry.System, name, "1", registry.Publication{Digest: digest, Manifest: manifest, DeployTag: "tag-7"})
	must(h.t, err)
}

// up asks for a clone of a template.
func (h *house) up(template string, params map[string]string) registry.ID {
	h.t.Helper()
	c, err := h.registry.Create(h.t.Context(), registry.System, registry.CreateRequest{Template: template, Owner: "ada", Params: params, Aliases: nil})
	must(h.t, err)
	return c.ID
}

// down asks for a clone's end and waits for it.
func (h *house) down(id registry.ID) {
	h.t.Helper()
	_, err := h.registry.Unregister(h.t.Context(), registry.System, id, "")
	must(h.t, err)
	h.await(id, registry.Gone)
}

func (h *house) clone(id registry.ID) *registry.Clone {
	h.t.Helper()
	c, ok := h.registry.View().Clone(id)
	if !ok {
		h.t.Fatalf("clone %s is not known", id)
	}
	return c
}

// await waits until the clone is in a state, and fails early if it cannot
// come to be any more.
func (h *house) await(id registry.ID, want registry.State) *registry.Clone {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 15*time.Second)
	defer cancel()
	for {
		revision := h.registry.View().Revision()
		c := h.clone(id)
		if c.State == want {
			return c
		}
		if c.State == registry.Failed || c.State == registry.Gone {
			if want != registry.Gone {
				h.t.Fatalf("clone %s is %s (%s), want %s", id, c.State, c.Reason, want)
			}
		}
		if _, err := h.registry.View().Changes(ctx, revision); err != nil {
			h.t.Fatalf("clone %s is still %s (%s), want %s", id, c.State, c.Reason, want)
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 15 s", what)
		}
	}
}

// get asks a host of a clone.
func (h *house) get(id registry.ID, host, path string) string {
	h.t.Helper()
	addr := h.clone(id).Hosts[registry.Host(host)]
	if len(addr) == 0 {
		h.t.Fatalf("clone %s has no host %s", id, host)
	}
	resp, err := http.Get("http://" + addr[0].String() + ":8080" + path)
	must(h.t, err)
	return body(h.t, resp)
}

func (h *house) post(id registry.ID, host, row string) {
	h.t.Helper()
	resp, err := http.PostForm("http://"+h.clone(id).Hosts[registry.Host(host)][0].String()+":8080/rows", url.Values{"row": {row}})
	must(h.t, err)
	body(h.t, resp)
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", resp.Request.URL, resp.Status, data)
	}
	return string(data)
}

// noted returns what hosts noted, in order.
func (h *house) noted() []string {
	data, _ := os.ReadFile(h.events)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// before checks that one note comes before another.
func (h *house) before(first, second string) {
	h.t.Helper()
	notes := h.noted()
	i, j := slices.Index(notes, first), slices.Index(notes, second)
	if i < 0 || j < 0 || i > j {
		h.t.Errorf("want %q before %q in\n%s", first, second, strings.Join(notes, "\n"))
	}
}

// running returns the processes of a clone of this house, host by host.
func (h *house) running(id registry.ID) map[string]int {
	h.t.Helper()
	return carriers(h.t, filepath.Join(h.dir, "clones", string(id), "files"))
}

// carriers returns host → process ID for each process whose environment says
// that it belongs to the clone with these files.
func carriers(t *testing.T, files string) map[string]int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	pids := map[string]int{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(data, []byte("CLONEGATE_DIR="+files+"\x00")) {
			continue
		}
		var pid int
		fmt.Sscanf(name, "/proc/%d/", &pid)
		host := ""
		for v := range bytes.SplitSeq(data, []byte{0}) {
			if value, ok := bytes.CutPrefix(v, []byte("CLONEGATE_HOST=")); ok {
				host = string(value)
			}
		}
		if _, twice := pids[host]; twice {
			host += fmt.Sprintf(" (%d)", pid)
		}
		pids[host] = pid
	}
	return pids
}

// nothingRuns checks that no process of a clone is left.
func (h *house) nothingRuns(id registry.ID) {
	h.t.Helper()
	if left := h.running(id); len(left) > 0 {
		h.t.Errorf("processes of clone %s are left: %v", id, left)
	}
}

// kill ends one process by SIGKILL.
func kill(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	must(t, err)
	must(t, p.Kill())
}
