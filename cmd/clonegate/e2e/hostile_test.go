package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/clonegate/clonegate/registry"
)

// TestHostileRequests sends what nobody should send. Every answer names the
// fault, and what was registered before stays as it was.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start()
	backend := startBackend(t, says("hello"))
	g.register("1234", serving("6f1c", backend))
	before := g.must("--json", "show", "1234")
	octets64 := strings.Repeat("a", 64)
	service := func(name string) string {
		return fmt.Sprintf(`{"instance":"x","services":{%q:{"endpoints":["127.0.4.10:8080"]}}}`, name)
	}
	at := func(endpoint string) string {
		return fmt.Sprintf(`{"instance":"x","services":{"www":{"endpoints":[%q]}}}`, endpoint)
	}
	const typeJSON = "application/json"
	for _, row := range []struct {
		name, method, path, kind, body string
		status                         int
		code                           string
		want                           []string
	}{
		{"a service of 64 octets", "PUT", "/v1/clones/7", typeJSON, service(octets64), 422, "invalid", []string{"is 64 octets long; a DNS label holds at most 63"}},
		{"a service too long with its ID", "PUT", "/v1/clones/7777777777", typeJSON, service(octets64[:60]), 422, "invalid", []string{"63"}},
		{"an alias of 64 octets", "PUT", "/v1/clones/7", typeJSON, fmt.Sprintf(`{"instance":"x","aliases":[%q]}`, octets64), 422, "invalid", []string{"body.aliases[0]", "64 octets"}},
		{"an ID in capitals", "PUT", "/v1/clones/ABC", typeJSON, at("127.0.4.10:80"), 422, "invalid", []string{"path.id", "character 'A' is not allowed; use a-z and 0-9"}},
		{"an ID with a hyphen", "PUT", "/v1/clones/pr-87", typeJSON, at("127.0.4.10:80"), 422, "invalid", []string{"path.id", "character '-'"}},
		{"an ID of 21 octets", "PUT", "/v1/clones/" + octets64[:21], typeJSON, at("127.0.4.10:80"), 422, "invalid", []string{"1 to 20 characters, got 21"}},
		{"an ID in other digits", "PUT", "/v1/clones/%EF%BC%91", typeJSON, at("127.0.4.10:80"), 422, "invalid", []string{"path.id"}},
		{"10 MiB of JSON", "PUT", "/v1/clones/7", typeJSON, `{"instance":"` + strings.Repeat("x", 10<<20) + `"}`, 413, "too-large", []string{"the body is larger than"}},
		{"JSON that is cut off", "PUT", "/v1/clones/7", typeJSON, at("127.0.4.10:80")[:40], 400, "bad-json", nil},
		{"no JSON", "PUT", "/v1/clones/7", typeJSON, "instance: x", 400, "bad-json", nil},
		{"a form", "PUT", "/v1/clones/7", "application/x-www-form-urlencoded", "instance=x", 415, "content-type", []string{"send JSON with the header Content-Type: application/json"}},
		{"no content type", "PUT", "/v1/clones/7", "", at("127.0.4.10:80"), 415, "content-type", nil},
		{"a service twice", "PUT", "/v1/clones/7", typeJSON, `{"instance":"x","services":{"www":{"endpoints":["127.0.4.10:80"]},"www":{"endpoints":["127.0.4.11:80"]}}}`, 422, "invalid", []string{"body.services", "twice"}},
		{"a misspelt key", "PUT", "/v1/clones/7", typeJSON, `{"instance":"x","servces":{}}`, 422, "invalid", []string{"servces", `"services"`}},
		{"an unknown template", "PUT", "/v1/clones/7", typeJSON, `{"instance":"x","template":"shop@0"}`, 422, "invalid", []string{"body.template", `"shop@0" is not a published version`}},
		{"a clone of an unknown template", "POST", "/v1/clones", typeJSON, `{"template":"shop@nope","provider":"process"}`, 422, "invalid", []string{"body.template", `template "shop@nope" is not found`}},
		{"the cloud's credentials", "PUT", "/v1/clones/7", typeJSON, at("169.254.169.254:80"), 422, "invalid", []string{"endpoint-link-local"}},
		{"the same, as a number", "PUT", "/v1/clones/7", typeJSON, at("2852039166:80"), 422, "invalid", []string{"endpoint-spelling"}},
		{"the same, in disguise", "PUT", "/v1/clones/7", typeJSON, at("[::ffff:169.254.169.254]:80"), 422, "invalid", []string{"endpoint-spelling"}},
		{"the gateway itself", "PUT", "/v1/clones/7", typeJSON, at(g.at.Gateway.Listen), 422, "invalid", []string{"endpoint-own-listener"}},
		{"the API itself", "PUT", "/v1/clones/7", typeJSON, at(g.at.API.Listen), 422, "invalid", []string{"endpoint-own-listener"}},
		{"a public address", "PUT", "/v1/clones/7", typeJSON, at("8.8.8.8:80"), 422, "invalid", []string{"endpoint-network", "endpoints.allow"}},
		{"another instance of a living ID", "PUT", "/v1/clones/1234", typeJSON, at("127.0.4.10:80"), 409, "held", []string{"1234"}},
		{"another's alias", "PUT", "/v1/clones/7", typeJSON, `{"instance":"x","aliases":["www-1234"]}`, 409, "label-taken", []string{"1234"}},
		{"an instance of before", "POST", "/v1/clones/1234/renew", typeJSON, `{"instance":"older"}`, 412, "fenced", nil},
		{"a path that is none", "GET", "/v1/clone/1234", "", "", 404, "no-route", []string{"/openapi.json"}},
	} {
		status, body := g.send(row.method, row.path, row.kind, row.body)
		var problem struct{ Code, Detail string }
		if err := json.Unmarshal([]byte(body), &problem); err != nil || status != row.status || problem.Code != row.code || len(problem.Detail) < 20 {
			t.Errorf("%s: %d %s\nwant %d of code %s with a detail", row.name, status, body, row.status, row.code)
		}
		has(t, row.name, strings.ReplaceAll(body, `\"`, `"`), row.want...)
	}
	// A body that ends before its length says so, on a connection of its own.
	token, err := os.ReadFile(filepath.Join(g.data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", g.at.API.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /v1/clones/7 HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"instance\":\"x\"}",
		g.at.API.Listen, bytes.TrimSpace(token))
	conn.(*net.TCPConn).CloseWrite()
	answer := new(bytes.Buffer)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer.ReadFrom(conn)
	has(t, "answer to a truncated body", answer.String(), "HTTP/1.1 400 ", `"code":"truncated"`, "the body ended after 16 bytes")

	if after := g.must("--json", "show", "1234"); withoutLease(t, after) != withoutLease(t, before) {
		t.Errorf("clone 1234 was\n%s\nand is now\n%s", before, after)
	}
	if _, stderr, status := g.cli("show", "7"); status != 3 {
		t.Errorf("clone 7 exists: %d %s", status, stderr)
	}
	g.get(g.visitor(), g.url("www-1234", "/")).is(t, "clone 1234", 200, "hello")
}

