package registry

import (
	"context"
	"time"
)

// An Event is one line of the audit log: who did what to which record. Events
// have no gaps: each change of a record is one event, and the registry's
// revision is the sequence number of the newest.
type Event struct {
	Seq         uint64    `json:"seq"`
	Time        time.Time `json:"time"`
	Type        string    `json:"type"` // "clone.registered", "template.promoted", …
	Clone       ID        `json:"clone,omitempty"`
	Incarnation uint64    `json:"incarnation,omitempty"`
	State       State     `json:"state,omitempty"`
	Template    string    `json:"template,omitempty"`
	DeployTag   string    `json:"deploy_tag,omitempty"`
	Token       string    `json:"token,omitempty"` // the token that was made or revoked
	By          string    `json:"by,omitempty"`    // name and ID of the token that asked
	From        string    `json:"from,omitempty"`  // address that asked
	Message     string    `json:"message,omitempty"`
}

// The types of events.
const (
	EventCloneCreated      = "clone.created"     // an ID was allocated
	EventCloneRegistered   = "clone.registered"  // a life began
	EventCloneChanged      = "clone.changed"     // the living instance changed its registration
	EventCloneState        = "clone.state"       // a provider moved its state
	EventCloneLost         = "clone.lost"        // its lease ran out
	EventCloneStopping     = "clone.stopping"    // it was asked to end
	EventCloneGone         = "clone.gone"        // it has ended
	EventFaultAdded        = "clone.fault.added" // it has a trouble on purpose
	EventFaultRemoved      = "clone.fault.removed"
	EventFaultExpired      = "clone.fault.expired"
	EventTemplatePublished = "template.published" //
	EventTemplatePromoted  = "template.promoted"  //
	EventTemplateRevoked   = "template.revoked"   //
	EventTokenCreated      = "token.created"      //
	EventTokenRevoked      = "token.revoked"      //
	EventZoneChanged       = "zone.changed"       // DNS answers something else, and not because of a clone
	EventRecovered         = "registry.recovered" // the store takes writes again
)

// NoteZone writes that DNS answers something else than before, and why, though
// no clone has changed. The revision, the serial number of the zones, moves on.
func (r *Registry) NoteZone(ctx context.Context, why string) error {
	return r.write(ctx, func(t *tx) error {
		t.note(EventZoneChanged, why)
		return nil
	})
}
