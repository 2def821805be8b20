package certs

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/smallstep/truststore"
)

// systemFile returns where truststore keeps the root, or "" if it does not
// know this distribution.
func (t *trust) systemFile() string {
	if truststore.SystemTrustFilename == "" {
		return ""
	}
	return fmt.Sprintf(truststore.SystemTrustFilename, strings.ReplaceAll(t.name, " ", "_"))
}

// inSystem reports whether the system's store holds the root.
func (t *trust) inSystem() bool {
	text, err := os.ReadFile(t.systemFile())
	if err != nil {
		return false
	}
	block, _ := pem.Decode(text)
	return block != nil && bytes.Equal(block.Bytes, t.cert.Raw)
}

func (t *trust) systemInstallByHand() []string {
	if t.systemFile() == "" {
		return []string{"add " + t.file + " to the roots that this system trusts"}
	}
	return []string{
		"sudo cp " + quote(t.file) + " " + quote(t.systemFile()),
		"sudo " + strings.Join(truststore.SystemTrustCommand, " "),
	}
}

func (t *trust) systemUninstallByHand() []string {
	return []string{
		"sudo rm -f " + quote(t.systemFile()),
		"sudo " + strings.Join(truststore.SystemTrustCommand, " "),
	}
}
