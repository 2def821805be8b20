package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/clonegate/clonegate/pipeline/manifest"
)

// Probes come quickly at first, since most hosts are ready at once.
const (
	firstProbe   = 20 * time.Millisecond
	slowestProbe = time.Second
	probeTimeout = 5 * time.Second
)

// awaitReady probes a host until it is ready. Otherwise the error says what
// was seen last.
func awaitReady(ctx context.Context, addr netip.Addr, p *manifest.Probe) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.Patience(), errPatience)
	defer cancel()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	last := errors.New("nothing was seen yet")
	for wait := firstProbe; ; wait = min(2*wait, slowestProbe) {
		err := probe(ctx, client, addr, p)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errPatience) {
				return fmt.Errorf("was not ready within %s; last seen: %w", p.Patience(), last)
			}
			return context.Cause(ctx)
		}
	}
}

var errPatience = errors.New("not ready in time")

// probe tries once. Answers of 2xx and 3xx are good.
func probe(ctx context.Context, client *http.Client, addr netip.Addr, p *manifest.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	port, path := p.Target()
	at := netip.AddrPortFrom(addr, port).String()
	if path == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", at)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "clonegate")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return nil
	}
	said, err := io.ReadAll(io.LimitReader(resp.Body, 200))
	if err != nil {
		return err
	}
	return fmt.Errorf("GET %s answered %s: %q", req.URL, resp.Status, said)
}
