package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestHealth(t *testing.T) {
	var fault, waiting atomic.Pointer[error]
	pem := []byte("-----BEGIN CERTIFICATE-----\n")
	d := start(t, func(store *registrytest.Store, _ *registry.Config, cfg *api.Config) {
		store.Fail = func(string) error {
			if err := fault.Load(); err != nil {
				return *err
			}
			return nil
		}
		cfg.Ready = func() error {
			if err := waiting.Load(); err != nil {
				return *err
			}
			return nil
		}
		cfg.CARoot = func() []byte { return pem }
	})
	for _, path := range []string{"/healthz", "/readyz"} {
		var s api.DaemonStatus
		d.do("", "GET", path, "").into(t, 200, &s)
		if s != (api.DaemonStatus{Status: "ok", Version: "1.2.3"}) {
			t.Errorf("%s: %+v", path, s)
		}
	}
	if a := d.do("", "GET", "/ca.pem", ""); a.status != 200 || a.body != string(pem) || a.header.Get("Content-Type") != "application/x-pem-file" {
		t.Errorf("/ca.pem: %d %q %q", a.status, a.header.Get("Content-Type"), a.body)
	}
	starting := errors.New("certificates are being made")
	waiting.Store(&starting)
	a := d.do("", "GET", "/readyz", "")
	if p := a.problem(t); p.Status != 503 || p.Code != "not-ready" || p.Detail != starting.Error() {
		t.Errorf("not ready: %+v", p)
	}

	for _, tt := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{fmt.Errorf("%w: disk I/O error in /var/lib/secret.db", registry.ErrUnavailable), 503, "unavailable", "5"},
		{fmt.Errorf("%w: /var/lib/secret.db", registry.ErrFull), 507, "full", "30"},
	} {
		fault.Store(&tt.err)
		a := d.do(clone, "PUT", "/v1/clones/1234", contract)
		if p := a.problem(t); p.Status != tt.status || p.Code != tt.code || a.header.Get("Retry-After") != tt.retry {
			t.Errorf("store fails with %v: %+v, Retry-After %q", tt.err, p, a.header.Get("Retry-After"))
		}
		if strings.Contains(a.body, "secret.db") {
			t.Errorf("the answer tells of the disk: %s", a.body)
		}
		a = d.do("", "GET", "/healthz", "")
		if p := a.problem(t); p.Status != 503 || p.Code != "degraded" || a.header.Get("Retry-After") == "" {
			t.Errorf("health while the store fails: %+v", p)
		}
		d.do(viewer, "GET", "/v1/clones", "").into(t, 200, new(api.CloneList))
	}
	fault.Store(nil)
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, new(api.Grant))
	d.do("", "GET", "/healthz", "").into(t, 200, new(api.DaemonStatus))
	d.stop()
	if !strings.Contains(d.log.String(), "secret.db") {
		t.Error("the log does not say what failed")
	}
}

func TestWithoutCA(t *testing.T) {
	d := start(t, nil)
	if p := d.do("", "GET", "/ca.pem", "").problem(t); p.Status != 404 || p.Code != "no-ca" {
		t.Errorf("got %+v, want 404 no-ca", p)
	}
}

// Every request has one line in the log, with who and what, and no secret.
func TestAccessLog(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", contract)
	d.do(clone, "POST", "/v1/clones/1234/renew", `{"instance":"6f1c"}`)
	d.do(viewer, "GET", "/v1/clones?q=query-secret", "")
	d.do(viewer, "PUT", "/v1/clones/1234", contract)
	d.do("", "GET", "/v1/clones", "")
	d.do(admin, "POST", "/v1/tokens", `{"name":"x","role":"viewer"}`)
	d.stop()

	type line struct {
		Level, Msg, Operation, Token, From, Method, Path string
		Status                                           int
		Dur                                              int64
	}
	var got []string
	for text := range strings.Lines(d.log.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if l.Msg != "request" {
			continue
		}
		if l.From != "127.0.0.1" || l.Dur <= 0 || (l.Token == "") != (l.Status == 401) {
			t.Errorf("line %s", text)
		}
		got = append(got, fmt.Sprint(l.Level, " ", l.Operation, " ", l.Status, " ", l.Method, " ", l.Path))
	}
	want := []string{
		"INFO register-clone 201 PUT /v1/clones/1234",
		"DEBUG renew-clone 200 POST /v1/clones/1234/renew",
		"DEBUG list-clones 200 GET /v1/clones",
		"INFO register-clone 403 PUT /v1/clones/1234",
		"INFO none 401 GET /v1/clones",
		"INFO create-token 201 POST /v1/tokens",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, secret := range d.secrets {
		if strings.Contains(d.log.String(), secret[len("cgt_aaaaaaaa_"):]) {
			t.Error("the log holds a token's secret")
		}
	}
	for _, hidden := range []string{"query-secret", "6f1c", "Bearer", "cgt_"} {
		if strings.Contains(d.log.String(), hidden) {
			t.Errorf("the log holds %q", hidden)
		}
	}
}

func TestMetrics(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", contract)
	for i := range 20 {
		d.do(viewer, "GET", fmt.Sprint("/v1/clones/", i), "")
		d.do(viewer, "GET", fmt.Sprint("/nothing/", i), "")
	}
	a := d.do(viewer, "GET", "/metrics", "")
	for _, want := range []string{
		`clonegate_api_requests_total{operation="register-clone",status="2xx"} 1`,
		`clonegate_api_requests_total{operation="get-clone",status="4xx"} 20`,
		`clonegate_api_requests_total{operation="none",status="4xx"} 20`,
		`clonegate_api_request_seconds_count{operation="register-clone"} 1`,
		`clonegate_api_streams 0`,
	} {
		if !strings.Contains(a.body, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if n := strings.Count(a.body, "clonegate_api_requests_total{"); n > 5 {
		t.Errorf("%d series for a handful of operations", n)
	}
}
