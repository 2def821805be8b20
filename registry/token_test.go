package registry_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, registrytest.NewStore(), nil)
		ctx := t.Context()
		token, secret, err := r.CreateToken(ctx, registry.System, registry.TokenRequest{Name: "ci", Role: registry.RoleClone, IDs: []string{"1000-1999"}, TTL: 3600})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(secret, registry.TokenPrefix+token.ID+"_") || strings.Contains(token.Hash, secret[len(secret)-20:]) {
			t.Errorf("secret %q of token %s", secret, token.ID)
		}
		if got, err := r.Authenticate(secret); err != nil || got.ID != token.ID {
			t.Errorf("authenticate: %v, %v", got, err)
		}
		for _, bad := range []string{"", "cgt_", "cgt_" + token.ID + "_", secret[:len(secret)-1], secret + "A", strings.ToLower(secret)} {
			if _, err := r.Authenticate(bad); !errors.Is(err, registry.ErrNoToken) {
				t.Errorf("authenticate %q: %v, want ErrNoToken", bad, err)
			}
		}
		time.Sleep(time.Hour)
		if _, err := r.Authenticate(secret); !errors.Is(err, registry.ErrNoToken) {
			t.Errorf("authenticate an hour later: %v, want ErrNoToken", err)
		}
		time.Sleep(25 * time.Hour)
		if _, ok := r.View().Token(token.ID); ok {
			t.Error("an expired token was kept for more than a day")
		}
		if _, _, err := r.CreateToken(ctx, registry.Actor{Token: token}, registry.TokenRequest{Name: "x", Role: registry.RoleAdmin}); !errors.Is(err, registry.ErrForbidden) {
			t.Errorf("a clone token makes an admin token: %v, want ErrForbidden", err)
		}
	})
}
