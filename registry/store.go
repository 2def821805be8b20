package registry

import (
	"context"
	"time"
)

// A Store keeps the registry's records. Package registry/sqlite is the
// embedded one. A Store applies no rules: it writes what the Registry decided.
// Its methods may be called at the same time, but only one Commit runs at once.
type Store interface {
	// Load returns everything that is kept: living clones, templates, tokens,
	// and the newest of the clones that are gone, at most tombstones of them.
	Load(ctx context.Context, tombstones int) (*Contents, error)

	// Commit writes b wholly or not at all and returns once it would survive
	// a power cut. A full disk is ErrFull; every other failure ErrUnavailable.
	Commit(ctx context.Context, b *Batch) error

	// Clone returns one clone, however long it has been gone.
	// The error is ErrNotFound if there never was one.
	Clone(ctx context.Context, id ID) (*Clone, error)

	// Events returns up to limit events after seq, oldest first.
	Events(ctx context.Context, after uint64, limit int) ([]Event, error)

	// Touch records when leases were renewed and tokens used. It need not
	// survive a power cut.
	Touch(ctx context.Context, t Touches) error
}

// Contents is what a Store held when it was loaded.
type Contents struct {
	Revision  uint64 // sequence number of the newest event
	NextID    uint64 // the next ID to try when one is allocated; 0 if none was yet
	Clones    []*Clone
	Templates []*Template
	Channels  []*Channel
	Tokens    []*Token
	Renewed   map[ID]time.Time
}

// A Batch is a set of changes that become durable together. A record in it
// replaces the one of the same key.
type Batch struct {
	NextID    uint64
	Clones    []*Clone
	Templates []*Template
	Channels  []*Channel
	Tokens    []*Token
	NoTokens  []string // IDs of tokens to remove
	Events    []Event  // never empty, in sequence
}

// Touches is when things were last heard of.
type Touches struct {
	Renewed  map[ID]time.Time
	LastUsed map[string]time.Time // token ID →
}
