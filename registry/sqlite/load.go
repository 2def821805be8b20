package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/registry"
)

// Load returns everything that is kept as of one moment: all clones that are
// not over, and of those that are the ones with the highest revisions. Times
// of renewal and use are exact to the millisecond.
func (s *Store) Load(ctx context.Context, tombstones int) (*registry.Contents, error) {
	tx, err := s.read.BeginTx(ctx, nil) // all queries see the same moment
	if err != nil {
		return nil, s.fail("load", err)
	}
	defer tx.Rollback()
	c, err := load(ctx, tx, tombstones)
	if err != nil {
		return nil, s.fail("load", err)
	}
	return c, nil
}

func load(ctx context.Context, tx *sql.Tx, tombstones int) (*registry.Contents, error) {
	var revision, nextID int64
	err := tx.QueryRowContext(ctx, `SELECT
		coalesce((SELECT max(seq) FROM events), 0),
		coalesce((SELECT next_id FROM meta), 0)`).Scan(&revision, &nextID)
	if err != nil {
		return nil, err
	}
	c := &registry.Contents{Revision: uint64(revision), NextID: uint64(nextID)}
	living, err := decodeAll[registry.Clone](ctx, tx,
		`SELECT 'clone ' || id, value FROM clones WHERE over = 0`)
	if err != nil {
		return nil, err
	}
	over, err := decodeAll[registry.Clone](ctx, tx,
		`SELECT 'clone ' || id, value FROM clones WHERE over = 1 ORDER BY revision DESC LIMIT ?`, max(tombstones, 0))
	if err != nil {
		return nil, err
	}
	c.Clones = append(living, over...)
	if c.Templates, err = decodeAll[registry.Template](ctx, tx,
		`SELECT 'template ' || name || '@' || version, value FROM templates`); err != nil {
		return nil, err
	}
	if c.Channels, err = decodeAll[registry.Channel](ctx, tx,
		`SELECT 'channel ' || template || '@' || name, value FROM channels`); err != nil {
		return nil, err
	}
	if c.Tokens, err = loadTokens(ctx, tx); err != nil {
		return nil, err
	}
	c.Renewed, err = loadRenewals(ctx, tx)
	return c, err
}

func loadTokens(ctx context.Context, tx *sql.Tx) ([]*registry.Token, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, last_used, value FROM tokens`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var tokens []*registry.Token
	for rows.Next() {
		var r row
		var lastUsed sql.NullInt64
		if err := rows.Scan(&r.name, &lastUsed, &r.value); err != nil {
			return nil, err
		}
		t, err := decode[registry.Token](row{"token " + r.name, r.value})
		if err != nil {
			return nil, err
		}
		if lastUsed.Valid {
			t.LastUsed = time.UnixMilli(lastUsed.Int64).UTC()
		}
		tokens = append(tokens, t)
	}
	return tokens, rows.Err()
}

func loadRenewals(ctx context.Context, tx *sql.Tx) (map[registry.ID]time.Time, error) {
	rows, err := tx.QueryContext(ctx, `SELECT clone, renewed FROM renewals`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	renewed := map[registry.ID]time.Time{}
	for rows.Next() {
		var id string
		var at int64
		if err := rows.Scan(&id, &at); err != nil {
			return nil, err
		}
		renewed[registry.ID(id)] = time.UnixMilli(at).UTC()
	}
	return renewed, rows.Err()
}

// A row is a value as it is kept, and what to call it in an error.
type row struct {
	name  string // "clone 1234"
	value []byte
}

func decode[T any](r row) (*T, error) {
	record := new(T)
	if err := json.Unmarshal(r.value, record); err != nil {
		return nil, damage(fmt.Sprintf("%s: %v", r.name, err))
	}
	return record, nil
}

// decodeTogether is how many rows are decoded in one go.
const decodeTogether = 512

// decodeAll returns the records of a query whose columns are those of a row.
// Decoding is most of the work of loading, so it is done on every processor
// while the next rows are read.
func decodeAll[T any](ctx context.Context, tx *sql.Tx, query string, args ...any) ([]*T, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var decoders errgroup.Group
	decoders.SetLimit(runtime.GOMAXPROCS(0))
	var parts [][]*T
	for {
		some, err := nextRows(rows, decodeTogether)
		if err != nil {
			decoders.Wait()
			return nil, err
		}
		if len(some) == 0 {
			break
		}
		part := make([]*T, len(some))
		parts = append(parts, part)
		decoders.Go(func() (err error) {
			for i := range some {
				if part[i], err = decode[T](some[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = decoders.Wait()
	return slices.Concat(parts...), err
}

// nextRows reads up to limit rows; none are left if it returns none.
func nextRows(rows *sql.Rows, limit int) ([]row, error) {
	var some []row
	for len(some) < limit && rows.Next() {
		var r row
		if err := rows.Scan(&r.name, &r.value); err != nil {
			return nil, err
		}
		some = append(some, r)
	}
	return some, rows.Err()
}

// Clone returns one clone, however long it has been gone.
func (s *Store) Clone(ctx context.Context, id registry.ID) (*registry.Clone, error) {
	r := row{name: "clone " + string(id)}
	err := s.read.QueryRowContext(ctx, `SELECT value FROM clones WHERE id = ?`, string(id)).Scan(&r.value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%s: %w", r.name, registry.ErrNotFound)
	}
	if err != nil {
		return nil, s.fail("read "+r.name+" from", err)
	}
	c, err := decode[registry.Clone](r)
	if err != nil {
		return nil, s.fail("read "+r.name+" from", err)
	}
	return c, nil
}
