package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

func TestTemplates(t *testing.T) {
	d := start(t, nil)
	publish := func(name, version, digit string) answer {
		return d.do(publisher, "PUT", "/v1/templates/"+name+"/versions/"+version,
			`{"digest":"`+digest(digit)+`","deploy_tag":"d1","manifest":{"hosts":{"db":{}}},"inputs":{"src":"abc"}}`)
	}
	var first registry.Template
	publish("shop", "1", "a").into(t, 201, &first)
	if first.Digest != digest("a") || first.DeployTag != "d1" || first.State != registry.Built || first.By != "publisher-token" {
		t.Errorf("published %+v", first)
	}
	publish("shop", "1", "a").into(t, 200, new(registry.Template))
	if p := publish("shop", "1", "b").problem(t); p.Status != 409 || p.Code != "exists" || !strings.Contains(p.Detail, "immutable") {
		t.Errorf("other content under one version: %+v", p)
	}
	publish("shop", "2", "b").into(t, 201, new(registry.Template))
	publish("blog", "1", "c").into(t, 201, new(registry.Template))

	var ch registry.Channel
	for _, version := range []string{"1", "2"} {
		d.do(publisher, "PUT", "/v1/templates/shop/channels/stable", `{"version":"`+version+`","why":"tested"}`).into(t, 200, &ch)
	}
	if ch.Version != "2" || len(ch.History) != 2 || ch.History[0].Why != "tested" {
		t.Errorf("promoted: %+v", ch)
	}
	var version registry.Template
	d.do(viewer, "GET", "/v1/templates/shop/versions/1", "").into(t, 200, &version)
	if string(version.Manifest) != `{"hosts":{"db":{}}}` {
		t.Errorf("manifest %s", version.Manifest)
	}
	d.do(publisher, "POST", "/v1/templates/shop/versions/2/revoke", `{"why":"leaks"}`).into(t, 200, &version)
	if version.State != registry.Revoked || version.Reason != "leaks" {
		t.Errorf("revoked: %+v", version)
	}
	var detail api.TemplateDetail
	d.do(viewer, "GET", "/v1/templates/shop", "").into(t, 200, &detail)
	if len(detail.Versions) != 2 || detail.Versions[0].Version != "2" || detail.Versions[0].Manifest != nil {
		t.Errorf("versions %+v, want 2 and 1 without manifests", detail.Versions)
	}
	for _, ch := range detail.Channels {
		if ch.Name == "stable" && (ch.Version != "1" || len(ch.History) != 3) {
			t.Errorf("stable is %s with history %v, want 1: 2 was revoked", ch.Version, ch.History)
		}
	}
	for _, tt := range []struct {
		role               registry.Role
		method, path, body string
		status             int
		says               string
	}{
		{viewer, "GET", "/v1/templates/shpo", "", 404, `did you mean \"shop\"`},
		{viewer, "GET", "/v1/templates/shop/versions/9", "", 404, "newest versions are 1, 2"},
		{viewer, "GET", "/v1/templates/Shop", "", 422, "path.name"},
		{viewer, "GET", "/v1/templates/shop/versions/stable", "", 422, "name of a channel"},
		{publisher, "PUT", "/v1/templates/shop/channels/stable", `{"version":"2"}`, 422, "template-revoked"},
		{publisher, "PUT", "/v1/templates/shop/channels/stable", `{"version":"9"}`, 404, "newest versions"},
		{publisher, "PUT", "/v1/templates/shop/channels/latest", `{"version":"1"}`, 422, "path.channel"},
		{publisher, "PUT", "/v1/templates/shop/versions/3", `{"digest":"md5:x"}`, 422, "body.digest"},
		{publisher, "POST", "/v1/templates/shop/versions/1/revoke", `{}`, 422, "why"},
	} {
		a := d.do(tt.role, tt.method, tt.path, tt.body)
		if a.status != tt.status || !strings.Contains(a.body, tt.says) {
			t.Errorf("%s %s: status %d, want %d; body %s, want %q in it", tt.method, tt.path, a.status, tt.status, a.body, tt.says)
		}
	}
}

func TestListTemplates(t *testing.T) {
	d := start(t, nil)
	for i := range 6 {
		for v := range 2 {
			if _, _, err := d.registry.PublishTemplate(t.Context(), registry.System, fmt.Sprint("t", i), fmt.Sprint("v", v), registry.Publication{Digest: digest("a")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, limit := range []int{1, 4, 6, 100} {
		var names []string
		cursor := ""
		for {
			var page api.TemplateList
			d.do(viewer, "GET", fmt.Sprintf("/v1/templates?limit=%d&cursor=%s", limit, cursor), "").into(t, 200, &page)
			for _, s := range page.Templates {
				if s.Versions != 2 || s.Newest != "v1" || s.Channels["candidate"] != "v1" {
					t.Errorf("summary %+v", s)
				}
				names = append(names, s.Name)
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if got := strings.Join(names, " "); got != "t0 t1 t2 t3 t4 t5" {
			t.Errorf("by %d: %s", limit, got)
		}
	}
}
