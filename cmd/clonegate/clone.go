package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

// findClone returns the clone with this ID or, if there is none, with this
// alias; among several that had it, the one that lives.
func findClone(ctx context.Context, c *client.Client, name string) (*api.Clone, error) {
	if id, err := registry.ParseID(name); err == nil {
		clone, err := c.Clone(ctx, id)
		if !errors.Is(err, registry.ErrNotFound) {
			return clone, err
		}
	}
	var found *api.Clone
	for clone, err := range c.Clones(ctx, api.CloneFilter{Q: name, All: true}) {
		if err != nil {
			return nil, err
		}
		if !slices.Contains(clone.Aliases, name) {
			continue
		}
		if found == nil || found.State.Over() {
			found = clone
		}
	}
	if found == nil {
		return nil, fmt.Errorf("clone %s: %w; see  clonegate list", name, registry.ErrNotFound)
	}
	return found, nil
}

// waitFor follows a clone from the revision it has until until returns true or
// an error, and returns it as it was then. changed is told of every change.
func waitFor(ctx context.Context, c *client.Client, clone *api.Clone, changed func(*api.Clone), until func(*api.Clone) (bool, error)) (*api.Clone, error) {
	if done, err := until(clone); done || err != nil {
		return clone, err
	}
	reached := errors.New("reached")
	last := clone
	err := c.Watch(ctx, clone.Revision, func(ch api.Change) error {
		if ch.Clone == nil || ch.Clone.ID != clone.ID || ch.Clone.Revision <= last.Revision {
			return nil
		}
		last = ch.Clone
		changed(last)
		if done, err := until(last); done || err != nil {
			return errors.Join(err, reached)
		}
		return nil
	})
	if errors.Is(err, reached) {
		_, err = until(last)
	}
	return last, err
}

// defaultService returns the service behind the bare name of a clone, or the
// first, "" if it has none.
func defaultService(clone *api.Clone) string {
	names := slices.Sorted(maps.Keys(clone.URLs))
	for _, name := range names {
		if s := clone.Services[name]; s != nil && s.Default {
			return name
		}
	}
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// serviceNames returns the services of a clone, the default one first.
func serviceNames(clone *api.Clone) []string {
	first := defaultService(clone)
	names := slices.Sorted(maps.Keys(clone.URLs))
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case a == first:
			return -1
		case b == first:
			return 1
		}
		return 0
	})
	return names
}

// parsePairs reads "key=value" flags.
func parsePairs(flag string, pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--%s %q: want key=value", flag, p)
		}
		if _, twice := out[k]; twice {
			return nil, fmt.Errorf("--%s %q: %s is given twice", flag, p, k)
		}
		out[k] = v
	}
	return out, nil
}

// wholeSeconds reads a duration flag of which the API takes whole seconds. 0 is
// what a flag that is not given has.
func wholeSeconds(flag string, d time.Duration) (registry.Seconds, error) {
	const most = math.MaxUint32 * time.Second
	if d < 0 || d > most || d%time.Second != 0 {
		return 0, fmt.Errorf("--%s %s: want a positive time of whole seconds, at most %s", flag, d, most)
	}
	return registry.Seconds(d / time.Second), nil
}

// title names a clone for people: "1234 (pr-87)".
func title(clone *api.Clone) string {
	if len(clone.Aliases) == 0 {
		return string(clone.ID)
	}
	return fmt.Sprintf("%s (%s)", clone.ID, strings.Join(clone.Aliases, ", "))
}
