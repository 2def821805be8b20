package dnsmasq

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
	"time"
)

// defaultResolvFile names the machine's own DNS servers.
const defaultResolvFile = "/etc/resolv.conf"

// resolvFiles returns the files that name the usual servers.
func (c *Config) resolvFiles() []string {
	switch {
	case c.NoResolv:
		return nil
	case len(c.ResolvFiles) > 0:
		return c.ResolvFiles
	}
	return []string{defaultResolvFile}
}

// usualServers returns the servers of the resolv file that changed last.
func (c *Config) usualServers() []netip.AddrPort {
	var newest string
	var at time.Time
	for _, path := range c.resolvFiles() {
		if info, err := os.Stat(path); err == nil && (newest == "" || info.ModTime().After(at)) {
			newest, at = path, info.ModTime()
		}
	}
	if newest == "" {
		return nil
	}
	f, err := os.Open(newest)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []netip.AddrPort
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" && words[0] != "server" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil && !a.IsUnspecified() {
			out = append(out, netip.AddrPortFrom(a, dnsPort))
		}
	}
	return out
}
