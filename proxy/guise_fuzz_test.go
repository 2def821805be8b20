package proxy

import (
	"net/url"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// disguised returns the guise of a clone with the ID 1, asked by its service
// www, in a test.
func disguised(t testing.TB, nested bool) *guise {
	t.Helper()
	zones, err := registry.NewZones("zone.test", "other.test")
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{way: &way{gateway: &Gateway{cfg: Config{Zones: zones}}}}
	x.request.authority = "www-1.zone.test:8443"
	x.target = target{host: "www-1.zone.test", zone: "zone.test", service: "www", base: "1"}
	if nested {
		x.request.authority, x.target.host, x.target.nested = "www.1.zone.test:8443", "www.1.zone.test", true
	}
	x.production = newProduction(&registry.Clone{Production: map[string]string{
		"www.shop.example": "www", "api.shop.example": "api", "*.tenants.example": "www",
	}})
	return &guise{x: x, p: x.production}
}

// FuzzGuise holds that what names production in an answer names the clone
// afterwards, wherever net/url finds a host; that doing so twice changes nothing
// more; and that no octet comes of it that no field may have.
func FuzzGuise(f *testing.F) {
	for _, s := range []string{
		"https://www.shop.example/a", "//api.shop.example", "HTTP://API.shop.example.:80/?q", "https:www.shop.example", `\\www.shop.example\x`,
		"https://u:p@ada.tenants.example#f", "5; url='https://www.shop.example/'", "5;https://www.shop.example", "<https://www.shop.example/>; rel=x, <//b>",
		"default-src *.shop.example api.shop.example:443 'self'; report-uri /x https://www.shop.example/y, img-src wss://www.shop.example",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, nested bool) {
		if strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0 {
			return // no field has it
		}
		g := disguised(t, nested)
		for _, e := range []edit{editURL, editRefresh, editLink, editPolicy} {
			got := string(g.apply(e, nil, []byte(s)))
			if strings.IndexFunc(got, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0 {
				t.Errorf("edit %d: %q became %q", e, s, got)
			}
			if again := string(g.apply(e, nil, []byte(got))); e != editPolicy && again != got {
				t.Errorf("edit %d: %q became %q and then %q", e, s, got, again)
			}
		}
		before, err := url.Parse(s)
		if err != nil || before.Host == "" || before.Scheme != "" && cutURL([]byte(s)).scheme == "" {
			return
		}
		after, err := url.Parse(string(g.url(nil, []byte(s))))
		if err != nil {
			t.Fatalf("%q became what is no URL: %v", s, err)
		}
		name := strings.TrimSuffix(strings.ToLower(after.Hostname()), ".")
		if _, _, left := g.p.find([]byte(name)); left {
			t.Errorf("%q became %q, which leads to production", s, after)
		}
	})
}
