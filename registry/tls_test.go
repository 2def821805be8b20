package registry_test

import (
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

func TestTLSIsChecked(t *testing.T) {
	pin := "sha256:" + strings.Repeat("0a", 32)
	for _, tt := range []struct {
		tls   registry.TLS
		fault string // "": none
	}{
		{registry.TLS{}, ""},
		{registry.TLS{Name: "www.example.com", Verify: "10.0.0.1", Pin: pin}, ""},
		{registry.TLS{Verify: "a_b.example.com"}, ""},
		{registry.TLS{Verify: "fd00::1"}, ""},
		{registry.TLS{Name: "fd00::1"}, "not a host name"},
		{registry.TLS{Verify: "WWW.example.com"}, "not a host name"},
		{registry.TLS{Verify: "a b"}, "not a host name"},
		{registry.TLS{CA: "x"}, "without verify"},
		{registry.TLS{CA: "x", Verify: "a"}, "not certificates in PEM"},
		{registry.TLS{CA: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", Verify: "a"}, "no certificate"},
		{registry.TLS{CA: strings.Repeat("x", 65<<10), Verify: "a"}, "at most"},
		{registry.TLS{Pin: "sha256:00"}, "64 hexadecimal digits"},
		{registry.TLS{Pin: strings.ToUpper(pin)}, "64 hexadecimal digits"},
		{registry.TLS{Pin: strings.TrimPrefix(pin, "sha256:")}, "64 hexadecimal digits"},
	} {
		err := tt.tls.Check()
		if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%.120v: got %v; want %q", tt.tls, err, tt.fault)
		}
	}
}
