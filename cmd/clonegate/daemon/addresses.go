package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Addresses is what a running daemon listens on, under the keys of its
// configuration, with the real ports. It is <data>/addresses.json.
type Addresses struct {
	PID     int              `json:"pid"`
	Version string           `json:"version"`
	Zone    string           `json:"zone"`
	Gateway GatewayAddresses `json:"gateway"`
	API     APIAddresses     `json:"api"`
	DNS     DNSAddresses     `json:"dns"`
}

// GatewayAddresses is where clones are served.
type GatewayAddresses struct {
	Listen   string `json:"listen"`
	Redirect string `json:"redirect,omitempty"`
}

// APIAddresses is where the API is served.
type APIAddresses struct {
	Listen string `json:"listen"`
	URL    string `json:"url"` // as the command line on this machine calls it
}

// DNSAddresses is where names are answered.
type DNSAddresses struct {
	Listen    string              `json:"listen,omitempty"`
	Resolvers []ResolverAddresses `json:"resolvers,omitempty"`
}

// ResolverAddresses is where one resolver answers, in the order of the
// configuration.
type ResolverAddresses struct {
	Listen string `json:"listen"`
}

const addressesName = "addresses.json"

// ReadAddresses returns the addresses of the daemon that has, or last had, a
// data directory.
func ReadAddresses(data string) (*Addresses, error) {
	name := filepath.Join(data, addressesName)
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	a := new(Addresses)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

// write replaces the addresses in a data directory.
func (a *Addresses) write(data string) error {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return ReplaceFile(filepath.Join(data, addressesName), append(text, '\n'), 0o644)
}

// ReplaceFile puts a file in place at once, with this mode whatever was there:
// a reader sees the old text or the new, and the new one survives a power cut.
func ReplaceFile(name string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
