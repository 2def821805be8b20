package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// haproxyConfig finds the clone's address in a map, which can be changed over
// the control socket. The change does not outlive the process.
const haproxyConfig = `global
	nbthread %[1]d
	maxconn 9000
	stats socket %[2]s/control mode 600 level admin
	ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
	ssl-default-bind-curves X25519
	ssl-default-bind-options ssl-min-ver TLSv1.3
	tune.ssl.cachesize 100000
defaults
	mode http
	timeout client 300s
	timeout server 300s
	timeout connect 3s
	timeout tunnel 1h
	timeout http-keep-alive 300s
	http-reuse always
frontend clones
	bind %[3]s ssl crt %[4]s alpn h2,http/1.1 backlog 4096
	http-request set-var(txn.clone) req.hdr(host),lower,map_str_ip(%[2]s/clones.map)
	http-request return status 404 unless { var(txn.clone) -m found }
	default_backend clone
backend clone
	http-request set-dst var(txn.clone)
	http-request set-dst-port int(%[5]d)
	option forwardfor
	http-request set-header X-Forwarded-Proto https
	server clone 0.0.0.0:0
`

func startHAProxy(_ context.Context, site *lab.Site) ([]*lab.Subject, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	var clones strings.Builder
	for id := range site.Clones {
		fmt.Fprintf(&clones, "%s %s\n", load.Host(id), load.Addr(id))
	}
	both := filepath.Join(site.CertDir, lab.BothFile)
	s := &lab.Subject{Name: "HAProxy", Addr: addr}
	s.Register = func(ctx context.Context, id int) error {
		return control(ctx, filepath.Join(site.Dir, "control"), fmt.Sprintf("add map %s/clones.map %s %s", site.Dir, load.Host(id), load.Addr(id)))
	}
	files := map[string]string{
		"haproxy.cfg": fmt.Sprintf(haproxyConfig, lab.Workers, site.Dir, addr, both, site.Backend.Port()),
		"clones.map":  clones.String(),
	}
	return site.Launch(s, files, 1, "-db", "-f", filepath.Join(site.Dir, "haproxy.cfg"))
}

// control sends one command to HAProxy's control socket.
func control(ctx context.Context, socket, command string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return fmt.Errorf("HAProxy: %s: %w", command, err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return fmt.Errorf("HAProxy: %s: %w", command, err)
	}
	if text := strings.TrimSpace(string(answer)); text != "" {
		return fmt.Errorf("HAProxy: %s: %s", command, text)
	}
	return nil
}
