package proxy

import (
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// FuzzSetCookie holds that no cookie leaves its clone, whatever is written: every
// Domain that is left is one that browsers refuse, or lies within the clone.
func FuzzSetCookie(f *testing.F) {
	for _, s := range []string{
		"a=b", "a=b; Domain=zone.test", "a=b;domain = .ZONE.test. ;Path=/", "a=b; Domain=\"zone.test\"", ";Domain=test",
		"a; Domain=www-1.zone.test; Domain=.zone.test", "__Host-a=b; Domain=zone.test", "Domain=zone.test", "a=b; Domain=shop.example",
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	zones, err := registry.NewZones("zone.test", "other.test")
	if err != nil {
		f.Fatal(err)
	}
	p := newProduction(&registry.Clone{Production: map[string]string{"www.shop.example": "www"}})
	f.Fuzz(func(t *testing.T, s string, nested bool) {
		x := &exchange{way: &way{gateway: &Gateway{cfg: Config{Zones: zones}}}}
		x.target = target{host: "www-1.zone.test", zone: "zone.test", service: "www", base: "1"}
		if nested {
			x.target.host, x.target.nested = "www.1.zone.test", true
		}
		g := &guise{x: x, p: p}
		got := string(g.setCookie(nil, []byte(s)))
		if again := string(g.setCookie(nil, []byte(got))); again != got {
			t.Errorf("%q became %q and then %q", s, got, again)
		}
		pieces := strings.Split(got, ";")
		for _, a := range pieces[1:] {
			name, value, _ := strings.Cut(a, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "domain") {
				continue
			}
			d := strings.Trim(strings.ToLower(strings.TrimSpace(value)), `".`)
			within := d == x.target.host || nested && d == "1.zone.test"
			ours := false
			for _, zone := range zones.Hosts() {
				ours = ours || holds([]byte(d), string(zone)) || isAt([]byte(d), string(zone))
			}
			if d != "" && ours && !within {
				t.Errorf("%q became %q, which goes to others than %s", s, got, x.target.host)
			}
		}
	})
}
