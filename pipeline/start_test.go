package pipeline_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/registry"
)

func TestStartsThatFail(t *testing.T) {
	const host = "\nhosts:\n  db: {address: 30, run: [HOST], ready: {tcp: 8080}, env: {EVENTS}}\n  web: "
	for _, tt := range []struct {
		name, yaml string
		want       []string
	}{
		{
			"host exits", host + "{address: 10, run: [HOST, exit=3], needs: [db], ready: {tcp: 8080}, env: {EVENTS}}",
			[]string{"host web ended with exit status 3 before it was ready; its last output: I cannot go on: xxxxxxxxxxxxxxxxxxxx"},
		},
		{
			"host is killed", host + "{address: 10, run: [sh, -c, kill -9 $$], needs: [db], ready: {tcp: 8080}}",
			[]string{"host web was killed by signal 9 (killed) before it was ready"},
		},
		{
			"host does not listen", host + "{address: 10, run: [sleep, 1000], ready: {tcp: 8080, timeout: 1}}",
			[]string{"host web was not ready within 1s; last seen: dial tcp 127.", ":8080: connect: connection refused"},
		},
		{
			"host is sick", host + "{address: 10, run: [HOST, sick], ready: {http: 8080/healthz, timeout: 1}, env: {EVENTS}}",
			[]string{"host web was not ready within 1s; last seen: GET http://127.", "503 Service Unavailable", "the database is away", "its last output: web serves"},
		},
		{
			"host dies while others start", host + "{address: 10, run: [sh, -c, 'sleep 0.2; exit 7']}\n  slow: {address: 11, run: [HOST, ready=10s], ready: {tcp: 8080}}",
			[]string{"host web ended with exit status 7 while others were starting"},
		},
		{
			"program is not there", host + "{address: 10, run: [no-such-program]}",
			[]string{"start web: exec: \"no-such-program\": executable file not found in $PATH"},
		},
		{
			"startup fails", host + "{address: 10, run: [HOST]}\nstartup: [sh, -c, 'echo no curl here; exit 5']",
			[]string{"the startup command ended with exit status 5 before the clone was registered as ready; its last output: no curl here"},
		},
		{
			"startup does nothing", host + "{address: 10, run: [HOST]}\nstartup: ['true']",
			[]string{"the startup command ended with exit status 0 before the clone was registered as ready"},
		},
		{
			"startup takes too long", host + "{address: 10, run: [HOST]}\nstartup: [sh, -c, 'echo waiting; sleep 1000']",
			[]string{"the startup command did not register the clone as ready within 1s; its last output: waiting"},
		},
		{
			"host dies during startup", host + "{address: 10, run: [sh, -c, 'sleep 0.3; exit 4']}\nstartup: [sleep, 1000]",
			[]string{"host web ended with exit status 4"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := build(t, func(cfg *pipeline.Config) { cfg.RegisterTimeout = time.Second })
			h.publish("name: one"+tt.yaml, nil)
			id := h.up("one", nil)
			c := h.await(id, registry.Failed)
			for _, want := range tt.want {
				if !strings.Contains(c.Reason, want) {
					t.Errorf("reason %q, want %q", c.Reason, want)
				}
			}
			h.nothingRuns(id)
			if tokens := h.registry.View().Tokens(); len(tokens) > 0 {
				t.Errorf("tokens are left: %+v", tokens)
			}
			h.down(id)
		})
	}
}

func TestContentThatCannotBeUsed(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(h *house)
		want string
	}{
		{"damaged", func(h *house) {
			h.publish(one, nil)
			blobs, err := filepath.Glob(filepath.Join(h.dir, "templates/blobs/sha256/*"))
			must(t, err)
			for _, name := range blobs {
				data, err := os.ReadFile(name)
				must(t, err)
				if bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}) { // zstd
					data[len(data)/2] ^= 1
					must(t, os.Remove(name))
					must(t, os.WriteFile(name, data, 0o444))
				}
			}
		}, "one@1: template content sha256:"},
		{"missing", func(h *house) {
			a := h.publish(one, nil)
			must(t, os.RemoveAll(filepath.Join(h.dir, "templates/blobs/sha256", strings.TrimPrefix(a.Digest, "sha256:"))))
		}, "template one@1: template content sha256:"},
		{"another template's", func(h *house) {
			a, err := h.store.Pack(h.t.Context(), h.files(strings.Replace(one, "one", "other", 1), nil))
			must(h.t, err)
			h.record("one", a.Digest, bytes.Replace(a.Manifest.JSON(), []byte("other"), []byte("one"), 1))
		}, "template one@1: what was published under this name is a template other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := build(t, nil)
			tt.make(h)
			id := h.up("one", nil)
			if c := h.await(id, registry.Failed); !strings.Contains(c.Reason, tt.want) {
				t.Errorf("reason %q, want %q", c.Reason, tt.want)
			}
			if _, err := os.Stat(filepath.Join(h.dir, "clones", string(id), "files")); err == nil {
				t.Error("something was unpacked")
			}
			h.down(id)
		})
	}
}

