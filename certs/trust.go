package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/smallstep/truststore"
)

// A TrustStep is what was done about one store of trusted roots.
type TrustStep struct {
	Store   string       `json:"store"` // "system", "java", or the folder of an NSS database
	Outcome TrustOutcome `json:"outcome"`
	Detail  string       `json:"detail,omitempty"` // why, for people
	ByHand  []string     `json:"by_hand,omitempty"`
}

// A TrustOutcome says how a TrustStep ended.
type TrustOutcome string

// The outcomes of a TrustStep.
const (
	TrustDone    TrustOutcome = "done"
	TrustAlready TrustOutcome = "already" // nothing had to be changed
	TrustFailed  TrustOutcome = "failed"  // ByHand says what the user can do
	TrustSkipped TrustOutcome = "skipped" // the store's owner is not installed, or cannot be reached from here
)

// Install makes this machine trust the root in a PEM file: the system's store,
// the NSS databases of Chromium and Firefox, and Java's. One store that fails
// does not keep the others from it. The error is for a file that holds no root
// bound to a few zones, before anything is touched.
//
// The commands for the user refer to file, which should stay where it is. say,
// if not nil, is told in a phrase what is about to be attempted, in particular
// what needs root's rights: sudo may then ask for a password on the terminal.
func Install(file string, say func(string)) ([]TrustStep, error) {
	t, err := newTrust(file, say)
	if err != nil {
		return nil, err
	}
	steps := append([]TrustStep{t.installSystem()}, t.installNSS()...)
	return append(steps, t.installJava()), nil
}

// Uninstall takes back what Install did, also if it was done by hand under the
// names that Install proposed.
func Uninstall(file string, say func(string)) ([]TrustStep, error) {
	t, err := newTrust(file, say)
	if err != nil {
		return nil, err
	}
	steps := append([]TrustStep{t.uninstallSystem()}, t.uninstallNSS()...)
	return append(steps, t.uninstallJava()), nil
}

// A trust is a root on its way into, or out of, the stores.
type trust struct {
	file string // absolute
	cert *x509.Certificate
	name string // under which NSS and Java know it
	say  func(string)
}

func newTrust(file string, say func(string)) (*trust, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("trust %s: no certificate in PEM form in the file", file)
	}
	cert, err := parseCA(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("trust %s: %w", file, err)
	}
	if say == nil {
		say = func(string) {}
	}
	// The name that truststore uses, so that each knows what the other did.
	name := cert.Subject.CommonName + " " + cert.SerialNumber.String()
	say(fmt.Sprintf("the root %s, valid for %s, SHA-256 %s", cert.Subject.CommonName, strings.Join(cert.PermittedDNSDomains, ", "), Fingerprint(cert)))
	return &trust{file, cert, name, say}, nil
}

// Fingerprint returns the SHA-256 of a certificate as browsers show it.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

// quote makes s one word of a POSIX shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:=@,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// reason returns why a command of truststore failed, in one line.
func reason(err error) string {
	if cmd, ok := errors.AsType[*truststore.CmdError](err); ok {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Cmd().Args, " "), cmd.Err(), cmd.Out())
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