// withoutLease drops the only thing of a clone that passes by itself.
func withoutLease(t *testing.T, text string) string {
	t.Helper()
	var clone map[string]any
	if err := json.Unmarshal([]byte(text), &clone); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	delete(clone, "lease")
	out, _ := json.Marshal(clone)
	return string(out)
}

// send calls the API as the administrator does.
func (g *gateway) send(method, path, kind, body string) (status int, answer string) {
	g.t.Helper()
	token, err := os.ReadFile(filepath.Join(g.data, "admin.token"))
	if err != nil {
		g.t.Fatal(err)
	}
	headers := []string{"Authorization", "Bearer " + strings.TrimSpace(string(token))}
	if kind != "" {
		headers = append(headers, "Content-Type", kind)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	a, err := ask(ctx, http.DefaultClient, method, g.at.API.URL+path, body, headers...)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a.status, a.body
}

// TestHostileStart starts daemons that must not run, with words that help.
func TestHostileStart(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start()
	g.register("1234", serving("6f1c", "127.0.4.10:8080"))

	refused := func(name string, status int, want ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			_, stderr, got := cli(t, "serve", "--config", g.config)
			if got != status {
				t.Errorf("exit status %d, want %d", got, status)
			}
			has(t, "standard error", stderr, want...)
			if strings.Contains(stderr, "goroutine ") {
				t.Errorf("a stack trace:\n%s", stderr)
			}
		})
	}
	refused("two daemons", 1, "data directory "+g.data+" is in use by process "+fmt.Sprint(g.pid()), "--data")

	config, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "data")
	use := func(edit func(string) string) {
		t.Helper()
		text := edit(strings.ReplaceAll(string(config), g.data, other))
		if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	use(func(s string) string {
		return strings.ReplaceAll(s, `listen: "127.0.0.1:0", redirect`, `listen: "`+g.at.Gateway.Listen+`", redirect`)
	})
	refused("a busy port", 1, "gateway.listen", g.at.Gateway.Listen, "is taken by another program", "ss -lntup")
	use(func(s string) string { return s + "gatway: {listen: \":1\"}\n" })
	refused("a misspelt key", 2, g.config+":", "gatway", "gateway")
	use(func(s string) string { return strings.Replace(s, "redirect:", "redirct:", 1) })
	refused("a misspelt key inside", 2, "redirct", "redirect")
	use(func(s string) string { return s + "dns: [1, 2\n" })
	refused("broken YAML", 2, g.config+":")
	use(func(s string) string { return s + "zone: two.example.com\n" })
	refused("a key twice", 2, "zone")
	use(func(s string) string { return strings.Replace(s, "zone: "+zone, "zone: bad zone", 1) })
	refused("a bad zone", 2, "zone", "bad zone")
	if left, _ := filepath.Glob(filepath.Join(other, "[^c]*")); len(left) > 0 { // clonegate.lock may be there
		t.Errorf("a daemon that may not run has made %v", left)
	}

	g.kill()
	if err := os.WriteFile(g.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.data, "registry.db")
	execSQL(t, file, "INSERT INTO registry_schema (version_id, is_applied) VALUES (99, 1)")
	before := digest(t, file)
	refused("a newer data directory", 1, file, "schema version 99", "run the newer clonegate")
	if digest(t, file) != before {
		t.Error("the newer registry was changed")
	}
	execSQL(t, file, "DELETE FROM registry_schema WHERE version_id = 99")
	g.start()
	if _, err := g.api.Clone(t.Context(), "1234"); err != nil {
		t.Errorf("the clone of before: %v", err)
	}
}

