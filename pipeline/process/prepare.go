package process

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

// Prepare gives a clone a free subnet and its own copy of the files. Files
// outside of o.Data lose their write permission: a template that needs them
// changed would not work with a provider that shares them.
func (p *Provider) Prepare(ctx context.Context, o pipeline.Order) (*pipeline.Site, error) {
	c, err := p.reserve(o)
	if err != nil {
		return nil, err
	}
	if !c.isPrepared() {
		if err := c.unpack(ctx, o); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.state.Prepared {
		c.state.Prepared = true
		if err := c.saveLocked(); err != nil {
			return nil, err
		}
	}
	return &pipeline.Site{
		Instance: c.state.Instance, Dir: c.files(), Private: c.private(), Addresses: c.state.addresses(),
	}, nil
}

// reserve returns the clone of an order, with a subnet of its own.
func (p *Provider) reserve(o pipeline.Order) (*clone, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.clones[o.ID]; c != nil {
		return c, nil
	}
	c := newClone(o.ID, p.dir(o.ID))
	subnet, err := p.freeSubnetLocked(o)
	if err != nil {
		return nil, err
	}
	c.state = state{Instance: o.Instance, Boot: p.boot, Subnet: subnet, Hosts: map[string]uint8{}, Processes: map[string]*recorded{}}
	for name, h := range o.Hosts {
		c.state.Hosts[name] = h.Address
	}
	for _, dir := range []string{c.dir, c.private(), c.logs()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, durable.Full(err)
		}
	}
	if err := c.saveLocked(); err != nil {
		return nil, err
	}
	p.clones[o.ID] = c
	return c, nil
}

// unpack makes the clone's files, all at once.
func (c *clone) unpack(ctx context.Context, o pipeline.Order) error {
	aside := filepath.Join(c.dir, ".unpacked")
	for _, dir := range []string{aside, c.files()} {
		if err := removeAll(dir); err != nil {
			return err
		}
	}
	if err := o.Unpack(ctx, aside); err != nil {
		return err
	}
	if err := protect(aside, o.Data); err != nil {
		return err
	}
	return os.Rename(aside, c.files())
}

// protect takes the write permission from files outside of data.
func protect(dir string, data []string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			for _, writable := range data {
				if name == writable {
					return fs.SkipDir
				}
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()&^0o222)
	})
}

// removeAll removes a directory that processes of a clone may have made hard
// to remove, by taking the right to write from directories.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// What cannot be changed shows in the second try.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() || errors.Is(err, fs.ErrPermission) {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// subnetTries bounds how many subnets are tried for one clone.
const subnetTries = 64

// freeSubnetLocked returns a subnet that no clone has and on which the ports
// of the order are free. The search begins at a place that depends on the
// directory, so that two daemons with one pool seldom meet.
func (p *Provider) freeSubnetLocked(o pipeline.Order) (netip.Prefix, error) {
	taken := map[netip.Prefix]bool{}
	for _, c := range p.clones {
		taken[c.state.Subnet] = true
	}
	h := fnv.New64a()
	h.Write([]byte(p.cfg.Dir))
	count := uint64(1) << (24 - p.cfg.Pool.Bits())
	begin := h.Sum64() % count
	var busy error
	tries := 0
	for i := range count {
		subnet := p.subnet((begin + i) % count)
		if taken[subnet] {
			continue
		}
		if busy = tryPorts(subnet, o.Hosts); busy == nil {
			return subnet, nil
		}
		if tries++; tries == subnetTries {
			break
		}
	}
	if busy == nil {
		return netip.Prefix{}, fmt.Errorf("no subnet is left in %s: %d clones have one each; end some", p.cfg.Pool, len(taken))
	}
	hint := ""
	if tries == subnetTries {
		hint = "; something that listens on all addresses (0.0.0.0) may have the port: look with ss -ltn"
	}
	return netip.Prefix{}, fmt.Errorf("no subnet of %s is free, %d were tried: %w%s", p.cfg.Pool, tries, busy, hint)
}

// subnet returns the nth /24 of the pool.
func (p *Provider) subnet(n uint64) netip.Prefix {
	a := p.cfg.Pool.Addr().As4()
	base := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8
	base += uint32(n) << 8
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(base >> 24), byte(base >> 16), byte(base >> 8), 0}), 24)
}

// tryPorts returns nil if every port that hosts will listen on is free.
func tryPorts(subnet netip.Prefix, hosts map[string]pipeline.OrderedHost) error {
	for _, h := range hosts {
		for _, port := range h.Ports {
			ln, err := net.Listen("tcp4", netip.AddrPortFrom(addressIn(subnet, h.Address), port).String())
			if err != nil {
				return err
			}
			ln.Close()
		}
	}
	return nil
}

// Remove deletes everything of a clone but its output. The state file goes
// last, so that a removal that was interrupted can go on.
func (p *Provider) Remove(_ context.Context, id registry.ID) error {
	c := p.clone(id)
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.state.Processes {
		if r.Ended == "" {
			return fmt.Errorf("remove clone %s: it still runs", id)
		}
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove clone %s: %w", id, err)
	}
	for _, e := range entries {
		if e.Name() == stateFile || e.Name() == filepath.Base(c.logs()) {
			continue
		}
		if err := removeAll(filepath.Join(c.dir, e.Name())); err != nil {
			return fmt.Errorf("remove clone %s: %w", id, err)
		}
	}
	if err := os.Remove(c.stateFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove clone %s: %w", id, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.clones, id)
	return nil
}
