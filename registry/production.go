package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Bounds of what a registration says about production.
const (
	maxProduction = 64
	maxCookies    = 64
	maxCookieName = 128
)

// ParseProduction returns a name of production as a key of Clone.Production:
// "www.example.com", or "*.example.com" for every name below, in lower case.
func ParseProduction(s string) (string, error) {
	base, below := strings.CutPrefix(s, "*.")
	h, err := ParseHost(base)
	switch {
	case err != nil:
		return "", err
	case !strings.Contains(string(h), "."):
		return "", fmt.Errorf("host %q: want the full name, as in www.example.com", clip(s))
	case isDigits(string(h[strings.LastIndexByte(string(h), '.')+1:])):
		return "", fmt.Errorf("host %q: want a name, not an address", clip(s))
	case below:
		return "*." + string(h), nil
	}
	return string(h), nil
}

func isDigits(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// ParseCookieName returns s if it can name a cookie (RFC 6265 section 4.1.1).
func ParseCookieName(s string) (string, error) {
	if s == "" || len(s) > maxCookieName {
		return "", fmt.Errorf("cookie %q: want a name of 1 to %d characters, got %d", clip(s), maxCookieName, len(s))
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, s[i]) >= 0 {
			return "", fmt.Errorf("cookie %q: character %q is not allowed in a name", clip(s), s[i])
		}
	}
	return s, nil
}

// production reads which service stands for which name of production.
func (in *reader) production(names map[string]string, services map[string]ServiceRegistration) map[string]string {
	if len(names) > maxProduction {
		in.faults.add("production", "production", "%d names; at most %d", len(names), maxProduction)
		return nil
	}
	var out map[string]string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		field, service := "production."+clip(name), names[name]
		key, err := ParseProduction(name)
		if err != nil {
			in.faults.add(field, "host", "%v", err)
			continue
		}
		if _, zone, inside := in.r.cfg.Zones.Split(strings.TrimPrefix(key, "*.")); inside {
			in.faults.add(field, "production-zone", "%s lies in the zone %s, where clones have their names; want a name that production has", key, zone)
			continue
		}
		if _, twice := out[key]; twice {
			in.faults.add(field, "production-twice", "%s stands twice, in two spellings", key)
			continue
		}
		if _, known := services[service]; !known {
			in.faults.add(field, "production-service", "there is no service %q; want one of %s", clip(service), nameList(services))
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = service
	}
	return out
}

// nameList returns the names of services for people.
func nameList(services map[string]ServiceRegistration) string {
	names := slices.Sorted(maps.Keys(services))
	if len(names) == 0 {
		return "none"
	}
	for i := range names {
		names[i] = clip(names[i])
	}
	return strings.Join(names, ", ")
}

// cookies reads the names of cookies that a clone must not see.
func (in *reader) cookies(names []string) []string {
	if len(names) > maxCookies {
		in.faults.add("strip_cookies", "strip-cookies", "%d cookies; at most %d", len(names), maxCookies)
		return nil
	}
	for i, name := range names {
		field := fmt.Sprintf("strip_cookies[%d]", i)
		if _, err := ParseCookieName(name); err != nil {
			in.faults.add(field, "cookie", "%v", err)
		} else if slices.Contains(names[:i], name) {
			in.faults.add(field, "cookie-twice", "%s stands twice", name)
		}
	}
	return names
}
