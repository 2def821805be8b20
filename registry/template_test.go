package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestTemplatesAndChannels(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	ctx := t.Context()
	digest := func(c string) registry.Publication {
		return registry.Publication{Digest: "sha256:" + strings.Repeat(c, 64)}
	}
	publish := func(version, c string) (bool, error) {
		_, isNew, err := r.PublishTemplate(ctx, registry.System, "shop", version, digest(c))
		return isNew, err
	}
	if isNew, err := publish("1", "a"); err != nil || !isNew {
		t.Fatalf("publish 1: %v, %v", isNew, err)
	}
	if isNew, err := publish("1", "a"); err != nil || isNew {
		t.Errorf("publish 1 again: new %v, %v; want no change", isNew, err)
	}
	if _, err := publish("1", "b"); !errors.Is(err, registry.ErrExists) {
		t.Errorf("publish other content as 1: %v, want ErrExists", err)
	}
	if _, err := publish("stable", "a"); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("publish a version called stable: %v, want ErrInvalid", err)
	}
	if _, err := publish("2", "b"); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"1", "2"} {
		if _, err := r.PromoteTemplate(ctx, registry.System, "shop", "stable", v, ""); err != nil {
			t.Fatal(err)
		}
	}
	resolves := func(ref, want string) {
		t.Helper()
		got, err := r.View().ResolveTemplate(ref)
		if err != nil || got.Version != want {
			t.Errorf("%s resolves to %v, %v; want version %s", ref, got, err, want)
		}
	}
	resolves("shop", "2")
	resolves("shop@stable", "2")
	resolves("shop@candidate", "2")
	resolves("shop@1", "1")
	if _, err := r.RevokeTemplate(ctx, registry.System, "shop", "2", "loses orders"); err != nil {
		t.Fatal(err)
	}
	resolves("shop", "1")
	resolves("shop@candidate", "1")
	if _, err := r.PromoteTemplate(ctx, registry.System, "shop", "stable", "2", ""); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("promote a revoked version: %v, want ErrInvalid", err)
	}
	if _, err := r.Create(ctx, registry.System, registry.CreateRequest{Template: "shop@2"}); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "loses orders") {
		t.Errorf("clone of a revoked version: %v, want ErrInvalid with the reason", err)
	}
	if _, err := r.View().ResolveTemplate("shp"); !errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), "published templates: shop") {
		t.Errorf("unknown template: %v, want ErrNotFound that says what there is", err)
	}
	if _, err := r.RevokeTemplate(ctx, registry.System, "shop", "1", "loses orders too"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"shop", "shop@stable"} {
		if _, err := r.View().ResolveTemplate(ref); !errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), "no version of shop can be used any more") {
			t.Errorf("%s with every version revoked: %v, want ErrNotFound that says so", ref, err)
		}
	}
}
