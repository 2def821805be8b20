package api_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestStartupScriptContract(t *testing.T) {
	d := start(t, nil)
	var g api.Grant
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, &g)
	want := api.Grant{
		ID: "1234", Incarnation: 1, Revision: g.Revision, State: registry.Ready,
		URLs:  map[string]string{"www": "https://www-1234." + zone, "api": "https://api-1234." + zone},
		Lease: api.GrantedLease{TTL: 120, RenewEvery: 20},
	}
	if fmt.Sprint(g) != fmt.Sprint(want) || g.Revision == 0 {
		t.Errorf("registered: got %+v, want %+v", g, want)
	}
	var again api.Grant
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 200, &again)
	if again.Revision != g.Revision || again.Incarnation != 1 {
		t.Errorf("repeated: got %+v, want what the first answer said", again)
	}
	var renewed api.Grant
	d.do(clone, "POST", "/v1/clones/1234/renew", `{"instance":"6f1c"}`).into(t, 200, &renewed)
	if !maps.Equal(renewed.URLs, g.URLs) || renewed.Lease != g.Lease {
		t.Errorf("renewed: got %+v, want %+v", renewed, g)
	}
	var c api.Clone
	d.do(clone, "DELETE", "/v1/clones/1234?instance=6f1c", "").into(t, 200, &c)
	if c.State != registry.Gone || c.EndedBy != "clone-token" {
		t.Errorf("ended: state %s by %q, want gone by clone-token", c.State, c.EndedBy)
	}
}

// Each refusal has its own status and code, and says who stands in the way.
func TestRefusals(t *testing.T) {
	d := start(t, nil)
	if _, secret, err := d.registry.CreateToken(t.Context(), registry.System, registry.TokenRequest{
		Name: "takes over", Role: registry.RoleClone, IDs: []string{"1234"}, Takeover: true,
	}); err != nil {
		t.Fatal(err)
	} else {
		d.secrets["taker"] = secret
	}
	with := func(instance, alias string) string {
		s := strings.Replace(contract, "6f1c", instance, 1)
		return strings.Replace(s, "pr-87", alias, 1)
	}
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, new(api.Grant))
	steps := []struct {
		name, method, path, body string
		role                     registry.Role
		status                   int
		code                     string
		says                     string
	}{
		{"another instance", "PUT", "/v1/clones/1234", with("other", "pr-87"), clone, 409, "held", "last heard of"},
		{"takeover without the right", "PUT", "/v1/clones/1234?takeover=true", with("other", "pr-87"), clone, 403, "forbidden", "takeover"},
		{"a label of another clone", "PUT", "/v1/clones/1235", with("x", "pr-87"), clone, 409, "label-taken", "clone 1234 of ada"},
		{"an ID outside the token", "PUT", "/v1/clones/2000", contract, clone, 403, "forbidden", "not for 2000"},
		{"renewal of an unknown clone", "POST", "/v1/clones/1236/renew", `{"instance":"x"}`, clone, 404, "not-found", "register it with PUT"},
		{"renewal by a stranger", "POST", "/v1/clones/1234/renew", `{"instance":"x"}`, clone, 412, "fenced", "incarnation 1"},
		{"end by a stranger", "DELETE", "/v1/clones/1234?instance=x", "", clone, 412, "fenced", "incarnation 1"},
		{"end of whichever life, by a clone", "DELETE", "/v1/clones/1234", "", clone, 403, "forbidden", "engineer"},
		{"end of another's clone", "DELETE", "/v1/clones/1234", "", engineer, 403, "forbidden", "belongs to ada"},
		{"takeover", "PUT", "/v1/clones/1234?takeover=true", with("other", "pr-87"), "taker", 201, "", ""},
		{"late renewal of the life before", "POST", "/v1/clones/1234/renew", `{"instance":"6f1c"}`, clone, 412, "fenced", "incarnation 2"},
		{"late registration of the life before", "PUT", "/v1/clones/1234", contract, clone, 412, "fenced", "took its place"},
		{"end", "DELETE", "/v1/clones/1234?instance=other", "", clone, 200, "", ""},
		{"renewal after the end", "POST", "/v1/clones/1234/renew", `{"instance":"other"}`, clone, 410, "ended", "this life has ended: it is gone, ended by"},
		{"an unknown clone", "GET", "/v1/clones/9", "", viewer, 404, "not-found", "clone 9"},
		{"a template nobody published", "POST", "/v1/clones", `{"template":"shop@stable"}`, engineer, 422, "invalid", "no template has been published"},
	}
	for _, s := range steps {
		a := d.do(s.role, s.method, s.path, s.body)
		if a.status != s.status {
			t.Errorf("%s: status %d, want %d; body %s", s.name, a.status, s.status, a.body)
			continue
		}
		if s.code == "" {
			continue
		}
		if p := a.problem(t); p.Code != s.code || !strings.Contains(p.Detail, s.says) {
			t.Errorf("%s: code %q, detail %q; want %q and %q", s.name, p.Code, p.Detail, s.code, s.says)
		}
	}
}

