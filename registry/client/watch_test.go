package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
)

// A mirror is what somebody knows who only watches.
type mirror struct {
	clones map[registry.ID]uint64 // → revision
	listed map[registry.ID]uint64 // while a list comes
	lists  int
}

func (m *mirror) apply(ch api.Change) {
	switch ch.Kind {
	case api.KindList:
		m.listed = map[registry.ID]uint64{}
	case api.KindListed:
		m.clones, m.listed = m.listed, nil
		m.lists++
	case api.KindClone:
		if m.listed != nil {
			m.listed[ch.Clone.ID] = ch.Clone.Revision
		} else {
			m.clones[ch.Clone.ID] = ch.Clone.Revision
		}
	}
}

// Over two restarts of the daemon, and with changes while nobody was connected,
// a watcher comes to know what the registry knows.
func TestWatchOverRestarts(t *testing.T) {
	d := start(t)
	c := d.client(d.admin)
	change := func(id int) {
		t.Helper()
		reg := registry.Registration{Instance: "x", Owner: fmt.Sprint(time.Now().UnixNano())}
		if _, err := d.registry.Register(context.Background(), registry.System, registry.ID(fmt.Sprint(id)), reg, false); err != nil {
			t.Fatal(err)
		}
	}
	changes := make(chan api.Change)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Watch(ctx, 0, func(ch api.Change) error {
			select {
			case changes <- ch:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	m := &mirror{}
	upTo := func() {
		t.Helper()
		deadline := time.After(15 * time.Second)
		for {
			have := uint64(0)
			for _, rev := range m.clones {
				have = max(have, rev)
			}
			if have == d.registry.View().Revision() {
				break
			}
			select {
			case ch := <-changes:
				m.apply(ch)
			case <-deadline:
				t.Fatalf("the watcher has got to %d of %d", have, d.registry.View().Revision())
			}
		}
		for clone := range d.registry.View().Clones("") {
			if m.clones[clone.ID] != clone.Revision {
				t.Errorf("clone %s: the watcher knows revision %d, it is %d", clone.ID, m.clones[clone.ID], clone.Revision)
			}
		}
	}
	for i := range 5 {
		change(i)
	}
	upTo()
	for range 2 {
		d.stop()
		d.run()
		for i := range 5 {
			change(3 + i)
		}
		upTo()
	}
	if len(m.clones) != 8 {
		t.Errorf("the watcher knows %d clones, want 8", len(m.clones))
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch returned %v", err)
	}
}

func TestFollowEvents(t *testing.T) {
	d := start(t)
	c := d.client(d.admin)
	for i := range 5 {
		if _, err := d.registry.Register(t.Context(), registry.System, registry.ID(fmt.Sprint(i)), registry.Registration{Instance: "x"}, false); err != nil {
			t.Fatal(err)
		}
	}
	page, err := c.Events(t.Context(), 2, 3)
	if err != nil || len(page.Events) != 3 || page.Events[0].Seq != 3 || page.Revision != 6 {
		t.Errorf("page: %+v, %v", page, err)
	}
	enough := errors.New("enough")
	seq := uint64(0)
	err = c.FollowEvents(t.Context(), 0, func(e registry.Event) error {
		if e.Seq != seq+1 {
			t.Errorf("event %d after %d", e.Seq, seq)
		}
		switch seq = e.Seq; seq {
		case 6:
			d.stop()
			d.run()
			_, err := d.registry.Register(context.Background(), registry.System, "9", registry.Registration{Instance: "x"}, false)
			return err
		case 7:
			return enough
		}
		return nil
	})
	if err != enough {
		t.Errorf("FollowEvents returned %v, want the caller's own error", err)
	}
}

// A refusal that will not change ends a watch; trouble that passes does not.
func TestWatchRefused(t *testing.T) {
	d := start(t)
	nothing := func(api.Change) error { return nil }
	if err := d.client("cgt_aaaaaaaa_wrong").Watch(t.Context(), 0, nothing); !errors.Is(err, registry.ErrNoToken) {
		t.Errorf("a wrong token: %v, want ErrNoToken", err)
	}
	tries := 0
	c := open(t, client.Config{URL: newServer(t, func(w http.ResponseWriter, r *http.Request) {
		tries++
		switch tries {
		case 1:
			w.WriteHeader(503)
		case 2: // an answer that breaks off
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: clone\nid: 7\ndata: {\"revision\":7,\ndata: \"clone\":{\"id\":\"1\"}}\n\n: hello\n\nid: 9\n\nevent: clone\ndata: {\"revis")
		case 3:
			if got := r.Header.Get("Last-Event-ID"); got != "9" {
				t.Errorf("resumed after %q, want 9", got)
			}
			w.WriteHeader(418)
		}
	})})
	var got []string
	err := c.Watch(t.Context(), 5, func(ch api.Change) error {
		got = append(got, fmt.Sprint(ch.Kind, ch.Revision, ch.Clone.ID))
		return nil
	})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 418 || tries != 3 || strings.Join(got, " ") != "clone71" {
		t.Errorf("after %d tries with %v: %v", tries, got, err)
	}
}

// A daemon that stays away is told of once, until it is back.
func TestLost(t *testing.T) {
	var asked atomic.Int32
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1, 5:
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: listed\nid: 7\ndata: {}\n\n")
		default:
			http.Error(w, "away", http.StatusServiceUnavailable)
		}
	})
	var lost []error
	c, err := client.New(client.Config{URL: srv, Lost: func(err error) { lost = append(lost, err) }})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	heard := 0
	err = c.Watch(t.Context(), 0, func(api.Change) error {
		if heard++; heard == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || len(lost) != 1 {
		t.Errorf("Watch returned %v and told of %v; want one loss", err, lost)
	}
}
