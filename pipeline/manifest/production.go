package manifest

import (
	"slices"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/spelling"
)

// production checks the names of production and its cookies. That no name lies
// in a zone of the gateway is found out when a clone registers.
func (c *checker) production(m *Manifest) {
	if !c.atMost("production", len(m.Production), maxServed) || !c.atMost("strip_cookies", len(m.StripCookies), maxServed) {
		return
	}
	services := sortedKeys(m.Services)
	seen := map[string]bool{}
	for _, name := range sortedKeys(m.Production) {
		at, service := join("production", name), m.Production[name]
		key, err := registry.ParseProduction(name)
		switch {
		case err != nil:
			c.add(at, "%v", err)
		case seen[key]:
			c.add(at, "%s stands twice, in two spellings", key)
		case !slices.Contains(services, service):
			c.add(at, "there is no service %q%s", clip(service), spelling.Suggest(service, services))
		}
		seen[key] = true
	}
	for i, name := range m.StripCookies {
		if _, err := registry.ParseCookieName(name); err != nil {
			c.add(index("strip_cookies", i), "%v", err)
		} else if slices.Contains(m.StripCookies[:i], name) {
			c.add(index("strip_cookies", i), "%s stands twice", name)
		}
	}
}
