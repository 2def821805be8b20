package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/clonegate/clonegate/registry/sqlite"
)

func TestStore(t *testing.T) {
	t.Parallel()
	registrytest.TestStore(t, func(t *testing.T) (registry.Store, func() registry.Store) {
		path := filepath.Join(t.TempDir(), "registry.db")
		s := open(t, path)
		return s, func() registry.Store {
			t.Helper()
			if err := s.Close(); err != nil {
				t.Fatalf("close: %v", err)
			}
			s = open(t, path)
			return s
		}
	})
}

// open opens the store at path until the test ends.
func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	return openWith(t, path, sqlite.Config{})
}

func openWith(t testing.TB, path string, cfg sqlite.Config) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
