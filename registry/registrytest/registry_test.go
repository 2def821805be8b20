package registrytest_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestNew(t *testing.T) {
	var full atomic.Bool
	store := registrytest.NewStore()
	store.Fail = func(string) error {
		if full.Load() {
			return registry.ErrFull
		}
		return nil
	}
	r := registrytest.New(t, func(cfg *registry.Config) { cfg.Store = store })
	register := func(id registry.ID) error {
		_, err := r.Register(t.Context(), registry.System, id, registry.Registration{Instance: "one"}, false)
		return err
	}
	if err := register("7"); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.View().Lookup("7"); !ok {
		t.Error("registered clone 7 is not in the view")
	}
	full.Store(true)
	if err := register("8"); !errors.Is(err, registry.ErrFull) {
		t.Errorf("register on a full store: %v, want ErrFull", err)
	}
	full.Store(false)
	if err := register("8"); err != nil {
		t.Errorf("register once there is space: %v", err)
	}
}
