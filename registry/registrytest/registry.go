package registrytest

import (
	"context"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// Zone is the zone of a registry that New makes.
const Zone = "test_envs.internal.example.com"

// New opens a registry and runs it until the test ends. It stands on a Store
// in memory and under Zone, unless change says otherwise.
func New(t testing.TB, change ...func(*registry.Config)) *registry.Registry {
	t.Helper()
	zones, err := registry.NewZones(Zone)
	if err != nil {
		t.Fatal(err)
	}
	cfg := registry.Config{Store: NewStore(), Zones: zones}
	for _, fn := range change {
		fn(&cfg)
	}
	r, err := registry.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("registry: %v", err)
		}
	})
	return r
}
