package daemon

import (
	"context"
	"net"

	"github.com/clonegate/clonegate/certs"
	"github.com/clonegate/clonegate/proxy"
)

// openGateway prepares what carries requests to clones.
func (d *Daemon) openGateway(context.Context) error {
	cfg := d.cfg.Gateway
	log := d.log.With("room", "proxy")
	pc := proxy.Config{
		Routes:        d.registry.View(),
		Zones:         d.zones,
		TLS:           certs.TLSConfig(d.certificates.gateway),
		CheckEndpoint: d.networks.Check,
		Lease:         d.registry.Lease,
		TrustedPeers:  cfg.TrustedPeers,
		ProxyPeers:    cfg.ProxyPeers,
		Log:           log,
		Metrics:       d.metrics,
		Limits: proxy.Limits{
			RequestsPerClone: cfg.Limits.RequestsPerClone,
			TunnelsPerClone:  cfg.Limits.WebSocketsPerClone,
			StreamsPerConn:   cfg.Limits.StreamsPerConnection,
			ConnsPerSource:   cfg.Limits.ConnectionsPerSource,
			HeadBytes:        cfg.Limits.HeadBytes,
			ConnsPerEndpoint: cfg.Limits.ConnsPerEndpoint,
			QueuePerEndpoint: cfg.Limits.QueuePerEndpoint,
			IdlePerEndpoint:  cfg.Limits.IdlePerEndpoint,
			IdleConns:        cfg.Limits.IdleConnections,
			FailuresLogged:   cfg.Limits.FailuresLogged,
			RequestsRecorded: cfg.Limits.RecordedPerClone,
			RecordedBytes:    cfg.Limits.RecordedBytes,
			HeadTimeout:      cfg.Limits.Head,
			IdleTimeout:      cfg.Limits.Idle,
			StallTimeout:     cfg.Limits.Stall,
			DialTimeout:      cfg.Limits.Dial,
			QueueTimeout:     cfg.Limits.Queue,
			ResponseTimeout:  cfg.Limits.Response,
			UpstreamIdle:     cfg.Limits.UpstreamIdle,
			TunnelIdle:       cfg.Limits.WebSocketIdle,
			DrainGrace:       cfg.Drain,
		},
	}
	if n := cfg.AccessLog.OneIn(); n > 0 {
		pc.AccessLog, pc.LogOneIn = log, n
	}
	if d.traces != nil {
		pc.Tracer, pc.TraceOneIn = d.traces.Tracer("clonegate"), d.cfg.Traces.Begin.OneIn()
	}
	gateway, err := proxy.New(pc)
	if err != nil {
		return err
	}
	listeners := proxy.Listeners{HTTPS: []net.Listener{d.sockets.gateway}}
	if d.sockets.redirect != nil {
		listeners.Redirect = []net.Listener{d.sockets.redirect}
	}
	d.gateway = gateway
	d.parts = append(d.parts, part{"gateway", func(ctx context.Context) error { return gateway.Run(ctx, listeners) }})
	return nil
}
