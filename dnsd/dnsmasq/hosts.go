package dnsmasq

import (
	"bufio"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// A hostLine is one line of a hosts file.
type hostLine struct {
	addr  netip.Addr
	names []string // in lower case, without a trailing dot
}

// hostFiles returns the hosts files of a configuration, those in directories
// included, in the order in which they are read.
func (c *Config) hostFiles() []string {
	var out []string
	if !c.NoHosts {
		out = append(out, "/etc/hosts")
	}
	added := slices.Clone(c.AddnHosts)
	slices.Reverse(added) // the last one named is read first
	for _, path := range slices.Concat(added, c.HostsDirs) {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			out = append(out, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			continue
		}
		for _, e := range entries {
			file := filepath.Join(path, e.Name())
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && !isLeftover(e.Name()) {
				out = append(out, file)
			}
		}
	}
	return out
}

// readHosts returns the lines of every hosts file, and why some files could
// not be read. A hosts file that does not exist is empty.
func (c *Config) readHosts() (lines []hostLine, errs []error) {
	for _, path := range c.hostFiles() {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lines = append(lines, parseHosts(bufio.NewScanner(f))...)
		f.Close()
	}
	return lines, errs
}

// parseHosts reads "address name…" lines; what cannot be read is skipped, as
// the C library does.
func parseHosts(in *bufio.Scanner) []hostLine {
	var out []hostLine
	for in.Scan() {
		text, _, _ := strings.Cut(in.Text(), "#")
		words := strings.Fields(text)
		if len(words) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(words[0])
		if err != nil || addr.Zone() != "" {
			continue
		}
		line := hostLine{addr: addr}
		for _, w := range words[1:] {
			if name, err := domainName(w); err == nil && name != "" {
				line.names = append(line.names, name)
			}
		}
		if len(line.names) > 0 {
			out = append(out, line)
		}
	}
	return out
}

// addHosts puts host records and hosts files into a table. The first name of
// an address owns it.
func (t *table) addHosts(c *Config, lines []hostLine) {
	for _, rec := range c.Hosts {
		for _, name := range rec.Names {
			for _, a := range rec.Addrs {
				t.addHost(name, a, rec.TTL)
			}
		}
	}
	for _, line := range lines {
		for _, name := range line.names {
			if suffix := c.suffix(line.addr); c.Expand && suffix != "" && !strings.Contains(name, ".") {
				t.addHost(dns.Fqdn(name+"."+suffix), line.addr, nil)
			}
			t.addHost(dns.Fqdn(name), line.addr, nil)
		}
	}
}

// addHost gives a name an address, and the address the name if it has none.
func (t *table) addHost(name string, a netip.Addr, ttl *uint32) {
	n := t.node(name)
	n.isHost = true
	if slices.ContainsFunc(n.rrs, func(rr dns.RR) bool { have, ok := addressOf(rr); return ok && have == a.Unmap() }) {
		return
	}
	n.rrs = append(n.rrs, t.addressRecord(name, a, ttl))
	reverse, err := dns.ReverseAddr(a.String())
	if err != nil {
		return
	}
	if _, owned := t.reverse[reverse]; !owned {
		rr := &dns.PTR{Hdr: header(reverse, dns.TypePTR), Ptr: name}
		rr.Hdr.Ttl = t.ttlOr(ttl)
		t.reverse[reverse] = rr
	}
}
