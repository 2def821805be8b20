package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/clonegate/clonegate/registry/durable"
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
	Netns  string `json:"netns,omitempty"` // the network namespace it is in
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
	return durable.WriteFile(filepath.Join(data, addressesName), append(text, '\n'), 0o644)
}
