package registry_test

import (
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// open runs a registry over store until the test ends, under a zone with an alias.
func open(t *testing.T, store registry.Store, change func(*registry.Config)) *registry.Registry {
	t.Helper()
	zones, err := registry.NewZones(registrytest.Zone, "test-envs.internal.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return registrytest.New(t, func(cfg *registry.Config) {
		cfg.Store, cfg.Zones, cfg.Providers = store, zones, []string{"process"}
		if change != nil {
			change(cfg)
		}
	})
}

// shop is what a clone of a shop registers.
func shop(instance string) registry.Registration {
	return registry.Registration{
		Instance: instance,
		Owner:    "ada",
		Services: map[string]registry.ServiceRegistration{
			"www": {Endpoints: []string{"10.0.4.10:8080"}, Default: true, Health: &registry.HealthRegistration{Path: "/healthz"}},
			"api": {Endpoints: []string{"10.0.4.20:8080", "10.0.4.21:8080"}},
		},
		Hosts: map[string][]string{"db": {"10.80.0.30"}},
	}
}
