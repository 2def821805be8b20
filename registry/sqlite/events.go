package sqlite

import (
	"context"
	"fmt"
	"math"

	"github.com/clonegate/clonegate/registry"
)

// Events returns up to limit events after seq, oldest first. Those older than
// Config.KeepEvents are no longer there: the first one returned then has a
// number above after+1.
func (s *Store) Events(ctx context.Context, after uint64, limit int) ([]registry.Event, error) {
	events, err := s.events(ctx, after, limit)
	if err != nil {
		return nil, s.fail("read events from", err)
	}
	return events, nil
}

func (s *Store) events(ctx context.Context, after uint64, limit int) ([]registry.Event, error) {
	rows, err := s.read.QueryContext(ctx,
		`SELECT 'event ' || seq, value FROM events WHERE seq > ? ORDER BY seq LIMIT ?`,
		int64(min(after, math.MaxInt64)), max(limit, 0))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	kept, err := nextRows(rows, max(limit, 0))
	if err != nil {
		return nil, err
	}
	events := make([]registry.Event, len(kept))
	for i, r := range kept {
		e, err := decode[registry.Event](r)
		if err != nil {
			return nil, err
		}
		events[i] = *e
	}
	return events, nil
}

// addEvent appends e if it follows on the newest that is kept.
func (t *transaction) addEvent(e *registry.Event) {
	added := t.exec(`INSERT INTO events (seq, value)
		SELECT ?1, ?2 WHERE ?1 = 1 + (SELECT coalesce(max(seq), 0) FROM events)`, int64(e.Seq), t.json(e))
	if t.err == nil && added == 0 {
		t.err = fmt.Errorf("event %d does not follow on the newest that is kept; "+
			"another program has written to the file, restart clonegate", e.Seq)
	}
}

// trimEvery is how many events come before old ones are removed again, so that
// most commits remove none.
const trimEvery = 256

// trimEvents removes the oldest events beyond keep. It removes faster than
// events come, and never more than in proportion to what the batch brought.
func (t *transaction) trimEvents(added []registry.Event, keep uint64) {
	if t.err != nil || len(added) == 0 {
		return
	}
	first, last := added[0].Seq, added[len(added)-1].Seq
	if last <= keep || last/trimEvery == (first-1)/trimEvery {
		return
	}
	t.exec(`DELETE FROM events WHERE seq <= ? AND seq < (SELECT min(seq) FROM events) + ?`,
		int64(last-keep), 4*(trimEvery+len(added)))
}
