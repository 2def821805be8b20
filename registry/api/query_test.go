package api_test

import (
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// No life is ended by a query that two readers could read differently, however
// much its token may do.
func TestAmbiguousQueries(t *testing.T) {
	d := start(t, nil)
	d.do(clone, "PUT", "/v1/clones/1234", contract).into(t, 201, new(api.Grant))
	for query, want := range map[string]struct {
		status int
		code   string
	}{
		"instance=":                       {422, "invalid"},
		"instance":                        {422, "invalid"},
		"instance=6f1c&instance=x":        {422, "invalid"},
		"instance=x&instance=6f1c":        {422, "invalid"},
		"instance=%zz":                    {400, "bad-query"},
		"takeover=true;instance=6f1c":     {400, "bad-query"},
		"instanse=6f1c":                   {422, "invalid"},
		"Instance=6f1c":                   {422, "invalid"},
		"instance=6f1c&force=true":        {422, "invalid"},
		"instance=not-the-living-one":     {412, "fenced"},
		"instance=6f1c%00":                {412, "fenced"},
		"instance=6f1c&instance%5B%5D=6f": {422, "invalid"},
	} {
		if p := d.do(admin, "DELETE", "/v1/clones/1234?"+query, "").problem(t); p.Status != want.status || p.Code != want.code {
			t.Errorf("%q: %d %s, want %d %s", query, p.Status, p.Code, want.status, want.code)
		}
	}
	if c, ok := d.registry.View().Clone("1234"); !ok || c.State != registry.Ready {
		t.Errorf("the clone is %+v, want it ready", c)
	}
	d.do(viewer, "GET", "/v1/clones?state=ready&state=gone&cursor=", "").into(t, 200, new(api.CloneList))
}
