package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
)

// A doctor looks at one machine. Checks fill in what later ones need.
type doctor struct {
	app     *app
	cfg     *config.Config    // nil if none was given or it cannot be read
	data    string            // the data directory
	running *daemon.Addresses // of the daemon that runs; nil if none does
	skew    time.Duration     // how far the daemon's clock is ahead of ours
}

func (d *doctor) examine(ctx context.Context, file string, set []string) []finding {
	d.data = d.app.dataDir()
	out := []finding{d.checkConfig(file, set), d.checkData(), d.checkDaemon(ctx)}
	out = append(out, d.checkPorts(ctx)...)
	out = append(out, d.checkStore(ctx), d.checkDisk(), d.checkClock(), d.checkTrust(), d.checkAuthority(ctx))
	if d.zone() != "" {
		out = append(out, d.checkDNS(ctx))
	}
	return slices.DeleteFunc(out, func(f finding) bool { return f.Check == "" })
}

func (d *doctor) checkConfig(file string, set []string) finding {
	const check = "configuration"
	given := file != "" || len(set) > 0
	cfg, unused, err := d.app.loadConfig(file, set, !given)
	switch {
	case err != nil:
		return finding{check, statusFail, err.Error(), "correct the lines above; clonegate serve --print-config explains every key"}
	case !given:
		return finding{check, statusOK, "none given", ""}
	}
	d.cfg, d.data = cfg, cfg.Data
	if len(unused) > 0 {
		return finding{check, statusWarn, "these variables set nothing: " + strings.Join(unused, ", "), "unset them, or correct their names"}
	}
	return finding{check, statusOK, firstOf(file, "flags and environment") + " is valid", ""}
}

func (d *doctor) checkData() finding {
	const check = "data directory"
	info, err := os.Stat(d.data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{check, statusOK, d.data + " does not exist yet; the first start makes it", ""}
	case err != nil:
		return finding{check, statusFail, err.Error(), "run this as the user of the daemon, or name another directory with --data"}
	case !info.IsDir():
		return finding{check, statusFail, d.data + " is not a directory", "name another with --data"}
	case info.Mode().Perm()&0o077 != 0:
		return finding{check, statusWarn, fmt.Sprintf("%s can be read by others (mode %o)", d.data, info.Mode().Perm()), "chmod 700 " + d.data}
	}
	if err := unix.Access(d.data, unix.W_OK); err != nil {
		return finding{check, statusFail, d.data + " cannot be written by this user", "run this as the user of the daemon"}
	}
	return finding{check, statusOK, d.data, ""}
}

// checkDaemon finds out whether a daemon runs, and asks it how it is.
func (d *doctor) checkDaemon(ctx context.Context) finding {
	const check = "daemon"
	addresses, err := daemon.ReadAddresses(d.data)
	if err != nil {
		return finding{check, statusOK, "none runs on this data directory", ""}
	}
	ready, err := d.ask(ctx, addresses.API.URL+"/readyz")
	if err != nil {
		return finding{
			check, statusFail, fmt.Sprintf("process %d does not answer at %s: %v", addresses.PID, addresses.API.URL, err),
			fmt.Sprintf("see whether it lives with  ps %d  and what its log says", addresses.PID),
		}
	}
	d.running = addresses
	if ready != http.StatusOK {
		return finding{check, statusFail, fmt.Sprintf("process %d is not ready", addresses.PID), "see its log; it may still be starting"}
	}
	if health, err := d.ask(ctx, addresses.API.URL+"/healthz"); err != nil || health != http.StatusOK {
		return finding{check, statusFail, fmt.Sprintf("process %d cannot write its registry", addresses.PID), "see its log; the disk may be full"}
	}
	return finding{check, statusOK, fmt.Sprintf("process %d, version %s, at %s", addresses.PID, addresses.Version, addresses.API.URL), ""}
}

// ask returns the status of a GET. The certificate is not verified: nothing
// secret is asked or told, and one that does not fit is no sign of a daemon
// that is down.
func (d *doctor) ask(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	c := http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if there, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		d.skew = time.Until(there)
	}
	return resp.StatusCode, nil
}

// checkPorts tries to listen where the daemon would, if none does so now.
func (d *doctor) checkPorts(ctx context.Context) []finding {
	const check = "ports"
	if d.cfg == nil || d.running != nil {
		return nil
	}
	if err := daemon.TryListen(ctx, d.cfg); err != nil {
		return []finding{{check, statusFail, err.Error(), "as it says"}}
	}
	return []finding{{check, statusOK, "all are free", ""}}
}

