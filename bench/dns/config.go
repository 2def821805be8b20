package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// unboundConfig leaves validation out, which no other server here does.
const unboundConfig = `server:
  interface: 127.0.0.1@%[1]d
  port: %[1]d
  num-threads: %[2]d
  so-reuseport: yes
  so-rcvbuf: 0
  username: ""
  chroot: ""
  directory: "%[3]s"
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  do-ip6: no
  module-config: "iterator"
  msg-cache-size: 64m
  rrset-cache-size: 128m
  outgoing-range: 4096
  num-queries-per-thread: 2048
  qname-minimisation: no
  local-zone: "%[4]s." static
  local-data: "%[4]s. 60 %[5]s"
%[6]sstub-zone:
  name: "%[7]s"
  stub-addr: %[8]s@%[9]d
remote-control:
  control-enable: no
`

func startUnbound(_ context.Context, site *lab.Site) ([]*lab.Subject, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	var data strings.Builder
	for id := range site.Clones {
		fmt.Fprintf(&data, "  local-data: \"%s. 60 A %s\"\n", load.Host(id), load.Addr(id))
	}
	config := fmt.Sprintf(unboundConfig, addr.Port(), lab.Workers, site.Dir, lab.Zone, soa, data.String(),
		upstreamZone, site.Backend.Addr(), site.Backend.Port())
	return site.Launch(&lab.Subject{Name: "Unbound", Addr: addr}, map[string]string{"unbound.conf": config}, 1,
		"-d", "-c", filepath.Join(site.Dir, "unbound.conf"))
}

// corefile takes clones from a hosts file, as people do who replace dnsmasq;
// that alone answers unknown names with an error, so a zone file follows it.
const corefile = `%[1]s:%[2]d {
  bind 127.0.0.1
  hosts %[3]s/hosts %[1]s {
    ttl 60
    reload 0
    fallthrough
  }
  file %[3]s/empty.zone %[1]s
}
%[4]s:%[2]d {
  bind 127.0.0.1
  cache 3600 {
    success 20000
  }
  forward . %[5]s
}
`

func startCoreDNS(_ context.Context, site *lab.Site) ([]*lab.Subject, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"Corefile":   fmt.Sprintf(corefile, lab.Zone, addr.Port(), site.Dir, upstreamZone, site.Backend),
		"hosts":      hosts(site),
		"empty.zone": fmt.Sprintf("$ORIGIN %s.\n$TTL 60\n@ %s\n@ NS ns\nns A 127.0.0.1\n", lab.Zone, soa),
	}
	return site.Launch(&lab.Subject{Name: "CoreDNS", Addr: addr}, files, 1, "-conf", filepath.Join(site.Dir, "Corefile"))
}

const nsdConfig = `server:
  ip-address: 127.0.0.1@%[1]d
  server-count: %[2]d
  reuseport: yes
  username: ""
  chroot: ""
  zonesdir: "%[3]s"
  database: ""
  pidfile: "%[3]s/nsd.pid"
  xfrdfile: "%[3]s/xfrd.state"
  zonelistfile: "%[3]s/zone.list"
  xfrdir: "%[3]s"
  minimal-responses: yes
  verbosity: 0
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: %[4]s
  zonefile: clones.zone
`

func startNSD(_ context.Context, site *lab.Site) ([]*lab.Subject, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"nsd.conf":    fmt.Sprintf(nsdConfig, addr.Port(), lab.Workers, site.Dir, lab.Zone),
		"clones.zone": zone(site),
	}
	return site.Launch(&lab.Subject{Name: nsd, Addr: addr, Lacks: noForwards()}, files, 1, "-d", "-c", filepath.Join(site.Dir, "nsd.conf"))
}