// Faults of a registration carry the place and the rule.
func TestFaultsAreLocated(t *testing.T) {
	d := start(t, nil)
	tests := []struct{ name, body, location, rule string }{
		{"metadata service", `{"instance":"x","services":{"www":{"endpoints":["10.0.0.1:80","169.254.169.254:80"]}}}`, "body.services.www.endpoints[1]", "endpoint-link-local"},
		{"outside the networks", `{"instance":"x","services":{"www":{"endpoints":["8.8.8.8:80"]}}}`, "body.services.www.endpoints[0]", "endpoint-network"},
		{"64 octets", `{"instance":"x","services":{"` + strings.Repeat("a", 64) + `":{"endpoints":[]}}}`, "body.services." + strings.Repeat("a", 64), "label"},
		{"name and ID too long together", `{"instance":"x","services":{"` + strings.Repeat("a", 60) + `":{"endpoints":[]}}}`, "body.services", "label-length"},
		{"no instance", `{"services":{}}`, "body", "required"},
		{"wrong type", `{"instance":7}`, "body.instance", "value"},
		{"too large a number", `{"instance":"x","lease":{"ttl":99999999999}}`, "body.lease.ttl", "value"},
		{"a whole number in another spelling", `{"instance":"x","lease":{"ttl":1e1}}`, "body.lease.ttl", "value"},
		{"a protocol of no kind", `{"instance":"x","services":{"www":{"endpoints":[],"protocol":"gopher"}}}`, "body.services.www.protocol", "value"},
		{"an unpublished version", `{"instance":"x","template":"shop@7"}`, "body.template", "template-unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := d.do(clone, "PUT", "/v1/clones/1234", tt.body).problem(t)
			if p.Status != 422 || len(p.Errors) != 1 || p.Errors[0].Location != tt.location || p.Errors[0].Rule != tt.rule {
				t.Errorf("got %d %+v, want one fault at %s of rule %s", p.Status, p.Errors, tt.location, tt.rule)
			}
			if strings.Contains(p.Detail, "Go ") {
				t.Errorf("detail %q speaks of Go", p.Detail)
			}
		})
	}
	for _, id := range []string{"PR87", "pr-87", strings.Repeat("1", 21), "+1234", "%31%2F2", "１２３４"} {
		p := d.do(clone, "PUT", "/v1/clones/"+id, contract).problem(t)
		if p.Status != 422 || p.Errors[0].Location != "path.id" || p.Errors[0].Rule != "id" {
			t.Errorf("ID %q: got %d %+v, want a fault at path.id", id, p.Status, p.Errors)
		}
	}
}

func TestRecordsHaveATTLByThemselves(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", `{"instance":"x","records":[{"name":"a","type":"A","data":"10.0.0.1"}]}`).into(t, 201, new(api.Grant))
	var c api.Clone
	d.do(viewer, "GET", "/v1/clones/1234", "").into(t, 200, &c)
	if got := c.Records[0].TTL; got != 5 {
		t.Errorf("a record without a ttl has %d, want 5", got)
	}
}

func TestCallersOwnAddress(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", `{"instance":"x","services":{"www":{"endpoints":[":8080"]}}}`).into(t, 201, new(api.Grant))
	var c api.Clone
	d.do(viewer, "GET", "/v1/clones/1234", "").into(t, 200, &c)
	if got := c.Services["www"].Endpoints[0].String(); got != "127.0.0.1:8080" {
		t.Errorf("endpoint %s, want 127.0.0.1:8080", got)
	}
}

// What fences a clone's messages is shown to nobody.
func TestInstancesStayHidden(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", strings.Replace(contract, "6f1c", "first-secret", 1)).into(t, 201, new(api.Grant))
	d.do(admin, "PUT", "/v1/clones/1234?takeover=true", strings.Replace(contract, "6f1c", "second-secret", 1)).into(t, 201, new(api.Grant))
	for _, path := range []string{"/v1/clones/1234", "/v1/clones", "/v1/events"} {
		a := d.do(admin, "GET", path, "")
		if a.status != 200 || strings.Contains(a.body, "-secret") || strings.Contains(a.body, "past") {
			t.Errorf("GET %s: status %d, body %s", path, a.status, a.body)
		}
	}
}

