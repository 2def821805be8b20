package daemon

import (
	"strings"

	"github.com/clonegate/clonegate/registry"
)

// leafKey returns the key of the leaf that holds a clone's public names.
func leafKey(c *registry.Clone) string {
	return string(c.ID) + " " + strings.Join(c.PublicLabels(), " ")
}

// leafNames returns what the certificate of a clone must hold, for certs: all
// its public names, flat and nested, and a key that changes when they do. A
// clone whose life is over has them too: its page says what became of it. A
// member of a pool that is asked for by name has a certificate of its own, so
// that those who never ask for one pay nothing; and so has a name below a
// service, because there is no end of those. The key is "" if sub is no name of
// a known clone.
func leafNames(view *registry.View) func(sub string) (key string, names []string) {
	return func(sub string) (string, []string) {
		target, ok := view.Lookup(sub)
		if !ok {
			return "", nil
		}
		c := target.Clone
		if target.Below != "" {
			return string(c.ID) + " below " + sub, []string{sub}
		}
		names := c.PublicLabels()
		for _, base := range append([]string{string(c.ID)}, c.Aliases...) {
			names = append(names, "*."+base)
			for service := range c.Services {
				names = append(names, service+"."+base)
			}
		}
		key := leafKey(c)
		if s := c.Services[target.Service]; s != nil && 0 < target.Member && target.Member <= len(s.Endpoints) {
			key, names = key+" "+sub, append(names, sub)
		}
		return key, names
	}
}
