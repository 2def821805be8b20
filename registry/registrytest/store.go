package registrytest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// A Store is a registry.Store in memory. It keeps copies, as one on disk does:
// what is changed after a Commit, or after a Load, does not change what is kept.
type Store struct {
	// Fail, if it is set, is called at the beginning of every Commit and Touch
	// with the name of the method; what it returns is returned instead of
	// writing. Set it before the store is used. It may be called by several
	// goroutines at once.
	Fail func(method string) error

	mu        sync.RWMutex // guards the following
	nextID    uint64
	clones    map[registry.ID][]byte
	templates map[string][]byte
	channels  map[string][]byte
	tokens    map[string][]byte
	events    [][]byte // the first has the number 1
	renewed   map[registry.ID]time.Time
	lastUsed  map[string]time.Time
}

var _ registry.Store = (*Store)(nil)

// NewStore returns an empty Store.
func NewStore() *Store {
	return &Store{
		clones:    map[registry.ID][]byte{},
		templates: map[string][]byte{},
		channels:  map[string][]byte{},
		tokens:    map[string][]byte{},
		renewed:   map[registry.ID]time.Time{},
		lastUsed:  map[string]time.Time{},
	}
}

// Load is that of registry.Store.
func (s *Store) Load(ctx context.Context, tombstones int) (*registry.Contents, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := &registry.Contents{
		Revision: uint64(len(s.events)),
		NextID:   s.nextID,
		Renewed:  maps.Clone(s.renewed),
	}
	var over []*registry.Clone
	for _, value := range s.clones {
		if clone := decode[registry.Clone](value); clone.State.Over() {
			over = append(over, clone)
		} else {
			c.Clones = append(c.Clones, clone)
		}
	}
	slices.SortFunc(over, func(a, b *registry.Clone) int { return int(b.Revision) - int(a.Revision) })
	c.Clones = append(c.Clones, over[:min(len(over), tombstones)]...)
	for _, value := range s.templates {
		c.Templates = append(c.Templates, decode[registry.Template](value))
	}
	for _, value := range s.channels {
		c.Channels = append(c.Channels, decode[registry.Channel](value))
	}
	for _, value := range s.tokens {
		t := decode[registry.Token](value)
		if at, used := s.lastUsed[t.ID]; used {
			t.LastUsed = at
		}
		c.Tokens = append(c.Tokens, t)
	}
	return c, ctx.Err()
}

// Commit is that of registry.Store.
func (s *Store) Commit(ctx context.Context, b *registry.Batch) error {
	if err := s.refuse(ctx, "Commit"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range b.Events {
		if e.Seq != uint64(len(s.events)+i+1) {
			return fmt.Errorf("commit: event %d does not follow on event %d: %w", e.Seq, len(s.events)+i, registry.ErrUnavailable)
		}
	}
	if b.NextID != 0 {
		s.nextID = b.NextID
	}
	for _, c := range b.Clones {
		s.clones[c.ID] = encode(c)
		if c.State.Over() {
			delete(s.renewed, c.ID)
		}
	}
	for _, t := range b.Templates {
		s.templates[t.Ref()] = encode(t)
	}
	for _, c := range b.Channels {
		s.channels[c.Template+"@"+c.Name] = encode(c)
	}
	for _, t := range b.Tokens {
		s.tokens[t.ID] = encode(t)
		delete(s.lastUsed, t.ID)
	}
	for _, id := range b.NoTokens {
		delete(s.tokens, id)
		delete(s.lastUsed, id)
	}
	for _, e := range b.Events {
		s.events = append(s.events, encode(e))
	}
	return nil
}

// Clone is that of registry.Store.
func (s *Store) Clone(ctx context.Context, id registry.ID) (*registry.Clone, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	value, ok := s.clones[id]
	if !ok {
		return nil, fmt.Errorf("clone %s: %w", id, registry.ErrNotFound)
	}
	return decode[registry.Clone](value), ctx.Err()
}

// Events is that of registry.Store.
func (s *Store) Events(ctx context.Context, after uint64, limit int) ([]registry.Event, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	rest := s.events[min(after, uint64(len(s.events))):]
	var events []registry.Event
	for _, value := range rest[:min(len(rest), limit)] {
		events = append(events, *decode[registry.Event](value))
	}
	return events, ctx.Err()
}

// Touch is that of registry.Store.
func (s *Store) Touch(ctx context.Context, t registry.Touches) error {
	if err := s.refuse(ctx, "Touch"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range t.Renewed {
		if value, ok := s.clones[id]; ok && !decode[registry.Clone](value).State.Over() {
			s.renewed[id] = at
		}
	}
	for id, at := range t.LastUsed {
		if _, ok := s.tokens[id]; ok {
			s.lastUsed[id] = at
		}
	}
	return nil
}

// refuse returns why a write fails, nil if it may go on.
func (s *Store) refuse(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", method, registry.ErrUnavailable, err)
	}
	if s.Fail == nil {
		return nil
	}
	return s.Fail(method)
}

// encode and decode panic on what only a wrong test can bring about: a record
// that cannot be written as JSON.
func encode(record any) []byte {
	value, err := json.Marshal(record)
	if err != nil {
		panic(err)
	}
	return value
}

func decode[T any](value []byte) *T {
	record := new(T)
	if err := json.Unmarshal(value, record); err != nil {
		panic(err)
	}
	return record
}