// execSQL changes a registry as another program could.
func execSQL(t *testing.T, file, query string) {
	t.Helper()
	db, err := sql.Open("sqlite3", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

func digest(t *testing.T, file string) [32]byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(text)
}

// TestHostileTemplates publishes what is no template, and breaks one that was.
func TestHostileTemplates(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start()
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "template.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const good = `name: tiny
hosts:
  web: {address: 10, run: [sleep, "3600"]}
services:
  www: {hosts: [web], port: 8080}
`
	for name, row := range map[string]struct {
		text string
		want []string
	}{
		"broken YAML":      {"name: tiny\nhosts: [\n", []string{"template.yaml:"}},
		"a misspelt key":   {good + "servces: {}\n", []string{"template.yaml:6:1", "servces", "services"}},
		"an unknown host":  {strings.Replace(good, "[web]", "[wbe]", 1), []string{"template.yaml:5:", "wbe", "web"}},
		"a service twice":  {good + "  www: {hosts: [web], port: 8081}\n", []string{"template.yaml:6:", "www"}},
		"64 octets":        {strings.Replace(good, "www", strings.Repeat("w", 64), 1), []string{"template.yaml:5:", "64 octets"}},
		"an address twice": {strings.Replace(good, "services:", "  db: {address: 10, run: [sleep, \"1\"]}\nservices:", 1), []string{"template.yaml:3:18", "10 is the address of host db"}},
	} {
		write(row.text)
		_, stderr, status := g.cli("template", "publish", dir, "--version", "1")
		if status == 0 {
			t.Errorf("%s was published", name)
		}
		has(t, name, stderr, row.want...)
	}
	write(good)
	g.must("template", "publish", dir, "--version", "1")
	_, stderr, status := g.cli("up", "tiny@2", "--timeout", "10s")
	if status != 3 {
		t.Errorf("up of an unknown version: exit status %d, want 3", status)
	}
	has(t, "up of an unknown version", stderr, "tiny@2")

	blobs, err := filepath.Glob(filepath.Join(g.data, "templates/blobs/sha256/*"))
	if err != nil || len(blobs) < 3 {
		t.Fatalf("the template is kept as %v, %v", blobs, err)
	}
	for _, blob := range blobs {
		flipByte(t, blob)
		_, stderr, status = g.cli("up", "tiny@1", "--timeout", "20s")
		if status != 1 {
			t.Errorf("up of a damaged template: exit status %d, want 1", status)
		}
		has(t, "up of a damaged template", stderr, blob+" is damaged", "publish the same directory again to repair it")
		noClones(t, g.data, time.Second)
		g.must("template", "publish", dir, "--version", "1")
	}
	g.must("up", "tiny@1", "--alias", "good")
	g.must("down", "good")
	noClones(t, g.data, time.Second)
}

// flipByte changes one octet in the middle of a file.
func flipByte(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTokens uses a token for one clone on another.
func TestTokens(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start()
	g.register("8", serving("b", "127.0.4.10:8080"))
	file := filepath.Join(t.TempDir(), "clone.token")
	g.must("token", "create", "seven", "--role", "clone", "--ids", "7", "--out", file)
	seven := g.client(file)
	if _, _, err := seven.Register(t.Context(), "7", serving("a", "127.0.4.10:8080"), false); err != nil {
		t.Errorf("register 7 with its token: %v", err)
	}
	for name, err := range map[string]error{
		"register": errorOf(seven.Register(t.Context(), "8", serving("b", "127.0.4.11:8080"), false)),
		"end":      errorOf(seven.Unregister(t.Context(), "8", "b")),
	} {
		if err == nil || !strings.Contains(err.Error(), "8") {
			t.Errorf("%s 8 with the token of 7: %v", name, err)
		}
	}
	if _, err := seven.Renew(t.Context(), "8", "b"); err == nil {
		t.Error("8 was renewed with the token of 7")
	}
	c, err := g.api.Clone(t.Context(), "8")
	if err != nil || c.State != registry.Ready || c.Services["www"].Endpoints[0].String() != "127.0.4.10:8080" {
		t.Errorf("clone 8 is %+v, %v", c, err)
	}
}

func errorOf[A, B any](_ A, _ B, err error) error { return err }
