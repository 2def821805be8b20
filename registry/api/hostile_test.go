package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry/api"
)

// Bodies that are not what they should be end in a clear answer, and what was
// registered before is untouched.
func TestHostileBodies(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, new(api.Grant))
	before := d.do(viewer, "GET", "/v1/clones/1234", "")

	tests := []struct {
		name, body string
		status     int
		code       string
		location   string
		says       string
	}{
		{"nothing", "", 400, "bad-request", "", "body is required"},
		{"truncated", contract[:len(contract)/2], 400, "bad-json", "", "at byte"},
		{"trailing garbage", contract + "x", 400, "bad-json", "", "at byte"},
		{"two documents", contract + contract, 400, "bad-json", "", "at byte"},
		{"YAML", "instance: 6f1c", 400, "bad-json", "", "at byte 1"},
		{"a form", "instance=6f1c", 400, "bad-json", "", "at byte 1"},
		{"comments", `{/*x*/"instance":"6f1c"}`, 400, "bad-json", "", "at byte"},
		{"UTF-16", "\xff\xfe{\x00}\x00", 400, "bad-json", "", "UTF-8"},
		{"a byte order mark", "\ufeff{}", 400, "bad-json", "", "at byte"},
		{"broken UTF-8", "{\"instance\":\"\xc3\x28\"}", 400, "bad-json", "", "UTF-8"},
		{"a list", `[]`, 422, "invalid", "body", "object"},
		{"null", `null`, 422, "invalid", "body", "object"},
		{"a string", `"x"`, 422, "invalid", "body", "object"},
		{"an unknown key", `{"instance":"6f1c","owwner":"eve"}`, 422, "invalid", "body.owwner", `did you mean "owner"?`},
		{"a key of no likeness", `{"instance":"6f1c","zzzzzzzz":1}`, 422, "invalid", "body.zzzzzzzz", "known are aliases, forward"},
		{"a key in capitals", `{"Instance":"6f1c"}`, 422, "invalid", "body.Instance", `did you mean "instance"?`},
		{"an unknown key further in", `{"instance":"6f1c","services":{"www":{"endpoints":[],"helth":{}}}}`, 422, "invalid", "body.services.www.helth", `did you mean "health"?`},
		{"an unknown key in a list", `{"instance":"6f1c","records":[{"name":"a","type":"A","ttl":1,"data":"x"},{"nome":"b"}]}`, 422, "invalid", "body.records[1].nome", `did you mean "name"?`},
		{"a key twice", `{"instance":"6f1c","instance":"7"}`, 422, "invalid", "body.instance", "stands twice"},
		{"a service twice", `{"instance":"6f1c","services":{"www":{"endpoints":[]},"www":{"endpoints":["10.0.0.1:1"]}}}`, 422, "invalid", "body.services.www", "stands twice"},
		{"a service twice, one escaped", `{"instance":"6f1c","services":{"www":{},"\u0077ww":{}}}`, 422, "invalid", "body.services.www", "stands twice"},
		{"depth", `{"instance":"6f1c","services":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100) + `}`, 422, "invalid", "body.services.a", "not known"},
		{"great depth", strings.Repeat(`[`, 500_000), 400, "bad-json", "", "JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := d.request(clone, "PUT", "/v1/clones/1234", tt.body)
			r.Header.Set("Content-Type", "application/json")
			p := d.send(r).problem(t)
			if p.Status != tt.status || p.Code != tt.code || !strings.Contains(p.Detail, tt.says) {
				t.Errorf("got %d %s %q, want %d %s with %q", p.Status, p.Code, p.Detail, tt.status, tt.code, tt.says)
			}
			if tt.location != "" && (len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Location, tt.location)) {
				t.Errorf("errors %+v, want the first at %s", p.Errors, tt.location)
			}
		})
	}
	if after := d.do(viewer, "GET", "/v1/clones/1234", ""); stripLease(after.body) != stripLease(before.body) {
		t.Errorf("the clone has changed:\n%s\n%s", before.body, after.body)
	}
	// A template's manifest is free in its keys, but not in its depth.
	deep := `{"digest":"` + digest("a") + `","manifest":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 101)
	if p := d.do(publisher, "PUT", "/v1/templates/shop/versions/1", deep).problem(t); p.Status != 422 || p.Errors[0].Rule != "depth" {
		t.Errorf("a deep manifest: %d %+v", p.Status, p.Errors)
	}
	twice := `{"digest":"` + digest("a") + `","manifest":{"hosts":{"db":1,"db":2}}}`
	if p := d.do(publisher, "PUT", "/v1/templates/shop/versions/1", twice).problem(t); p.Status != 422 || p.Errors[0].Location != "body.manifest.hosts.db" {
		t.Errorf("a key twice in a manifest: %d %+v", p.Status, p.Errors)
	}
}

func stripLease(body string) string {
	before, after, _ := strings.Cut(body, `"lease":{`)
	_, after, _ = strings.Cut(after, "}")
	return before + after
}

func TestContentTypes(t *testing.T) {
	d := start(t, nil)
	for ct, status := range map[string]int{
		"application/json":                  201,
		"application/json; charset=utf-8":   200,
		"APPLICATION/JSON":                  200,
		"":                                  415,
		"text/plain":                        415,
		"application/x-www-form-urlencoded": 415,
		"application/json, text/plain":      415,
		"application/problem+json":          415,
		"multipart/form-data; boundary=x":   415,
	} {
		r := d.request(clone, "PUT", "/v1/clones/1234", contract)
		r.Header.Set("Content-Type", ct)
		a := d.send(r)
		if a.status != status && (status != 200 || a.status != 201) && (status != 201 || a.status != 200) {
			t.Errorf("Content-Type %q: status %d, want %d", ct, a.status, status)
		}
		if status == 415 && a.problem(t).Code != "content-type" {
			t.Errorf("Content-Type %q: body %s", ct, a.body)
		}
	}
	if p := d.do(viewer, "GET", "/v1/clones", `{"x":1}`).problem(t); p.Status != 400 || p.Code != "body-unexpected" {
		t.Errorf("a body where none belongs: %+v", p)
	}
}

// 10 MiB are refused without being kept, whether their length is told or not,
// and the daemon goes on.
func TestHugeBodies(t *testing.T) {
	d := start(t, nil)
	huge := func() io.Reader {
		return io.MultiReader(strings.NewReader(`{"instance":"x","owner":"`), strings.NewReader(strings.Repeat("a", 10<<20)), strings.NewReader(`"}`))
	}
	for _, told := range []bool{true, false} {
		r, err := http.NewRequestWithContext(t.Context(), "PUT", d.url+"/v1/clones/1234", huge())
		if err != nil {
			t.Fatal(err)
		}
		if told {
			r.ContentLength = 10<<20 + 27
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+d.secrets[clone])
		if p := d.send(r).problem(t); p.Status != 413 || p.Code != "too-large" || !strings.Contains(p.Detail, "1048576 bytes") {
			t.Errorf("10 MiB, length told %v: %+v", told, p)
		}
	}
	just := `{"instance":"x","owner":"` + strings.Repeat("a", 1<<20-100) + `"}`
	if p := d.do(clone, "PUT", "/v1/clones/1234", just).problem(t); p.Status != 422 || p.Errors[0].Location != "body.owner" {
		t.Errorf("just under 1 MiB: %d %+v, want a fault at body.owner", p.Status, p.Errors)
	}
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, new(api.Grant))
}

