package registrytest_test

import (
	"errors"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestStore(t *testing.T) {
	registrytest.TestStore(t, func(*testing.T) (registry.Store, func() registry.Store) {
		s := registrytest.NewStore()
		return s, func() registry.Store { return s }
	})
}

func TestStoreFails(t *testing.T) {
	s := registrytest.NewStore()
	var asked []string
	s.Fail = func(method string) error {
		asked = append(asked, method)
		return registry.ErrFull
	}
	b := &registry.Batch{Clones: []*registry.Clone{{ID: "7"}}, Events: []registry.Event{{Seq: 1}}}
	if err := s.Commit(t.Context(), b); !errors.Is(err, registry.ErrFull) {
		t.Errorf("Commit = %v, want ErrFull", err)
	}
	if err := s.Touch(t.Context(), registry.Touches{}); !errors.Is(err, registry.ErrFull) {
		t.Errorf("Touch = %v, want ErrFull", err)
	}
	if len(asked) != 2 || asked[0] != "Commit" || asked[1] != "Touch" {
		t.Errorf("Fail was asked for %v, want Commit and Touch", asked)
	}
	if c, err := s.Load(t.Context(), 1); err != nil || len(c.Clones) != 0 {
		t.Errorf("after a commit that failed, Load = %+v, %v; want nothing", c, err)
	}
}
