package certs_test

import (
	"strings"
	"testing"
)

// TestDocs runs the commands of docs/certificates.md in a data directory.
func TestDocs(t *testing.T) {
	require(t, "curl openssl", "curl", "openssl")
	ca, cfg := mustCA(t)
	port := serve(t, ca.GetCertificate)
	want := []string{zone, "this is www-1234." + zone}
	_, rest, found := strings.Cut(string(mustRead(t, "../docs/certificates.md")), "```sh\n")
	for n := 0; found; n++ {
		var block string
		block, rest, _ = strings.Cut(rest, "```")
		got, err := output(t, strings.ReplaceAll(block, ":8443", ":"+port), nil, "sh", "-c", "cd "+cfg.Dir+" && sh -e")
		if err != nil || n >= len(want) || !strings.Contains(got, want[n]) {
			t.Errorf("block %d of docs/certificates.md:\n%s\ngot %q, %v; want %q", n+1, block, got, err, want)
		}
		_, rest, found = strings.Cut(rest, "```sh\n")
	}
}
