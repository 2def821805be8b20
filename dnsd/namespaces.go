package dnsd

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// Namespaces is resolvers inside network namespaces, where clones with the
// same addresses can live beside each other. They listen as soon as a
// namespace is there, and no longer than it is: nothing of ours keeps one
// alive. Questions to upstreams leave from the namespace of the process.
type Namespaces struct {
	// Path stands for the namespace, such as "/run/netns/clone-1234". Its last
	// element may hold "{id}" instead of an ID: then every namespace of such a
	// name gets a resolver, for the clone of that ID.
	Path string

	// Listen is the same address in all of them.
	Listen netip.AddrPort

	// Resolver is what listens; with "{id}", its Clone is that of the namespace.
	Resolver Resolver
}

// idInPath stands for a clone's ID in Namespaces.Path.
const idInPath = "{id}"

// Check reports what is wrong with n.
func (n Namespaces) Check() error {
	dir, name := filepath.Split(n.Path)
	switch {
	case !filepath.IsAbs(n.Path):
		return fmt.Errorf("%q is not the whole path of a network namespace, such as /run/netns/clone-%s", n.Path, idInPath)
	case strings.Contains(dir, idInPath), strings.Count(name, idInPath) > 1:
		return fmt.Errorf("%q may hold %s once, in its last element", n.Path, idInPath)
	case !n.Listen.IsValid() || n.Listen.Port() == 0:
		return fmt.Errorf("%v is not an address and port to listen on in every namespace", n.Listen)
	}
	return nil
}

// find returns the namespaces that are there, and whose clone each is.
func (n Namespaces) find() map[string]registry.ID {
	dir, name := filepath.Split(n.Path)
	before, after, open := strings.Cut(name, idInPath)
	if !open {
		return map[string]registry.ID{n.Path: n.Resolver.Clone}
	}
	found := map[string]registry.ID{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // made with the first namespace
	}
	for _, e := range entries {
		text, isBegun := strings.CutPrefix(e.Name(), before)
		text, isEnded := strings.CutSuffix(text, after)
		if id, err := registry.ParseID(text); err == nil && isBegun && isEnded {
			found[filepath.Join(dir, e.Name())] = id
		}
	}
	return found
}

// namespacePoll is how often namespaces are looked for. The system does not
// report those that are mounted.
const namespacePoll = 250 * time.Millisecond

// A resident is a resolver inside one namespace.
type resident struct {
	id      [2]uint64 // of the namespace
	clone   registry.ID
	isOver  bool               // its clone is gone
	trouble string             // why it does not listen, as last logged
	end     context.CancelFunc // nil while it does not listen
	ended   chan struct{}
}

// Follow opens a resolver in each namespace of n, and closes it when the
// namespace or its clone is gone, until ctx ends. Run must be called as well.
func (s *Server) Follow(ctx context.Context, n Namespaces) error {
	if err := n.Check(); err != nil {
		return fmt.Errorf("dns resolver in namespaces: %w", err)
	}
	residents := map[string]*resident{}
	defer func() {
		for _, r := range residents {
			r.close()
		}
	}()
	for {
		s.reside(ctx, n, residents)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(namespacePoll):
		}
	}
}

// reside makes residents those that should be there now.
func (s *Server) reside(ctx context.Context, n Namespaces, residents map[string]*resident) {
	found := n.find()
	for path, r := range residents {
		id, ok := namespaceID(path)
		if _, known := found[path]; !known || !ok || id != r.id {
			r.close()
			delete(residents, path)
		}
	}
	for path, clone := range found {
		r := residents[path]
		if r == nil {
			id, ok := namespaceID(path)
			if !ok {
				continue
			}
			r = &resident{id: id, clone: clone}
			residents[path] = r
		}
		// A record that was dropped says nothing new.
		if c, known := s.dir.Clone(clone); known {
			r.isOver = c.State == registry.Gone
		}
		switch {
		case r.isOver, r.hasEnded():
			r.close()
		case r.end == nil:
			s.settle(ctx, n, path, r)
		}
	}
}

// settle opens a resident's resolver.
func (s *Server) settle(ctx context.Context, n Namespaces, path string, r *resident) {
	udp, tcp, err := ListenIn(path, n.Listen.String())
	if err != nil {
		if r.trouble != err.Error() {
			r.trouble = err.Error()
			s.log.Error("dns resolver cannot listen in a network namespace; it is tried again", "namespace", path, "clone", r.clone, "err", err)
		}
		return
	}
	resolver := n.Resolver
	resolver.Clone = r.clone
	ctx, r.end = context.WithCancel(ctx)
	r.ended = make(chan struct{})
	r.trouble = ""
	go func() {
		defer close(r.ended)
		if err := s.Serve(ctx, Listener{UDP: udp, TCP: tcp, Resolver: &resolver, Namespace: path}); err != nil {
			s.log.Error("dns resolver in a network namespace ended", "namespace", path, "clone", r.clone, "err", err)
		}
	}()
}

// hasEnded reports whether the resolver has ended by itself.
func (r *resident) hasEnded() bool {
	select {
	case <-r.ended: // never, if it is nil
		return r.end != nil
	default:
		return false
	}
}

// close closes a resident's resolver, if it is open.
func (r *resident) close() {
	if r.end == nil {
		return
	}
	r.end()
	<-r.ended
	r.end = nil
}