// checkStore reads the whole database, if nobody has it open.
func (d *doctor) checkStore(ctx context.Context) finding {
	const check = "registry"
	if d.running != nil {
		return finding{} // it answered for it
	}
	switch err := daemon.CheckStore(ctx, d.data); {
	case errors.Is(err, fs.ErrNotExist):
		return finding{check, statusOK, "none yet; the first start makes it", ""}
	case err != nil:
		return finding{check, statusFail, err.Error(), "restore it from a backup, or use another data directory"}
	}
	return finding{check, statusOK, "readable and sound", ""}
}

// Free space below which a daemon will soon, or already does, refuse to write.
const (
	littleSpace = 1 << 30
	noSpace     = 100 << 20
)

func (d *doctor) checkDisk() finding {
	const check = "disk"
	dir := d.data
	for !isDir(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return finding{check, statusWarn, fmt.Sprintf("free space of %s: %v", dir, err), ""}
	}
	free := st.Bavail * uint64(st.Bsize)
	detail := fmt.Sprintf("%.1f GiB free for %s", float64(free)/(1<<30), d.data)
	switch {
	case free < noSpace:
		return finding{check, statusFail, detail, "free some space: the registry refuses to write on a full disk"}
	case free < littleSpace:
		return finding{check, statusWarn, detail, "free some space, or move the data directory"}
	}
	return finding{check, statusOK, detail, ""}
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// ca reads the internal CA of the data directory; nil if it has none.
func (d *doctor) ca() (*x509.Certificate, error) {
	file := daemon.CAFile(d.data)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return ca, nil
}

// maxSkew is how far two clocks may differ before certificates and tokens
// begin too late or end too early.
const maxSkew = 30 * time.Second

// checkClock compares the clock with the daemon's and with the CA's beginning.
func (d *doctor) checkClock() finding {
	const check, fix = "clock", "set the clock, and keep it set by NTP"
	if ca, err := d.ca(); err == nil && ca != nil && time.Now().Before(ca.NotBefore) {
		return finding{check, statusFail, fmt.Sprintf("it shows %s, before the CA was made", time.Now().UTC().Format(time.RFC3339)), fix}
	}
	if d.skew.Abs() > maxSkew {
		return finding{check, statusWarn, fmt.Sprintf("the daemon's differs by %s", d.skew.Round(time.Second)), fix}
	}
	return finding{check, statusOK, time.Now().UTC().Format(time.RFC3339), ""}
}

// checkTrust verifies the internal CA against the system's roots.
func (d *doctor) checkTrust() finding {
	const check = "trust"
	ca, err := d.ca()
	switch {
	case err != nil:
		return finding{check, statusFail, err.Error(), "restore it from a backup; a new CA has to be trusted anew everywhere"}
	case ca == nil || !d.wantsTrust():
		return finding{}
	}
	if _, err := ca.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return finding{check, statusWarn, "this machine does not trust the gateway's CA yet", "clonegate trust, or  curl --cacert " + daemon.CAFile(d.data)}
	}
	return finding{check, statusOK, "this machine trusts the gateway's CA", ""}
}

// zone returns the zone to look for in DNS, "" if it is not known.
func (d *doctor) zone() string {
	switch {
	case d.cfg != nil:
		return string(d.cfg.Zone)
	case d.running != nil:
		return d.running.Zone
	}
	return ""
}

// checkDNS asks this machine's resolvers for names of the zone.
func (d *doctor) checkDNS(ctx context.Context) finding {
	const check = "DNS"
	zone := d.zone()
	if daemon.FoundByItself(zone) {
		return finding{check, statusOK, zone + ": browsers and curl take names below localhost for this machine by themselves", ""}
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if own, ok := d.dnsAddr(); ok {
		f := daemon.CheckZone(ctx, zone, own)
		if f.Found {
			return finding{check, statusOK, f.Detail, ""}
		}
		return finding{check, statusWarn, f.Detail, f.Fix}
	}
	name := "ns." + zone
	addrs, err := new(net.Resolver).LookupNetIP(ctx, "ip", name)
	if err != nil {
		return finding{check, statusWarn, fmt.Sprintf("this machine does not find %s: %v", name, err), "set dns.listen, then delegate the zone to this gateway, or forward it: see docs/dns.md"}
	}
	return finding{check, statusOK, fmt.Sprintf("%s is found at %s", name, joinAddrs(addrs)), ""}
}

// dnsAddr returns where the daemon that runs answers for the zone.
func (d *doctor) dnsAddr() (netip.AddrPort, bool) {
	if d.running == nil {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddrPort(d.running.DNS.Listen)
	return addr, err == nil
}

func joinAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.Unmap().String()
	}
	return strings.Join(texts, ", ")
}
