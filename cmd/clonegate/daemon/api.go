package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/clonegate/clonegate/certs"
	dnsapi "github.com/clonegate/clonegate/dnsd/api"
	pipelineapi "github.com/clonegate/clonegate/pipeline/api"
	proxyapi "github.com/clonegate/clonegate/proxy/api"
	"github.com/clonegate/clonegate/registry/api"
)

// openAPI mounts the operations of every room on one listener.
func (d *Daemon) openAPI(context.Context) error {
	hosts := make([]string, len(d.cfg.API.Hosts))
	for i, h := range d.cfg.API.Hosts {
		hosts[i] = string(h)
	}
	a, err := api.New(api.Config{
		Registry:   d.registry,
		Version:    d.version,
		Log:        d.log.With("room", "api"),
		Hosts:      hosts,
		Metrics:    d.metrics,
		Registerer: d.metrics,
		CARoot:     d.certificates.root,
		Ready:      d.ready,
	})
	if err != nil {
		return err
	}
	if err := pipelineapi.Register(a.Huma(), pipelineapi.Config{Templates: d.templates, Output: d.launcher}); err != nil {
		return err
	}
	proxyapi.Register(a, d.gateway)
	if d.dns != nil {
		dnsapi.Register(a.Huma(), d.dns)
	}
	server := a.Server()
	d.api = append(d.api,
		part{"api", func(ctx context.Context) error { return d.serveAPI(ctx, server, d.sockets.api) }},
		part{"watchdog", func(ctx context.Context) error { return runWatchdog(ctx, d.log, d.answersItself) }},
	)
	return nil
}

// apiGrace bounds how long open API requests may take when the daemon stops.
const apiGrace = 5 * time.Second

// serveAPI serves until ctx ends and then lets open requests finish.
func (d *Daemon) serveAPI(ctx context.Context, server *http.Server, ln net.Listener) error {
	ended := make(chan error, 1)
	go func() {
		if d.certificates.api == nil {
			ended <- server.Serve(ln)
			return
		}
		server.TLSConfig = certs.TLSConfig(d.certificates.api)
		ended <- server.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiGrace)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	<-ended
	return nil
}

// answersItself returns nil if the API takes a connection and answers. What
// it answers does not matter: a full disk is no reason to restart.
func (d *Daemon) answersItself(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addrOf(d.sockets.api).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		return errors.New("no deadline to be answered by")
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	// Plain text on a TLS listener is answered as well, with a complaint.
	if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", conn.RemoteAddr()); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