func TestGetCloneShowsItsLease(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, new(api.Grant))
	var c api.Clone
	d.do(viewer, "GET", "/v1/clones/1234", "").into(t, 200, &c)
	if c.Lease == nil || c.Lease.TTL != 120 || c.Lease.Left < 119 || !c.Lease.Confirmed || c.Lease.Renewed.IsZero() {
		t.Errorf("lease %+v, want 120 s, nearly all of it left, confirmed", c.Lease)
	}
	if c.URLs["www"] != "https://www-1234."+zone {
		t.Errorf("urls %v", c.URLs)
	}
}

func TestCreateClone(t *testing.T) {
	d := start(t, nil)
	d.do(publisher, "PUT", "/v1/templates/shop/versions/1", `{"digest":"`+digest("a")+`"}`).into(t, 201, new(registry.Template))
	a := d.do(engineer, "POST", "/v1/clones", `{"template":"shop","aliases":["mine"],"params":{"greeting":"Hello"}}`)
	var c api.Clone
	a.into(t, 201, &c)
	if c.ID != "1000" || c.Owner != "engineer-token" || c.State != registry.Registered || a.header.Get("Location") != "/v1/clones/1000" {
		t.Errorf("created %+v at %q", c, a.header.Get("Location"))
	}
	d.do(engineer, "DELETE", "/v1/clones/1000", "").into(t, 202, &c)
	if c.State != registry.Stopping || c.Desired != registry.WantGone {
		t.Errorf("ended: %s, wanted %s; want stopping until its provider has stopped it", c.State, c.Desired)
	}
}

func TestListClones(t *testing.T) {
	d := start(t, func(_ *registrytest.Store, kept *registry.Config, _ *api.Config) { kept.FirstID = 5000 })
	for i := range 25 {
		id := registry.ID(fmt.Sprint(1000 + i))
		reg := registry.Registration{Instance: "x", Owner: []string{"ada", "bob"}[i%2], Labels: map[string]string{"team": fmt.Sprint("t", i%5), "even": fmt.Sprint(i%2 == 0)}}
		if i == 3 {
			reg.Aliases = []string{"pr-87"}
		}
		if i < 5 {
			reg.State = registry.Starting
		}
		if _, err := d.registry.Register(t.Context(), registry.System, id, reg, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.registry.Unregister(t.Context(), registry.System, "1024", "x"); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		query       string
		want        int
		first, last registry.ID
	}{
		{"", 24, "1000", "1023"},
		{"all=true", 25, "1000", "1024"},
		{"state=gone", 1, "1024", "1024"},
		{"state=starting&state=gone", 6, "1000", "1024"},
		{"owner=bob", 12, "1001", "1023"},
		{"label=team%3Dt1&label=even%3Dtrue", 2, "1006", "1016"},
		{"q=PR-8", 1, "1003", "1003"},
		{"q=102", 4, "1020", "1023"},
		{"template=shop", 0, "", ""},
	}
	for _, tt := range tests {
		for _, limit := range []int{1000, 7, 1} {
			var got []registry.ID
			cursor := ""
			for {
				var page api.CloneList
				d.do(viewer, "GET", fmt.Sprintf("/v1/clones?%s&limit=%d&cursor=%s", tt.query, limit, cursor), "").into(t, 200, &page)
				for _, c := range page.Clones {
					got = append(got, c.ID)
				}
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			if len(got) != tt.want || !slices.IsSorted(got) || len(got) > 0 && (got[0] != tt.first || got[len(got)-1] != tt.last) {
				t.Errorf("%q by %d: got %v, want %d from %s to %s", tt.query, limit, got, tt.want, tt.first, tt.last)
			}
		}
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "label=team", "sort=id", "statee=ready"} {
		if p := d.do(viewer, "GET", "/v1/clones?"+query, "").problem(t); p.Status != 422 || len(p.Errors) != 1 {
			t.Errorf("%q: got %d %+v, want one fault", query, p.Status, p.Errors)
		}
	}
	if p := d.do(viewer, "GET", "/v1/clones?statee=ready", "").problem(t); !strings.Contains(p.Detail, `did you mean "state"`) {
		t.Errorf("detail %q does not name the nearest parameter", p.Detail)
	}
}
