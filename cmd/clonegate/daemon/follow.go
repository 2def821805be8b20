package daemon

import (
	"context"
	"errors"

	"github.com/clonegate/clonegate/registry"
)

// follow calls fn for every clone, and again when its record changes, until ctx
// ends. Of changes that follow one another fast, it may miss all but the last.
func follow(ctx context.Context, view *registry.View, fn func(*registry.Clone)) error {
	for {
		revision := view.Revision()
		for c := range view.Clones("") {
			fn(c)
		}
		if err := followFrom(ctx, view, revision, fn); !errors.Is(err, registry.ErrLagged) {
			return err
		}
	}
}

// followFrom does so for what changes after a revision. The error is
// registry.ErrLagged if it has to begin again, and nil when ctx has ended.
func followFrom(ctx context.Context, view *registry.View, revision uint64, fn func(*registry.Clone)) error {
	for {
		changes, err := view.Changes(ctx, revision)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, ch := range changes {
			revision = ch.Revision
			if ch.Clone != nil {
				fn(ch.Clone)
			}
		}
	}
}

// forgetOver has the rooms let go of what they keep ready for a clone whose life
// is over.
func (d *Daemon) forgetOver(ctx context.Context) error {
	return follow(ctx, d.registry.View(), func(c *registry.Clone) {
		if !c.State.Over() {
			return
		}
		if d.certificates.forget != nil {
			d.certificates.forget(leafKey(c))
		}
		if d.dns != nil {
			d.dns.Forget(c.ID)
		}
	})
}
