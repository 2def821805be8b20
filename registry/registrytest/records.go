package registrytest

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/clonegate/clonegate/registry"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 123_456_789, time.UTC)

// fullContents returns one record of each kind with every field set, so that
// a store that drops one is found out. NextID is that of a batch; events are
// not among it.
func fullContents() *registry.Contents {
	addr := netip.MustParseAddrPort
	return &registry.Contents{
		NextID: 1235,
		Clones: []*registry.Clone{{
			ID: "1234", Incarnation: 3, Revision: 1, Instance: "6f1c", Past: []string{"5e0b", "4d9a"},
			Provider: "process", Template: "shop@2026.11.21-1", DeployTag: "v17", Owner: "ada",
			Labels:  map[string]string{"team": "shop", "quote": `"<&>` + "\u2028"},
			Aliases: []string{"pr-87"}, Params: map[string]string{"greeting": "Grüße"},
			State: registry.Degraded, Desired: registry.WantReady, Reason: "api2 does not answer",
			Services: map[string]*registry.Service{
				"www": {Endpoints: []netip.AddrPort{addr("10.0.4.10:8080")}, Protocol: registry.HTTP, Default: true},
				"api": {
					Endpoints: []netip.AddrPort{addr("10.0.4.20:8080"), addr("[fd00::20]:8080")}, Protocol: registry.H2C,
					Health: &registry.Health{Path: "/healthz", Interval: 10, Timeout: 2},
				},
			},
			Hosts: map[registry.Host][]netip.Addr{
				"db": {netip.MustParseAddr("10.80.0.30"), netip.MustParseAddr("fd00::30")},
			},
			Records: []registry.Record{{Name: "_shop._tcp", Type: "SRV", TTL: 60, Data: "0 0 8080 web"}},
			Forward: []registry.Forward{{Zone: "corp.example.com", Servers: []netip.AddrPort{addr("10.0.0.53:53")}}},
			Faults: []*registry.Fault{{
				ID: 9, By: "ada", Created: noon, Until: noon.Add(time.Hour),
				FaultSpec: registry.FaultSpec{
					Kind: registry.FaultLatency, Percent: 30, Service: "api", Path: "/v1/", Name: "db", Delay: 200, Jitter: 50,
					Status: 503, Rate: 65536, Direction: registry.DirectionUp,
				},
			}},
			TTL: 120, Created: noon, Changed: noon.Add(time.Minute), Ended: noon.Add(time.Hour), EndedBy: "ada",
		}},
		Templates: []*registry.Template{{
			Name: "shop", Version: "2026.11.21-1", Revision: 2, Digest: "sha256:00", DeployTag: "v17",
			State: registry.Revoked, Reason: "leaks", Manifest: json.RawMessage(`{"hosts":{"db":{"address":30}}}`),
			Inputs: map[string]string{"api": "17"}, Created: noon, By: "ci",
		}},
		Channels: []*registry.Channel{{
			Template: "shop", Name: "stable", Version: "2026.11.21-1", Revision: 3,
			History: []registry.Promotion{{Version: "2026.11.21-1", Time: noon, By: "ci", Why: "it works"}},
		}},
		Tokens: []*registry.Token{{
			ID: "k7", Name: "ci", Role: registry.RoleClone, IDs: []registry.IDRange{{First: "1000", Last: "1999"}},
			Takeover: true, Hash: "ab", Created: noon, Expires: noon.Add(time.Hour), LastUsed: noon,
		}},
	}
}

// sortContents sorts records by their keys.
func sortContents(c *registry.Contents) {
	slices.SortFunc(c.Clones, func(a, b *registry.Clone) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(c.Templates, func(a, b *registry.Template) int { return cmp.Compare(a.Ref(), b.Ref()) })
	slices.SortFunc(c.Channels, func(a, b *registry.Channel) int {
		return cmp.Or(cmp.Compare(a.Template, b.Template), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(c.Tokens, func(a, b *registry.Token) int { return cmp.Compare(a.ID, b.ID) })
}

// diffContents returns how two sorted contents differ, "" if they do not.
// What Touch records is compared by the millisecond.
func diffContents(want, got *registry.Contents) string {
	return gocmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}),
		gocmp.FilterPath(func(p gocmp.Path) bool {
			last := p.String()
			return last == "Renewed" || last == "Tokens.LastUsed"
		}, cmpopts.EquateApproxTime(time.Millisecond)))
}
