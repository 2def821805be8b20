package client_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/clonegate/clonegate/pipeline"
	pipelineapi "github.com/clonegate/clonegate/pipeline/api"
	"github.com/clonegate/clonegate/pipeline/archive"
	"github.com/clonegate/clonegate/pipeline/client"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	registryclient "github.com/clonegate/clonegate/registry/client"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestMain(m *testing.M) {
	// A server that refuses a body waits half a second for the client to notice.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// output is what clones have written, as a Launcher would show it.
type output struct {
	lines chan string // of clone 1, while it is followed
}

func (o *output) Logs(ctx context.Context, id registry.ID, q pipeline.LogQuery, w io.Writer) error {
	if id != "1" {
		return fmt.Errorf("clone %s: %w", id, registry.ErrNotFound)
	}
	fmt.Fprintf(w, "names %v, tail %d\n", q.Names, q.Tail)
	for q.Follow {
		select {
		case line, more := <-o.lines:
			if !more {
				return nil
			}
			if _, err := io.WriteString(w, line+"\n"); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// A daemon is the API over a registry, with the pipeline's operations.
type daemon struct {
	url     string
	store   *oci.Store
	dir     string // of the store
	output  *output
	secrets map[registry.Role]string
}

func start(t *testing.T, maxUpload int64) *daemon {
	t.Helper()
	d := &daemon{dir: t.TempDir(), output: &output{lines: make(chan string)}, secrets: map[registry.Role]string{}}
	r := registrytest.New(t)
	a, err := api.New(api.Config{Registry: r})
	must(t, err)
	d.store, err = oci.Open(oci.Config{Dir: d.dir})
	must(t, err)
	must(t, pipelineapi.Register(a.Huma(), pipelineapi.Config{Templates: d.store, Output: d.output, MaxUpload: maxUpload}))
	for _, role := range registry.Roles {
		req := registry.TokenRequest{Name: string(role), Role: role}
		if role == registry.RoleClone {
			req.IDs = []string{"1"}
		}
		_, d.secrets[role], err = r.CreateToken(t.Context(), registry.System, req)
		must(t, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	d.url = "http://" + ln.Addr().String()
	server := a.Server()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	t.Cleanup(func() {
		must(t, server.Close())
		<-ended
		http.DefaultClient.CloseIdleConnections()
	})
	return d
}

// A sender is a client.Sender on net/http.
type sender struct{ url, token string }

func (s sender) Send(ctx context.Context, req registryclient.Request, contentType string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, req.Method, s.url+req.Path+"?"+req.Query.Encode(), body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	e := new(registryclient.Error)
	if err := json.NewDecoder(resp.Body).Decode(e); err != nil {
		return nil, err
	}
	e.Status = resp.StatusCode
	return nil, e
}

func (d *daemon) as(role registry.Role) *client.Client {
	return client.New(sender{d.url, d.secrets[role]})
}

func template(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		full := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		must(t, os.WriteFile(full, []byte(content), 0o755))
	}
	return dir
}

var shop = map[string]string{
	"template.yaml": "name: shop\nhosts:\n  web: {address: 10, run: [bin/web]}\ndata: [data]\n",
	"bin/web":       "#!/bin/sh\n", "data/rows": strings.Repeat("row\n", 100_000),
}

func TestUpload(t *testing.T) {
	d := start(t, 0)
	var sent, all int64
	dir := template(t, shop)
	m, content, err := d.as(registry.RolePublisher).Upload(t.Context(), dir, func(s, a int64) { sent, all = s, a })
	must(t, err)
	if m.Name != "shop" || sent != all || sent < 400_000 {
		t.Errorf("template %s, %d of %d bytes sent", m.Name, sent, all)
	}
	packed, err := d.store.Pack(t.Context(), dir)
	must(t, err)
	if content.Digest != packed.Digest || string(content.Manifest) != string(packed.Manifest.JSON()) || content.Size != packed.Size {
		t.Errorf("answered %+v, want what packing on the spot gives: %+v", content, packed)
	}
	must(t, d.store.Verify(t.Context(), content.Digest))
	_, again, err := d.as(registry.RoleAdmin).Upload(t.Context(), dir, nil)
	must(t, err)
	if again.Digest != content.Digest {
		t.Errorf("uploaded again as %s, want %s", again.Digest, content.Digest)
	}
}

func TestUploadRefuses(t *testing.T) {
	d := start(t, 300_000)
	broken := map[string]string{"template.yaml": "name: shop\nhots: {}\n"}
	small := map[string]string{"template.yaml": shop["template.yaml"], "bin/web": "", "data/x": ""}
	for _, tt := range []struct {
		name   string
		role   registry.Role
		files  map[string]string
		status int
		want   string
	}{
		{"viewer", registry.RoleViewer, small, 403, "needs a token of role publisher or admin"},
		{"clone", registry.RoleClone, small, 403, "needs a token of role publisher or admin"},
		{"too large", registry.RolePublisher, shop, 413, "the archive is larger than 300000 bytes"},
		{"broken manifest", registry.RolePublisher, broken, 0, `template.yaml:2:1: unknown key "hots"; did you mean "hosts"?`},
		{"no manifest", registry.RolePublisher, map[string]string{"a": ""}, 0, "no template.yaml at its root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := d.as(tt.role).Upload(t.Context(), template(t, tt.files), nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if e, ok := errors.AsType[*registryclient.Error](err); ok != (tt.status != 0) || ok && e.Status != tt.status {
				t.Errorf("got %v, want status %d", err, tt.status)
			}
		})
	}
	if blobs, _ := filepath.Glob(filepath.Join(d.dir, "blobs/sha256/*")); len(blobs) > 0 {
		t.Errorf("something was stored: %v", blobs)
	}
}

// TestUploadsByHand sends what no client of ours sends.
func TestUploadsByHand(t *testing.T) {
	d := start(t, 300_000)
	var good bytes.Buffer
	small := map[string]string{"template.yaml": shop["template.yaml"], "bin/web": "", "data/x": ""}
	must(t, archive.Write(t.Context(), &good, template(t, small), archive.Limits{}, nil))
	var broken bytes.Buffer
	must(t, archive.Write(t.Context(), &broken, template(t, map[string]string{"template.yaml": "name: shop\nhots: {}\n"}), archive.Limits{}, nil))
	for _, tt := range []struct {
		name, path, contentType string
		body                    []byte
		length                  int64
		status                  int
		want                    string
	}{
		{"good", "shop", "application/x-tar", good.Bytes(), 0, 200, `"digest":"sha256:`},
		{"another name", "store", "application/x-tar", good.Bytes(), 0, 422, "template.yaml calls it shop, not store"},
		{"content type", "shop", "application/json", good.Bytes(), 0, 415, "Content-Type: application/x-tar"},
		{"no content type", "shop", "", good.Bytes(), 0, 415, "Content-Type: application/x-tar"},
		{"no archive", "shop", "application/x-tar", []byte("hello"), 0, 422, "not a tar archive"},
		{"empty", "shop", "application/x-tar", nil, 0, 422, "not a tar archive"},
		{"cut archive", "shop", "application/x-tar", good.Bytes()[:1000], 0, 422, "cut short"},
		{"too large by its header", "shop", "application/x-tar", good.Bytes(), 300_001, 413, "larger than 300000 bytes"},
		{"cut body", "shop", "application/x-tar", good.Bytes()[:1000], int64(good.Len()), 400, "the body ended too early"},
		{"broken manifest", "shop", "application/x-tar", broken.Bytes(), 0, 422, `template.yaml:2:1: unknown key \"hots\"; did you mean \"hosts\"?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
			must(t, err)
			defer conn.Close()
			length := tt.length
			if length == 0 {
				length = int64(len(tt.body))
			}
			fmt.Fprintf(conn, "POST /v1/templates/%s/content HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
				tt.path, conn.RemoteAddr(), d.secrets[registry.RolePublisher], tt.contentType, length, tt.body)
			if tt.name == "cut body" {
				must(t, conn.(*net.TCPConn).CloseWrite())
			}
			must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			must(t, err)
			answer, err := io.ReadAll(resp.Body)
			must(t, err)
			if resp.StatusCode != tt.status || !strings.Contains(string(answer), tt.want) {
				t.Errorf("got %s: %s, want %d and %q", resp.Status, answer, tt.status, tt.want)
			}
		})
	}
}

func TestUploadThatIsCancelled(t *testing.T) {
	d := start(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := d.as(registry.RolePublisher).Upload(ctx, template(t, shop), func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestLogs(t *testing.T) {
	d := start(t, 0)
	var b bytes.Buffer
	must(t, d.as(registry.RoleViewer).Logs(t.Context(), "1", pipeline.LogQuery{Names: []string{"db", "web"}, Tail: -1}, &b))
	if got, want := b.String(), "names [db web], tail -1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, tt := range []struct {
		name   string
		role   registry.Role
		id     registry.ID
		tail   int
		status int
		want   string
	}{
		{"unknown clone", registry.RoleEngineer, "2", 1, 404, "clone 2: not found"},
		{"bad ID", registry.RoleEngineer, "A", 1, 422, "path.id: configuration ID \"A\": character 'A' is not allowed"},
		{"bad tail", registry.RoleEngineer, "1", -2, 422, "tail"},
		{"a startup script", registry.RoleClone, "1", 1, 403, "get-logs needs a token of role"},
	} {
		err := d.as(tt.role).Logs(t.Context(), tt.id, pipeline.LogQuery{Tail: tt.tail}, io.Discard)
		e, ok := errors.AsType[*registryclient.Error](err)
		if !ok || e.Status != tt.status || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %d and %q", tt.name, err, tt.status, tt.want)
		}
	}
}

// A watched writer tells each line that is written.
type watched struct {
	mu    sync.Mutex
	lines chan string
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		w.lines <- line
	}
	return len(p), nil
}

func TestFollow(t *testing.T) {
	d := start(t, 0)
	w := &watched{lines: make(chan string, 10)}
	ended := make(chan error, 1)
	go func() {
		ended <- d.as(registry.RoleEngineer).Logs(t.Context(), "1", pipeline.LogQuery{Tail: 5, Follow: true}, w)
	}()
	want := func(line string) {
		t.Helper()
		select {
		case got := <-w.lines:
			if got != line {
				t.Errorf("got %q, want %q", got, line)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing came, want %q", line)
		}
	}
	want("names [], tail 5\n")
	d.output.lines <- "web | one"
	want("web | one\n")
	d.output.lines <- "web | two"
	want("web | two\n")
	close(d.output.lines)
	must(t, <-ended)
}

func TestFollowEndsWithItsContext(t *testing.T) {
	d := start(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{lines: make(chan string, 10)}
	ended := make(chan error, 1)
	go func() {
		ended <- d.as(registry.RoleEngineer).Logs(ctx, "1", pipeline.LogQuery{Follow: true}, w)
	}()
	<-w.lines
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
