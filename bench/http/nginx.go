package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// nginxConfig has an upstream block for every clone, the only way to keep
// connections to them open. New clones are appended to clones.map and
// clones.upstreams, and nginx reads everything again.
const nginxConfig = `daemon off;
worker_processes %[1]d;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log crit;
events { worker_connections 9000; }
http {
	access_log off;
	server_tokens off;
	tcp_nodelay on;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	map_hash_max_size 65536;
	map_hash_bucket_size 128;
	variables_hash_max_size 2048;
	map $http_upgrade $connection_header { default upgrade; '' ''; }
	map $host $clone { default ''; include %[2]s/clones.map; }
	include %[2]s/clones.upstreams;
	keepalive_timeout 300s;
	keepalive_requests 1000000000;
	proxy_http_version 1.1;
	proxy_set_header Host $host;
	proxy_set_header Connection $connection_header;
	proxy_set_header Upgrade $http_upgrade;
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_set_header X-Forwarded-Proto https;
	proxy_buffer_size 16k;
	proxy_buffers 16 32k;
	proxy_busy_buffers_size 128k;
	proxy_max_temp_file_size 0;
	ssl_certificate %[3]s;
	ssl_certificate_key %[4]s;
	ssl_protocols TLSv1.3;
	ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
	ssl_ecdh_curve X25519;
	ssl_session_tickets on;
	server {
		listen %[5]s ssl http2 backlog=4096 reuseport;
		server_name *.%[6]s;
		location / {
			if ($clone = '') { return 404; }
			proxy_pass http://$clone;
		}
	}
}
`

func startNginx(_ context.Context, site *lab.Site) ([]*lab.Subject, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	mapLine := func(id int) string { return fmt.Sprintf("%s clone%d;\n", load.Host(id), id) }
	upstream := func(id int) string {
		// As many idle connections for each worker as the tests have streams on a connection.
		return fmt.Sprintf("upstream clone%d { server %s; keepalive 16; keepalive_requests 1000000000; keepalive_timeout 300s; }\n", id, endpoint(site, id))
	}
	var maps, upstreams strings.Builder
	for id := range site.Clones {
		maps.WriteString(mapLine(id))
		upstreams.WriteString(upstream(id))
	}
	s := &lab.Subject{Name: "nginx", Addr: addr}
	s.Register = func(_ context.Context, id int) error {
		if err := appendTo(filepath.Join(site.Dir, "clones.map"), mapLine(id)); err != nil {
			return err
		}
		if err := appendTo(filepath.Join(site.Dir, "clones.upstreams"), upstream(id)); err != nil {
			return err
		}
		return syscall.Kill(s.PIDs[0], syscall.SIGHUP)
	}
	cert, key := site.Cert()
	files := map[string]string{
		"nginx.conf": fmt.Sprintf(nginxConfig, lab.Workers, site.Dir, cert, key, addr, lab.Zone),
		"clones.map": maps.String(), "clones.upstreams": upstreams.String(),
	}
	return site.Launch(s, files, 1, "-p", site.Dir, "-c", filepath.Join(site.Dir, "nginx.conf"))
}

func appendTo(file, line string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
