package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry/api"
)

// TestContract registers, renews and removes a clone as startup scripts have
// been promised they can: with curl and nothing else.
func TestContract(t *testing.T) {
	need(t, map[string]string{"curl": "curl"})
	t.Parallel()
	g := newGateway(t)
	g.start()
	g.must("template", "publish", shopTemplate(t), "--version", "2026.11.21-1")
	const registration = `{"instance":"6f1c","template":"shop@2026.11.21-1","owner":"ada","aliases":["pr-87"],"services":{"www":{"endpoints":["127.0.4.10:8080"],"default":true,"health":{"path":"/healthz"}},"api":{"endpoints":["127.0.4.20:8080","127.0.4.21:8080"]}},"hosts":{"db":["10.80.0.30"]}}`
	call := func(status, method, path, body string) string {
		t.Helper()
		args := []string{"--silent", "--show-error", "--write-out", "\n%{http_code}", "--request", method, "--header", "@" + g.header()}
		if body != "" {
			args = append(args, "--header", "Content-Type: application/json", "--data", body)
		}
		out := output(t, "curl", append(args, g.at.API.URL+path)...)
		last := strings.LastIndexByte(out, '\n')
		answer, got := out[:last], out[last+1:]
		if got != status {
			t.Errorf("%s %s: %s, want %s: %s", method, path, got, status, answer)
		}
		return answer
	}
	var grant api.Grant
	if err := json.Unmarshal([]byte(call("201", "PUT", "/v1/clones/1234", registration)), &grant); err != nil {
		t.Fatal(err)
	}
	if grant.ID != "1234" || grant.Incarnation != 1 || grant.Lease.TTL != 120 || grant.Lease.RenewEvery != 20 ||
		grant.URLs["www"] != g.url("www-1234", "") || grant.URLs["api"] != g.url("api-1234", "") {
		t.Errorf("grant %+v", grant)
	}
	call("200", "PUT", "/v1/clones/1234", registration)
	call("200", "POST", "/v1/clones/1234/renew", `{"instance":"6f1c"}`)
	has(t, "a second instance", call("409", "PUT", "/v1/clones/1234", strings.Replace(registration, "6f1c", "other", 1)), `"code":"held"`, " ago")
	has(t, "a second clone with its name", call("409", "PUT", "/v1/clones/7", registration), `"code":"label-taken"`, "1234")
	call("412", "POST", "/v1/clones/1234/renew", `{"instance":"older"}`)
	call("412", "DELETE", "/v1/clones/1234?instance=older", "")
	call("200", "DELETE", "/v1/clones/1234?instance=6f1c", "")
	call("410", "POST", "/v1/clones/1234/renew", `{"instance":"6f1c"}`)
	if err := json.Unmarshal([]byte(call("201", "PUT", "/v1/clones/1234", strings.Replace(registration, "6f1c", "next", 1))), &grant); err != nil || grant.Incarnation != 2 {
		t.Errorf("the next life is %+v, %v", grant, err)
	}
	call("412", "POST", "/v1/clones/1234/renew", `{"instance":"6f1c"}`)
}

// header returns a file with the header that authenticates the administrator.
func (g *gateway) header() string {
	g.t.Helper()
	token, err := os.ReadFile(filepath.Join(g.data, "admin.token"))
	if err != nil {
		g.t.Fatal(err)
	}
	name := filepath.Join(g.t.TempDir(), "header")
	if err := os.WriteFile(name, append([]byte("Authorization: Bearer "), token...), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return name
}
