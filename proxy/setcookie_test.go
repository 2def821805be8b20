package proxy

import (
	"strings"
	"testing"
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
	f.Fuzz(func(t *testing.T, s string, nested bool) {
		g := disguised(t, nested)
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
			within := d == g.x.target.host || nested && d == "1.zone.test"
			ours := false
			for _, zone := range g.x.way.gateway.cfg.Zones.Hosts() {
				ours = ours || holds([]byte(d), string(zone)) || isAt([]byte(d), string(zone))
			}
			if d != "" && ours && !within {
				t.Errorf("%q became %q, which goes to others than %s", s, got, g.x.target.host)
			}
		}
	})
}
