package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

const (
	killRounds = 200
	writers    = 8
	perWriter  = 6 // clones
)

// TestKill200 kills the daemon 200 times while clients write, and looks for
// everything it had acknowledged.
func TestKill200(t *testing.T) {
	long(t)
	t.Parallel()
	g := newGateway(t)
	g.start()
	h := newHistory(g)
	var starts []time.Duration
	for round := range killRounds {
		if round%8 == 7 { // in the middle of a start
			g.kill()
			g.launch()
			time.Sleep(rand.N(2 * starts[0]))
		} else {
			h.write(rand.N(80 * time.Millisecond))
		}
		g.kill()
		began := time.Now()
		g.start()
		starts = append(starts, time.Since(began))
		h.check()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	h.open()
	slices.Sort(starts)
	t.Logf("%d writes acknowledged and %d cut off in %d rounds; a start took %s in the median, %s at most, with %d events",
		h.acknowledged, h.cut, killRounds, starts[len(starts)/2], starts[len(starts)-1], h.revision)
	if h.acknowledged < 3*killRounds || h.cut < killRounds/4 {
		t.Error("that proves little")
	}
}

// TestKillFirstStart kills the very first start; the next one must go on from
// whatever it left.
func TestKillFirstStart(t *testing.T) {
	t.Parallel()
	began := time.Now()
	g := newGateway(t)
	g.start()
	took := time.Since(began)
	g.kill()
	for range 12 {
		g := newGateway(t)
		g.launch()
		time.Sleep(rand.N(took))
		g.kill()
		g.start()
		if who, err := g.api.Whoami(t.Context()); err != nil || who.Role != registry.RoleAdmin {
			t.Errorf("admin token after a start that was killed: %+v, %v", who, err)
		}
		g.get(g.visitor(), g.url("www-1234", "/")).is(t, "an unknown clone", 404, "unknown-clone")
		g.kill()
	}
}

// A history is what clients know of the clones they write to.
type history struct {
	g                 *gateway
	books             []*book
	tokens            map[string]bool // ID → acknowledged
	revision          uint64          // events up to here were checked
	acknowledged, cut int
}

// A book is what the only writer of one clone knows of it.
type book struct {
	id      registry.ID
	now     state
	pending *state   // sent and not answered
	events  []string // types that were acknowledged since the last check
	unsure  string   // type of what is pending
}

// A state is which write to a clone was the last.
type state struct {
	incarnation uint64
	n           int // of the registration
	gone        bool
}

func (s state) instance() string { return fmt.Sprintf("life-%d", s.incarnation) }

func newHistory(g *gateway) *history {
	h := &history{g: g, tokens: map[string]bool{}}
	for i := range writers * perWriter {
		h.books = append(h.books, &book{id: registry.ID("k" + strconv.Itoa(i)), now: state{gone: true}})
	}
	page, err := g.api.Events(g.t.Context(), 0, 1000)
	if err != nil {
		g.t.Fatal(err)
	}
	h.revision = page.Revision
	return h
}

// write lets all writers write for a while, and kills the daemon then.
func (h *history) write(while time.Duration) {
	h.g.t.Helper()
	ctx, cancel := context.WithCancel(h.g.t.Context())
	defer cancel()
	var all sync.WaitGroup
	for i := range writers {
		books := h.books[i*perWriter : (i+1)*perWriter]
		c := h.g.client(filepath.Join(h.g.data, "admin.token"))
		all.Go(func() {
			for ctx.Err() == nil && books[rand.IntN(perWriter)].write(ctx, c) == nil {
			}
		})
	}
	var tokens []string
	all.Go(func() {
		for ctx.Err() == nil {
			if token, err := h.g.api.CreateToken(ctx, registry.TokenRequest{Name: "kill", Role: registry.RoleViewer}); err == nil {
				tokens = append(tokens, token.ID)
			}
		}
	})
	time.Sleep(while)
	h.g.kill()
	cancel()
	all.Wait()
	for _, id := range tokens {
		h.tokens[id] = true
	}
	for _, b := range h.books {
		h.acknowledged += len(b.events)
		if b.pending != nil {
			h.cut++
		}
	}
}

// write sends one write. After an error it is not known whether it was done.
func (b *book) write(ctx context.Context, c *client.Client) error {
	next, kind := b.now, registry.EventCloneChanged
	switch {
	case b.now.gone:
		next, kind = state{b.now.incarnation + 1, b.now.n + 1, false}, registry.EventCloneRegistered
	case rand.IntN(5) == 0:
		next.gone, kind = true, registry.EventCloneGone
	default:
		next.n++
	}
	b.pending, b.unsure = &next, kind
	if err := b.send(ctx, c, next); err != nil {
		return err
	}
	b.now, b.pending = next, nil
	b.events = append(b.events, kind)
	return nil
}

func (b *book) send(ctx context.Context, c *client.Client, next state) error {
	if next.gone {
		_, _, err := c.Unregister(ctx, b.id, next.instance())
		return err
	}
	reg := serving(next.instance(), "127.0.4.10:8080")
	reg.Labels = map[string]string{"n": strconv.Itoa(next.n)}
	grant, _, err := c.Register(ctx, b.id, reg, false)
	if err == nil && grant.Incarnation != next.incarnation {
		return fmt.Errorf("clone %s: registered as life %d, want %d", b.id, grant.Incarnation, next.incarnation)
	}
	return err
}

// check compares what the daemon knows with what clients know.
func (h *history) check() {
	t := h.g.t
	t.Helper()
	ctx := t.Context()
	found := map[registry.ID]state{}
	for c, err := range h.g.api.Clones(ctx, api.CloneFilter{All: true}) {
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(c.Labels["n"])
		if err != nil {
			t.Errorf("clone %s has labels %v", c.ID, c.Labels)
		}
		found[c.ID] = state{c.Incarnation, n, c.State == registry.Gone}
	}
	kinds := h.readEvents()
	for _, b := range h.books {
		got, known := found[b.id]
		if !known {
			got.gone = true
		}
		switch {
		case b.pending != nil && got == *b.pending:
			b.events = append(b.events, b.unsure)
		case got != b.now:
			t.Errorf("clone %s is %+v; acknowledged was %+v and pending %+v", b.id, got, b.now, b.pending)
		}
		if !slices.Equal(kinds[b.id], b.events) {
			t.Errorf("events of clone %s are %v, want %v", b.id, kinds[b.id], b.events)
		}
		b.now, b.pending, b.events = got, nil, nil
	}
	kept := map[string]bool{}
	for token, err := range h.g.api.Tokens(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		kept[token.ID] = true
	}
	for id := range h.tokens {
		if !kept[id] {
			t.Errorf("token %s is lost", id)
		}
	}
}

// open opens clones in the gateway, which must know them as the registry does.
func (h *history) open() {
	h.g.t.Helper()
	c := h.g.visitor()
	for _, b := range h.books[:10] {
		status, code := 503, "unreachable"
		if b.now.gone {
			status, code = 410, "gone"
		}
		h.g.get(c, h.g.url("www-"+string(b.id), "/")).is(h.g.t, fmt.Sprintf("clone %s, which is %+v", b.id, b.now), status, code)
	}
}

// readEvents reads every event since the last check, and returns the types of
// each clone's.
func (h *history) readEvents() map[registry.ID][]string {
	t := h.g.t
	t.Helper()
	kinds := map[registry.ID][]string{}
	for {
		page, err := h.g.api.Events(t.Context(), h.revision, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if h.revision++; e.Seq != h.revision {
				t.Fatalf("event %d follows %d", e.Seq, h.revision-1)
			}
			if strings.HasPrefix(e.Type, "clone.") {
				kinds[e.Clone] = append(kinds[e.Clone], e.Type)
			}
		}
		if h.revision == page.Revision {
			return kinds
		}
		if len(page.Events) == 0 {
			t.Fatalf("no event after %d; the newest is %d", h.revision, page.Revision)
		}
	}
}
