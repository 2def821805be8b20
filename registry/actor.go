package registry

import (
	"fmt"
)

// An Actor is who asks for a change, for the audit log and for the rules.
type Actor struct {
	Token *Token // nil: the daemon itself
	From  string // remote address; empty for the daemon itself
}

// System is the daemon acting on its own.
var System = Actor{}

// Name returns the actor's name for people.
func (a Actor) Name() string {
	if a.Token == nil {
		return "clonegate"
	}
	return a.Token.Name
}

// need returns nil if the actor has the role or is an admin or the daemon.
func (a Actor) need(role Role) error {
	if a.Token == nil || a.Token.Role == RoleAdmin || a.Token.Role == role {
		return nil
	}
	return fmt.Errorf("%w: this needs a token of role %s or admin; token %s has role %s", ErrForbidden, role, a.Token.ID, a.Token.Role)
}

func (a Actor) mayRegister(id ID) error {
	if a.Token == nil || a.Token.Covers(id) {
		return nil
	}
	if a.Token.Role == RoleClone {
		return fmt.Errorf("%w: token %s was issued for clone %v, not for %s", ErrForbidden, a.Token.ID, a.Token.IDs, id)
	}
	return a.need(RoleClone)
}

func (a Actor) mayTakeOver() bool {
	return a.Token == nil || a.Token.Role == RoleAdmin || a.Token.Takeover
}

// owns returns nil if the actor may end c and change what its owner may.
func (a Actor) owns(c *Clone) error {
	if err := a.need(RoleEngineer); err != nil {
		return err
	}
	if a.Token != nil && a.Token.Role == RoleEngineer && c.Owner != a.Token.Name {
		return fmt.Errorf("%w: clone %s belongs to %s; token %s is for clones of %s only", ErrForbidden, c.ID, orNobody(c.Owner), a.Token.ID, a.Token.Name)
	}
	return nil
}
