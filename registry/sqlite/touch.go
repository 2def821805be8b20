package sqlite

import (
	"context"
	"maps"
	"slices"

	"github.com/clonegate/clonegate/registry"
)

// touchTogether bounds how many renewals one transaction writes, and so how
// long a registration may have to wait for them.
const touchTogether = 1000

// Touch records when leases were renewed and tokens used, to the millisecond.
// Clones that are unknown or over, and unknown tokens, are passed over. After
// an error a part may have been recorded.
func (s *Store) Touch(ctx context.Context, touches registry.Touches) error {
	// In order of their keys, neighbours share a page of the file.
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(touches.Renewed)), touchTogether) {
		err := s.inTransaction(ctx, func(t *transaction) error {
			for _, id := range ids {
				t.exec(`INSERT INTO renewals (clone, renewed)
					SELECT id, ?2 FROM clones WHERE id = ?1 AND over = 0
					ON CONFLICT (clone) DO UPDATE SET renewed = excluded.renewed`,
					string(id), touches.Renewed[id].UnixMilli())
			}
			return t.err
		})
		if err != nil {
			return s.fail("write renewals to", err)
		}
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(touches.LastUsed)), touchTogether) {
		err := s.inTransaction(ctx, func(t *transaction) error {
			for _, id := range ids {
				t.exec(`UPDATE tokens SET last_used = ? WHERE id = ?`, touches.LastUsed[id].UnixMilli(), id)
			}
			return t.err
		})
		if err != nil {
			return s.fail("write the use of tokens to", err)
		}
	}
	return nil
}
