package daemon

import (
	"os"
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
)

// TestMetricsAreDocumented compares what a daemon registers with the table in
// docs/operations.md.
func TestMetricsAreDocumented(t *testing.T) {
	cfg, _, err := config.Load(config.Sources{Set: []string{
		"zone=a.localhost", "data=" + t.TempDir(), "gateway.listen=127.0.0.1:0", "gateway.redirect=off",
		"api.listen=127.0.0.1:0", "dns.listen=127.0.0.1:0", "certificates.acme.directory=https://127.0.0.1:1/dir",
	}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), Options{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	registered := map[string]bool{"clonegate_certs_file_expiry_timestamp_seconds": true} // with certificate files only
	descs := make(chan *prometheus.Desc)
	go func() { d.metrics.Describe(descs); close(descs) }()
	name := regexp.MustCompile(`fqName: "(clonegate_[a-z_]+)"`)
	for desc := range descs {
		if m := name.FindStringSubmatch(desc.String()); m != nil {
			registered[m[1]] = true
		}
	}
	page, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("`(clonegate_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = true
	}
	for m := range registered {
		if !documented[m] {
			t.Errorf("%s is not in docs/operations.md", m)
		}
	}
	for m := range documented {
		if !registered[m] {
			t.Errorf("%s is in docs/operations.md and no daemon has it", m)
		}
	}
}
