package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

func TestTokens(t *testing.T) {
	d := start(t, nil)
	a := d.do(admin, "POST", "/v1/tokens", `{"name":"ci","role":"clone","ids":["1","2000-2999"],"ttl":3600}`)
	var made api.NewToken
	a.into(t, 201, &made)
	if !strings.HasPrefix(made.Secret, "cgt_"+made.ID+"_") || made.Expires.IsZero() || strings.Join(made.IDs, " ") != "1 2000-2999" {
		t.Errorf("made %+v", made)
	}
	if strings.Contains(a.body, "hash") {
		t.Errorf("the answer holds a hash: %s", a.body)
	}
	d.secrets["made"] = made.Secret
	var who api.Who
	d.do("made", "GET", "/v1/whoami", "").into(t, 200, &who)
	if who.ID != made.ID || who.Name != "ci" || who.Role != registry.RoleClone || who.From != "127.0.0.1" {
		t.Errorf("whoami: %+v", who)
	}
	var names []string
	cursor := ""
	for {
		var page api.TokenList
		a := d.do(admin, "GET", "/v1/tokens?limit=2&cursor="+cursor, "")
		a.into(t, 200, &page)
		if strings.Contains(a.body, "hash") || strings.Contains(a.body, "secret") {
			t.Errorf("the list holds a secret: %s", a.body)
		}
		for _, token := range page.Tokens {
			names = append(names, token.Name)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(names) != len(registry.Roles)+1 {
		t.Errorf("listed %v", names)
	}
	if a := d.do(admin, "DELETE", "/v1/tokens/"+made.ID, ""); a.status != 204 || a.body != "" {
		t.Errorf("revoked: status %d, body %q", a.status, a.body)
	}
	if a := d.do("made", "GET", "/v1/whoami", ""); a.status != 401 {
		t.Errorf("a revoked token: status %d, want 401", a.status)
	}
	if a := d.do(admin, "DELETE", "/v1/tokens/"+made.ID, ""); a.status != 404 {
		t.Errorf("revoked twice: status %d, want 404", a.status)
	}
	for _, body := range []string{`{"name":"x","role":"king"}`, `{"name":"","role":"viewer"}`, `{"name":"x","role":"clone"}`, `{"name":"x","role":"viewer","ids":["1"]}`, `{"name":"x","role":"clone","ids":["2-1"]}`} {
		if p := d.do(admin, "POST", "/v1/tokens", body).problem(t); p.Status != 422 {
			t.Errorf("%s: status %d, want 422", body, p.Status)
		}
	}
}

// Every operation of the description is called with every role's token: the
// table below says who gets past the gate.
func TestRoles(t *testing.T) {
	d := start(t, nil)
	everybody := "viewer clone engineer publisher admin"
	table := map[string]string{
		"register-clone": "clone admin", "renew-clone": "clone admin", "end-clone": "clone engineer admin",
		"create-clone": "engineer admin", "list-clones": everybody, "get-clone": everybody,
		"add-fault": "engineer admin", "list-faults": everybody, "remove-fault": "engineer admin", "remove-faults": "engineer admin",
		"list-templates": everybody, "get-template": everybody, "get-version": everybody,
		"publish-version": "publisher admin", "revoke-version": "publisher admin", "promote-version": "publisher admin",
		"create-token": "admin", "list-tokens": "admin", "revoke-token": "admin", "whoami": everybody,
		"list-events": everybody, "watch": everybody, "get-metrics": everybody,
		"get-health": "- " + everybody, "get-readiness": "- " + everybody, "get-openapi": "- " + everybody, "get-ca": "- " + everybody,
	}
	var doc struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	d.do("", "GET", "/openapi.json", "").into(t, 200, &doc)
	seen := 0
	for path, ops := range doc.Paths {
		for method, op := range ops {
			allowed, known := table[op.OperationID]
			if !known {
				t.Errorf("%s is not in the table", op.OperationID)
			}
			seen++
			path := strings.NewReplacer("{id}", "1234", "{name}", "shop", "{version}", "1", "{channel}", "stable", "{fault}", "7").Replace(path)
			for _, role := range append([]registry.Role{""}, registry.Roles...) {
				a := d.gate(role, strings.ToUpper(method), path)
				past := a.status != 401 && !strings.Contains(a.body, op.OperationID+" needs a token of role")
				name := string(role)
				if role == "" {
					name = "-"
				}
				if want := strings.Contains(" "+allowed+" ", " "+name+" "); past != want {
					t.Errorf("%s %s as %q: status %d, got past the gate: %v, want %v", method, path, role, a.status, past, want)
				}
			}
		}
	}
	if seen != len(table) {
		t.Errorf("%d operations, %d in the table", seen, len(table))
	}
}

// gate makes a request that is refused for its content if the role gets past
// the gate, and reads no stream.
func (d *daemon) gate(role registry.Role, method, path string) answer {
	d.t.Helper()
	if path == "/v1/watch" {
		path += "?limit=1"
	}
	body := ""
	if method == http.MethodPut || method == http.MethodPost {
		body = `{"no such key":1}`
	}
	return d.do(role, method, path, body)
}

func TestWithoutToken(t *testing.T) {
	d := start(t, nil)
	for _, path := range []string{"/", "/v1/clones", "/v1/nothing", "/metrics", "/healthz/x", "/docs", "/schemas/Clone.json", "/openapi.yaml", "/v1/../healthz"} {
		p := d.do("", "GET", path, "").problem(t)
		if p.Status != 401 || p.Code != "no-token" || !strings.Contains(p.Detail, "clonegate token create") {
			t.Errorf("GET %s: %+v", path, p)
		}
	}
	good := d.secrets[admin]
	for _, given := range [][]string{
		{""},
		{"Bearer"},
		{"Bearer "},
		{"Basic " + good},
		{good},
		{"Bearer " + good + "x"},
		{"Bearer " + good[:len(good)-1]},
		{"Bearer cgt_"},
		{"Bearer cgt_aaaaaaaa_x"},
		{"Bearer " + good, "Bearer " + good},
		{"Bearer " + strings.ToLower(good)},
	} {
		r := d.request("", "GET", "/v1/clones", "")
		r.Header["Authorization"] = given
		a := d.send(r)
		if a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer realm="clonegate"` {
			t.Errorf("Authorization %q: status %d, WWW-Authenticate %q", given, a.status, a.header.Get("WWW-Authenticate"))
		}
		if strings.Contains(a.body, good) {
			t.Errorf("the answer shows the secret: %s", a.body)
		}
	}
	r := d.request("", "GET", "/v1/clones", "")
	r.Header.Set("Authorization", "bearer "+good)
	if a := d.send(r); a.status != 200 {
		t.Errorf("scheme in lower case: status %d", a.status)
	}
}

func TestUnknownRoutes(t *testing.T) {
	d := start(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		code, says   string
	}{
		{"GET", "/v1/nothing", 404, "no-route", "/openapi.json"},
		{"GET", "/", 404, "no-route", "/openapi.json"},
		{"PATCH", "/v1/clones/1234", 405, "method", "DELETE, GET, HEAD, PUT"},
		{"DELETE", "/v1/clones", 405, "method", "GET, HEAD, POST"},
		{"POST", "/healthz", 405, "method", "GET, HEAD"},
	} {
		a := d.do(admin, tt.method, tt.path, "")
		if p := a.problem(t); p.Status != tt.status || p.Code != tt.code || !strings.Contains(p.Detail, tt.says) {
			t.Errorf("%s %s: %+v", tt.method, tt.path, p)
		}
		if tt.status == 405 && a.header.Get("Allow") != tt.says {
			t.Errorf("%s %s: Allow %q, want %q", tt.method, tt.path, a.header.Get("Allow"), tt.says)
		}
	}
	if a := d.do(admin, "HEAD", "/v1/clones", ""); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: status %d, body %q", a.status, fmt.Sprint(a.body))
	}
}