func TestEndedInTheMiddleOfItsStart(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.publish(strings.Replace(one, "[HOST]", "[HOST, ready=20s]", 1), nil)
	id := h.up("one", nil)
	eventually(t, "its process", func() bool { return len(h.running(id)) == 1 })
	began := time.Now()
	h.down(id)
	h.nothingRuns(id)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestStartsAreBounded(t *testing.T) {
	t.Parallel()
	h := build(t, func(cfg *pipeline.Config) { cfg.Starts = 2 })
	h.publish(strings.Replace(one, "[HOST]", "[HOST, ready=150ms]", 1), nil)
	var ids []registry.ID
	for range 6 {
		ids = append(ids, h.up("one", nil))
	}
	ended := h.up("one", nil) // is not wanted any more before its turn comes
	h.down(ended)
	for _, id := range ids {
		h.await(id, registry.Ready)
	}
	starting, most := 0, 0
	for _, note := range h.noted() {
		switch {
		case strings.HasSuffix(note, "begin"):
			starting++
		case strings.HasSuffix(note, "listen"):
			starting--
		}
		most = max(most, starting)
	}
	if most != 2 {
		t.Errorf("%d clones were starting at once, want 2", most)
	}
}

func TestStartupRegisters(t *testing.T) {
	h := build(t, nil)
	h.publish(one+"startup: [sh, startup.sh]\n", map[string]string{"startup.sh": registerOnce + "sleep 1000\n"})
	id := h.up("one", nil)
	c := h.await(id, registry.Ready)
	if c.Services["www"] == nil || c.Owner != "ada" || c.Template != "one@1" {
		t.Errorf("registered as %+v", c)
	}
	private := filepath.Join(h.dir, "clones", string(id), "private")
	for _, name := range []string{"token", "registration.json"} {
		info, err := os.Stat(filepath.Join(private, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info.Mode(), err)
		}
	}
	secret, err := os.ReadFile(filepath.Join(private, "token"))
	must(t, err)
	token, err := h.registry.Authenticate(string(secret))
	must(t, err)
	if token.Name != "clone "+string(id) || token.Role != registry.RoleClone || !token.Covers(id) || token.Covers("999") {
		t.Errorf("token %+v, want one for clone %s alone", token, id)
	}
	pids := h.running(id)
	if _, ok := pids["startup"]; !ok || pids["web"] == 0 {
		t.Errorf("running: %v, want web and startup", pids)
	}
	for name, pid := range pids {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		env, envErr := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err := errors.Join(err, envErr); err != nil {
			if name == "web" {
				t.Fatal(err)
			}
			continue // the startup command's curl has done its work
		}
		if bytes.Contains(cmdline, secret) || bytes.Contains(env, secret) {
			t.Errorf("%s shows the token's secret to everybody", name)
		}
		if name == "web" && bytes.Contains(env, []byte("CLONEGATE_TOKEN_FILE")) {
			t.Error("hosts are told where the token is")
		}
	}
	h.down(id)
	h.nothingRuns(id)
	if _, err := h.registry.Authenticate(string(secret)); !errors.Is(err, registry.ErrNoToken) {
		t.Errorf("the token lives on: %v", err)
	}
}

func TestParametersAreCheckedEarly(t *testing.T) {
	h := build(t, nil)
	h.publish(shop, nil)
	_, err := h.registry.Create(t.Context(), registry.System, registry.CreateRequest{Template: "shop", Params: map[string]string{"greting": "x"}})
	if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `did you mean "greeting"?`) {
		t.Errorf("got %v, want the nearest parameter named", err)
	}
	if n := h.registry.View().Len(); n != 0 {
		t.Errorf("%d clones, want none", n)
	}
}
