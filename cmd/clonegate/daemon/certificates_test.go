package daemon_test

import (
	"crypto/x509"
	"os"
	"slices"
	"testing"

	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
)

// TestNamesBelowAServiceHaveCertificates asks for names of tenants. Each has a
// certificate for itself alone, and those of clones that nobody registered have
// none.
func TestNamesBelowAServiceHaveCertificates(t *testing.T) {
	const zone = "test_envs.localhost"
	dir := t.TempDir()
	d, _ := start(t, configure(t, dir, "endpoints.allow=127.0.0.0/8"))
	register(t, d, dir, "1234", echo(t), "pr-87")
	roots := x509.NewCertPool()
	if root, err := os.ReadFile(daemon.CAFile(dir)); err != nil || !roots.AppendCertsFromPEM(root) {
		t.Fatalf("the root of the internal CA: %v", err)
	}
	for name, certified := range map[string]bool{
		"tenant.www-1234":   true,
		"tenant.1234":       true, // a service that the clone may yet get
		"tenant.pr-87":      true,
		"tenant.www-pr-87":  true,
		"tenant.www.1234":   true,
		"tenant.www.pr-87":  true,
		"a.b.c.www-1234":    true,
		"A.Tenant.www-1234": true,
		"a.b.c.d.www-1234":  false, // too deep
		"tenant.api-1234":   false, // there is no such service
		"tenant.api.1234":   false,
		"tenant.www-9999":   false, // and no such clone
		"tenant.www.9999":   false,
		"-.www-1234":        false,
	} {
		name += "." + zone
		leaf, err := handshake(t, d.Addresses().Gateway.Listen, name, roots)
		switch {
		case (err == nil) != certified:
			t.Errorf("%s: %v; want a certificate: %v", name, err, certified)
		case certified && leaf.VerifyHostname("other.www-1234."+zone) == nil:
			t.Errorf("%s: its certificate is for other tenants, too: %v", name, leaf.DNSNames)
		}
	}
	leaf, err := handshake(t, d.Addresses().Gateway.Listen, "www-1234."+zone, roots)
	if err != nil || slices.Contains(leaf.DNSNames, "tenant.www-1234."+zone) {
		t.Errorf("the clone's own certificate: %v, %v", leaf, err)
	}
}
