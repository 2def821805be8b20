package daemon

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/clonegate/clonegate/dnsd"
)

// openDNS prepares the DNS server, if anything is to be answered.
func (d *Daemon) openDNS(context.Context) error {
	var listeners []dnsd.Listener
	if s := d.sockets.dns; s.stream != nil {
		listeners = append(listeners, dnsd.Listener{UDP: s.packet, TCP: s.stream})
	}
	var inside []dnsd.Namespaces
	for i, r := range d.cfg.DNS.Resolvers {
		resolver := dnsd.Resolver{
			Clone: r.Clone, Upstreams: r.Upstreams, Clients: r.Clients, RefusePrivate: r.RefusePrivate, PrivateIn: r.PrivateIn,
		}
		if r.Netns != "" {
			inside = append(inside, dnsd.Namespaces{Path: r.Netns, Listen: r.Listen.AddrPort(), Resolver: resolver})
			continue
		}
		s := d.sockets.resolvers[i]
		listeners = append(listeners, dnsd.Listener{UDP: s.packet, TCP: s.stream, Resolver: &resolver})
	}
	if len(listeners)+len(inside) == 0 {
		return nil
	}
	gateway, err := publicAddresses(d.cfg.Gateway.Addresses, addrOf(d.sockets.gateway).Addr())
	if err != nil {
		return err
	}
	limit := d.cfg.DNS.RateLimit
	var secondaries []dnsd.Secondary
	for _, s := range d.cfg.DNS.Secondaries {
		key, err := transferKey(s.KeyFile)
		if err != nil {
			return err
		}
		secondaries = append(secondaries, dnsd.Secondary{Clients: s.Clients, Notify: s.Notify, Key: key})
	}
	server, err := dnsd.New(dnsd.Config{
		Secondaries: secondaries,
		RateLimit:   dnsd.RateLimit{PerSecond: limit.PerSecond, Slip: limit.Slip.OneIn(), Exempt: limit.Exempt},
		Directory:   d.registry.View(),
		Gateway:     gateway,
		NameServers: d.cfg.DNS.Nameservers,
		Challenges:  d.certificates.challenges,
		Log:         d.log.With("room", "dnsd"),
		Metrics:     d.metrics,
	})
	if err != nil {
		return err
	}
	d.dns = server
	d.parts = append(d.parts, part{"dns", func(ctx context.Context) error {
		d.noteZone(ctx, "the daemon has started, perhaps with other addresses")
		if d.sockets.dns.stream != nil {
			checks, cancel := context.WithCancel(ctx)
			var check sync.WaitGroup
			check.Go(func() { d.checkZones(checks) })
			defer check.Wait()
			defer cancel()
		}
		return server.Run(ctx, listeners...)
	}})
	for _, n := range inside {
		d.parts = append(d.parts, part{"dns in namespaces", func(ctx context.Context) error { return server.Follow(ctx, n) }})
	}
	return nil
}

// transferKey reads the key of a secondary, nil if there is no file.
func transferKey(file string) (*dnsd.TransferKey, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("dns.secondaries: key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("dns.secondaries: key file %s can be read by others (mode %o); chmod 600 it", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("dns.secondaries: key file: %w", err)
	}
	key, err := dnsd.ParseTransferKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("dns.secondaries: key file %s: %w", file, err)
	}
	return key, nil
}

// noteTime bounds how long something waits for its event to be written.
const noteTime = 5 * time.Second

// noteZone moves the zone's serial number on, so that secondaries fetch what
// has changed beside clones.
func (d *Daemon) noteZone(ctx context.Context, why string) {
	if len(d.cfg.DNS.Secondaries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	if err := d.registry.NoteZone(ctx, why); err != nil {
		d.log.Warn("dns secondaries will see a change only with the next one", "change", why, "err", err)
	}
}

// sharedChallenges are challenges that secondaries learn of, too: the authority
// may ask any of them.
type sharedChallenges struct {
	*dnsd.Challenges
	note func(why string)
}

func (c sharedChallenges) Set(name, value string) {
	c.Challenges.Set(name, value)
	c.note("a challenge stands at " + name)
}

func (c sharedChallenges) Unset(name, value string) {
	c.Challenges.Unset(name, value)
	c.note("a challenge is gone from " + name)
}