// raw sends bytes over a connection of their own and returns the answer's head.
func (d *daemon) raw(send string, halfClose bool) (string, error) {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.WriteString(conn, send); err != nil {
		return "", err
	}
	if halfClose {
		conn.(*net.TCPConn).CloseWrite()
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.Status + "\n" + string(body), err
}

func TestBodyThatEndsEarly(t *testing.T) {
	d := start(t, nil)
	head := fmt.Sprintf("PUT /v1/clones/1234 HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n", d.addr, d.secrets[clone])
	for name, send := range map[string]string{
		"counted": head + "Content-Length: 500\r\n\r\n" + contract[:100],
		"chunked": head + "Transfer-Encoding: chunked\r\n\r\n20\r\n" + contract[:20],
		"no size": head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + contract[:20],
	} {
		got, err := d.raw(send, true)
		if err != nil || !strings.HasPrefix(got, "400 ") || !strings.Contains(got, `"code":"truncated"`) {
			t.Errorf("%s: %q, %v; want a 400 of code truncated", name, got, err)
		}
	}
	if _, ok := d.registry.View().Clone("1234"); ok {
		t.Error("a body that ended early registered a clone")
	}
}

func TestHugeHead(t *testing.T) {
	d := start(t, nil)
	got, err := d.raw("GET /healthz HTTP/1.1\r\nHost: "+d.addr+"\r\nX: "+strings.Repeat("x", 100<<10)+"\r\n\r\n", false)
	if err == nil && !strings.HasPrefix(got, "431 ") {
		t.Errorf("a head of 100 KiB: %q, want 431", got)
	}
}
