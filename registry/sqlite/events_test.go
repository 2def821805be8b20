package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/sqlite"
)

// TestOldEventsGo checks that events stay near the number asked for, whether
// they come singly or many at a time, and that those kept have no gap.
func TestOldEventsGo(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 100, 3000} {
		s := openWith(t, filepath.Join(t.TempDir(), "registry.db"), sqlite.Config{KeepEvents: 1000})
		const total = 3000
		appendEvents(t, s, 0, total, batch)
		checkEvents(t, s, total, 1000, 1000+256)
	}
}

// TestKeepingFewerEvents opens a file that has far more events than are to be
// kept: they go step by step, so that no commit takes long.
func TestKeepingFewerEvents(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	s := open(t, path)
	appendEvents(t, s, 0, 10_000, 5000)
	checkEvents(t, s, 10_000, 10_000, 10_000)
	s.Close()

	s = openWith(t, path, sqlite.Config{KeepEvents: 100})
	appendEvents(t, s, 10_000, 10_300, 1)
	checkEvents(t, s, 10_300, 8000, 10_000)
	appendEvents(t, s, 10_300, 14_000, 50)
	checkEvents(t, s, 14_000, 100, 100+256)
}

// appendEvents commits the events after one number up to another, so many at a
// time.
func appendEvents(t *testing.T, s *sqlite.Store, after, last uint64, together int) {
	t.Helper()
	for seq := after; seq < last; {
		var b registry.Batch
		for range min(uint64(together), last-seq) {
			seq++
			b.Events = append(b.Events, registry.Event{Seq: seq})
		}
		if err := s.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
}

// checkEvents checks that between least and most events are kept, the newest
// of them being last.
func checkEvents(t *testing.T, s *sqlite.Store, last uint64, least, most int) {
	t.Helper()
	events, err := s.Events(t.Context(), 0, int(last)+1)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) < least || len(events) > most {
		t.Errorf("%d events are kept, want %d to %d", len(events), least, most)
	}
	for i, e := range events {
		if want := last - uint64(len(events)-1-i); e.Seq != want {
			t.Fatalf("event %d stands where %d should", e.Seq, want)
		}
	}
	c, err := s.Load(t.Context(), 0)
	if err != nil || c.Revision != last {
		t.Errorf("revision %d, %v; want %d", c.Revision, err, last)
	}
}
