package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// TestFaultsOverHTTP adds, shows and removes faults of a clone.
func TestFaultsOverHTTP(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, new(api.Grant)) // of ada
	var slow, broken registry.Fault
	d.do(admin, "POST", "/v1/clones/1234/faults", `{"kind":"latency","delay_ms":200,"jitter_ms":50,"percent":30,"service":"api"}`).into(t, 201, &slow)
	if slow.ID == 0 || slow.By != "admin-token" || slow.Until.Sub(slow.Created).Seconds() != 600 {
		t.Errorf("added: %+v; want a number, its author and ten minutes", slow)
	}
	d.do(admin, "POST", "/v1/clones/1234/faults", `{"kind":"dns-servfail","name":"db","for":60}`).into(t, 201, &broken)

	var c api.Clone
	d.do(viewer, "GET", "/v1/clones/1234", "").into(t, 200, &c)
	var list api.FaultList
	d.do(viewer, "GET", "/v1/clones/1234/faults", "").into(t, 200, &list)
	for what, faults := range map[string][]*registry.Fault{"the clone": c.Faults, "the list": list.Faults} {
		if len(faults) != 2 || faults[0].String() != slow.String() || faults[1].String() != broken.String() {
			t.Errorf("%s has %v; want %v and %v", what, faults, &slow, &broken)
		}
	}
	one := fmt.Sprintf("/v1/clones/1234/faults/%d", slow.ID)
	d.do(admin, "DELETE", one, "").into(t, 200, &list)
	if len(list.Faults) != 1 || list.Faults[0].ID != slow.ID {
		t.Errorf("removed: %v, want %d", list.Faults, slow.ID)
	}
	d.do(admin, "DELETE", "/v1/clones/1234/faults", "").into(t, 200, &list)
	if len(list.Faults) != 1 || list.Faults[0].ID != broken.ID {
		t.Errorf("removed the rest: %v, want %d", list.Faults, broken.ID)
	}
	if a := d.do(viewer, "GET", "/v1/clones/1234/faults", ""); !strings.Contains(string(a.body), `"faults":[]`) {
		t.Errorf("none left: %s", a.body)
	}
	for _, row := range []struct {
		role               registry.Role
		method, path, body string
		status             int
		code               string
	}{
		{engineer, "POST", "/v1/clones/1234/faults", `{"kind":"reset"}`, 403, "forbidden"},
		{viewer, "POST", "/v1/clones/1234/faults", `{"kind":"reset"}`, 403, "forbidden"},
		{clone, "DELETE", one, "", 403, "forbidden"},
		{admin, "DELETE", one, "", 404, "not-found"},
		{admin, "DELETE", "/v1/clones/1234/faults/first", "", 422, "invalid"},
		{admin, "POST", "/v1/clones/99/faults", `{"kind":"reset"}`, 404, "not-found"},
		{viewer, "GET", "/v1/clones/99/faults", "", 404, "not-found"},
		{admin, "POST", "/v1/clones/1234/faults", `{"kind":"melt"}`, 422, "invalid"},
		{admin, "POST", "/v1/clones/1234/faults", `{"kind":"abort","status":200}`, 422, "invalid"},
		{admin, "POST", "/v1/clones/1234/faults", `{"kind":"reset","until":"tomorrow"}`, 422, "invalid"},
	} {
		if p := d.do(row.role, row.method, row.path, row.body).problem(t); p.Status != row.status || p.Code != row.code {
			t.Errorf("%s %s %s %s: %d %s, want %d %s", row.role, row.method, row.path, row.body, p.Status, p.Code, row.status, row.code)
		}
	}
}
