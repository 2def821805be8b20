package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/clonegate/clonegate/registry"
)

// Commit writes b wholly or not at all and returns once it is on disk. A
// NextID of zero leaves the kept one. Tokens are removed after those of the
// batch were written. Events must follow on those that are kept: a batch that
// would leave a gap, or that another writer has overtaken, is refused.
//
// The context bounds the wait for the other writers of this process. A write
// that has begun is finished; SQLite waits 5 seconds for other programs.
func (s *Store) Commit(ctx context.Context, b *registry.Batch) error {
	return s.fail("commit to", s.inTransaction(ctx, func(t *transaction) error {
		if b.NextID != 0 {
			t.exec(`INSERT INTO meta (one, next_id) VALUES (1, ?)
				ON CONFLICT (one) DO UPDATE SET next_id = excluded.next_id`, int64(b.NextID))
		}
		for _, c := range b.Clones {
			t.putClone(c)
		}
		for _, r := range b.Templates {
			t.exec(`INSERT INTO templates (name, version, value) VALUES (?, ?, ?)
				ON CONFLICT (name, version) DO UPDATE SET value = excluded.value`,
				r.Name, r.Version, t.json(r))
		}
		for _, r := range b.Channels {
			t.exec(`INSERT INTO channels (template, name, value) VALUES (?, ?, ?)
				ON CONFLICT (template, name) DO UPDATE SET value = excluded.value`,
				r.Template, r.Name, t.json(r))
		}
		for _, r := range b.Tokens {
			t.exec(`INSERT INTO tokens (id, value) VALUES (?, ?)
				ON CONFLICT (id) DO UPDATE SET last_used = NULL, value = excluded.value`,
				r.ID, t.json(r))
		}
		for _, id := range b.NoTokens {
			t.exec(`DELETE FROM tokens WHERE id = ?`, id)
		}
		for i := range b.Events {
			t.addEvent(&b.Events[i])
		}
		t.trimEvents(b.Events, s.keep)
		return t.err
	}))
}

func (t *transaction) putClone(c *registry.Clone) {
	t.exec(`INSERT INTO clones (id, revision, over, value) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET
			revision = excluded.revision, over = excluded.over, value = excluded.value`,
		string(c.ID), int64(c.Revision), c.State.Over(), t.json(c))
	if c.State.Over() {
		t.exec(`DELETE FROM renewals WHERE clone = ?`, string(c.ID))
	}
}

// A transaction runs statements until one fails and then keeps that error, so
// that a list of writes reads as one.
type transaction struct {
	tx  *sql.Tx
	err error
}

// inTransaction waits for the writer, runs fn and commits if fn returns nil.
func (s *Store) inTransaction(ctx context.Context, fn func(*transaction) error) error {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if err := fn(&transaction{tx: tx}); err != nil {
		return err
	}
	return tx.Commit()
}

// exec returns how many rows were written.
func (t *transaction) exec(query string, args ...any) (rows int64) {
	if t.err != nil {
		return 0
	}
	var result sql.Result
	if result, t.err = t.tx.Exec(query, args...); t.err != nil {
		return 0
	}
	rows, t.err = result.RowsAffected()
	return rows
}

// json returns the value column of a record.
func (t *transaction) json(record any) string {
	data, err := json.Marshal(record)
	if err != nil && t.err == nil {
		t.err = fmt.Errorf("encode: %w", err)
	}
	return string(data)
}
