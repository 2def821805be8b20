package shop_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
)

// network is where the hosts of the tests' clone are.
const network = "127.0.4."

// readTemplate returns the shop's manifest.
func readTemplate(t *testing.T) *manifest.Manifest {
	t.Helper()
	text, err := os.ReadFile("template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse("template.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// saysTheSame checks that a clone has been registered as what its template
// says it is.
func saysTheSame(t *testing.T, m *manifest.Manifest, c *registry.Clone) {
	t.Helper()
	type service struct {
		Endpoints []string
		Default   bool
		Health    string
	}
	want, got := map[string]service{}, map[string]service{}
	for name, s := range m.Services {
		w := service{Default: s.Default, Health: s.Health.Path}
		for _, host := range s.Hosts {
			w.Endpoints = append(w.Endpoints, fmt.Sprintf("%s%d:%d", network, m.Hosts[host].Address, s.Port))
		}
		want[name] = w
	}
	for name, s := range c.Services {
		g := service{Default: s.Default, Health: s.Health.Path}
		for _, ep := range s.Endpoints {
			g.Endpoints = append(g.Endpoints, ep.String())
		}
		got[name] = g
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("services of template.yaml (-) and startup.sh (+):\n%s", diff)
	}

	wantHosts, gotHosts := map[string]string{}, map[string]string{}
	for name, h := range m.Hosts {
		wantHosts[name] = fmt.Sprintf("[%s%d]", network, h.Address)
	}
	for name, addresses := range c.Hosts {
		gotHosts[string(name)] = fmt.Sprint(addresses)
	}
	if diff := cmp.Diff(wantHosts, gotHosts); diff != "" {
		t.Errorf("hosts of template.yaml (-) and startup.sh (+):\n%s", diff)
	}
	if diff := cmp.Diff(m.Records, c.Records); diff != "" {
		t.Errorf("records of template.yaml (-) and startup.sh (+):\n%s", diff)
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	m := readTemplate(t)
	if diff := cmp.Diff([][]string{{"db"}, {"api1", "api2"}, {"web"}}, m.Levels()); diff != "" {
		t.Errorf("order of start (-want +got):\n%s", diff)
	}
	for _, dir := range m.Data {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			t.Errorf("data directory %s: %v", dir, err)
		}
	}
	if m.Startup[len(m.Startup)-1] != "startup.sh" {
		t.Errorf("startup is %q, want startup.sh", m.Startup)
	}
}
