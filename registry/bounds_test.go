package registry_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// Too many tokens are no full disk: who asks for one more is told what to do.
func TestTokensAreBounded(t *testing.T) {
	store := registrytest.NewStore()
	const most = 20_000
	b := &registry.Batch{}
	for i := range most {
		b.Tokens = append(b.Tokens, &registry.Token{ID: fmt.Sprintf("t%d", i), Name: "x", Role: registry.RoleViewer})
	}
	if err := store.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	r := open(t, store, nil)
	_, _, err := r.CreateToken(t.Context(), registry.System, registry.TokenRequest{Name: "one more", Role: registry.RoleViewer})
	if !errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrFull) || !strings.Contains(err.Error(), "revoke some") {
		t.Errorf("one token more than %d: got %v, want an ErrInvalid that says to revoke some", most, err)
	}
}
