package load

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Visitor asks clones behind one gateway, each time as somebody new.
type Visitor struct {
	Gateway netip.AddrPort
	visits  uint32
}

// Get asks clone id over a connection of its own. The error says why the answer
// is not the clone's.
func (v *Visitor) Get(id int) error {
	v.visits++
	c, err := visit(v.Gateway, v.visits, id, 10*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// Hold opens n connections, makes one request on each, and keeps them all open
// until the returned function is called.
func Hold(gateway netip.AddrPort, clones, n int) (release func(), err error) {
	var mu sync.Mutex // guards open
	var open []net.Conn
	var group errgroup.Group
	group.SetLimit(32)
	for i := range n {
		group.Go(func() error {
			c, err := visit(gateway, uint32(i), i%clones, time.Minute)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			open = append(open, c)
			return nil
		})
	}
	err = group.Wait()
	release = func() {
		for _, c := range open {
			c.Close()
		}
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// visit opens a connection that lives for so long and makes one request on it.
func visit(gateway netip.AddrPort, turn uint32, id int, life time.Duration) (net.Conn, error) {
	t, err := dialTCP(gateway, turn, time.Now().Add(life))
	if err != nil {
		return nil, err
	}
	s, err := shake(t, settings(Host(id), h1))
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: s, buf: make([]byte, 8<<10)}
	if err := c.get(request(id, Small), answer(id)); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
