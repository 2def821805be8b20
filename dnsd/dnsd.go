// Package dnsd answers DNS for the clones of a zone: to the world as the
// zone's authoritative server, and to the hosts inside a clone as their
// resolver. Whoever asks, names come from the registry's view at that moment.
//
// It stores nothing but a cache of what upstream servers said, follows no
// delegations itself, and validates no signatures. Package miekg/dns parses
// records and messages here and is seen nowhere else.
package dnsd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// A Directory knows the clones and their names. *registry.View is one.
type Directory interface {
	// Lookup finds what one label before the zone stands for.
	Lookup(sub string) (registry.Target, bool)
	// Clone returns a clone in whatever state it is. It is never changed.
	Clone(id registry.ID) (*registry.Clone, bool)
	// Revision counts changes; it is the zone's serial number.
	Revision() uint64
	// Zones returns the zones that names stand under, always the same ones.
	Zones() *registry.Zones
}

// Config is what a Server needs. Directory is required, and Gateway if there
// are zones.
type Config struct {
	Directory Directory

	// Gateway holds the addresses that public names point to.
	Gateway []netip.Addr

	// NameServers holds the addresses of "ns.<zone>", the zone's name server.
	// Empty: the addresses the authoritative listeners are bound to, or, if
	// they are bound to every address, those of the gateway.
	NameServers []netip.Addr

	// Challenges holds the values of DNS-01 challenges in the zones. Nil: none.
	Challenges *Challenges

	// Secondaries may copy the zones from authoritative listeners; others are
	// refused. They need a Directory that is a Catalog.
	Secondaries []Secondary

	// RateLimit bounds the answers of authoritative listeners by UDP. The zero
	// RateLimit does not.
	RateLimit RateLimit

	// ResolvConf is the file that names the upstream servers of resolvers
	// which have none of their own. Empty means /etc/resolv.conf.
	ResolvConf string

	// CacheEntries bounds how many answers of upstream servers are kept. Zero
	// means 20,000; negative keeps none.
	CacheEntries int

	// Habits are how upstream servers and clients are dealt with.
	Habits Habits

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: none
}

// A Server answers questions on any number of listeners.
type Server struct {
	dir         Directory
	zones       []*zone
	gateway     []netip.Addr
	nameServers []netip.Addr
	challenges  *Challenges
	resolvConf  *resolvConf
	log         *slog.Logger
	metrics     *metrics
	timing      timing
	habits      Habits
	port        *port // that questions leave from; nil: each from its own
	now         func() time.Time

	transfers *transfers // nil: nobody may copy the zones
	limiter   *limiter   // nil: answers are not limited

	public   public
	names    *namesCache // what clones contribute, compiled
	cache    *cache
	flights  flights
	renewals chan renewal
	busy     busy // questions waiting, by group of upstreams
	health   health
	loops    loops
	caseLost serverSet // servers that do not repeat the case of a name
	couriers []*courier
	streams  *streams
	turn     atomic.Uint32                    // of the couriers
	waiting  chan struct{}                    // one token per question that waits for upstreams
	tasks    sync.WaitGroup                   // goroutines of those questions
	own      atomic.Pointer[[]netip.AddrPort] // addresses of listeners; replaced with fronts

	mu sync.Mutex
	// adopt lets Run wait for one more listener; nil once Run ends. Guarded by mu.
	adopt    func(context.Context, func(context.Context))
	views    int                        // guarded by mu; how many there have been
	running  chan struct{}              // closed when Run is at work
	fronts   atomic.Pointer[[]*front]   // nil before Run; replaced under mu
	watchers atomic.Pointer[[]*watcher] // of the query log; nil: none
}

// maxWaiting bounds how many questions of all clients wait for upstreams at
// once; maxWaitingPerGroup keeps one dead group of upstreams from using up all
// of them, unless habits differ.
const (
	maxWaiting         = 4000
	maxWaitingPerGroup = 1000
)

// timing is every duration that bounds waiting.
type timing struct {
	try   time.Duration // one question to one upstream, TCP included
	hedge time.Duration // until the next upstream is asked as well
	total time.Duration // until a question has failed
	stale time.Duration // until an answer that has expired is served instead
	idle  time.Duration // for one whole message on a TCP connection
}

// New returns a Server that serves nothing yet; see Run.
func New(cfg Config) (*Server, error) {
	if cfg.Directory == nil {
		return nil, errors.New("dns server: Config.Directory is required")
	}
	gateway, err := plainAddrs(cfg.Gateway)
	if err != nil {
		return nil, fmt.Errorf("dns server: gateway address: %w", err)
	}
	if len(gateway) == 0 && len(cfg.Directory.Zones().Hosts()) > 0 {
		return nil, errors.New("dns server: Config.Gateway is empty; name the address that public names point to")
	}
	nameServers, err := plainAddrs(cfg.NameServers)
	if err != nil {
		return nil, fmt.Errorf("dns server: name server address: %w", err)
	}
	if err := cfg.Habits.check(); err != nil {
		return nil, fmt.Errorf("dns server: %w", err)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("dns server: metrics: %w", err)
	}
	s := &Server{
		dir:         cfg.Directory,
		gateway:     gateway,
		nameServers: nameServers,
		challenges:  cfg.Challenges,
		resolvConf:  newResolvConf(cfg.ResolvConf),
		log:         cfg.Log,
		metrics:     m,
		public:      newPublic(gateway),
		names:       newNamesCache(),
		cache:       newCache(cmp.Or(cfg.CacheEntries, maxCacheEntries), maxCacheBytes),
		habits:      cfg.Habits.filled(),
		waiting:     make(chan struct{}, max(maxWaiting, cfg.Habits.MaxWaiting)),
		renewals:    make(chan renewal, maxRenewals),
		running:     make(chan struct{}),
		now:         time.Now,
		timing: timing{
			try: 2 * time.Second, hedge: 200 * time.Millisecond, total: 5 * time.Second,
			stale: 1800 * time.Millisecond, idle: 10 * time.Second,
		},
	}
	cfg.Habits.apply(&s.timing)
	s.streams = &streams{s: s, open: make(chan *stream), shared: map[netip.AddrPort]*stream{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, host := range cfg.Directory.Zones().Hosts() {
		z := newZone(host)
		s.prepareZone(z)
		s.zones = append(s.zones, z)
	}
	if s.limiter, err = newLimiter(cfg.RateLimit, s.log); err != nil {
		return nil, fmt.Errorf("dns server: %w", err)
	}
	s.transfers, err = newTransfers(s, cfg.Secondaries)
	return s, err
}

// plainAddrs returns addresses in the form that records hold them.
func plainAddrs(addrs []netip.Addr) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap().WithZone(""); !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return nil, fmt.Errorf("%v is not an address that a name can point to", a)
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

// Run answers on listeners until ctx ends, closes them, and returns once every
// goroutine has ended: nil after cancellation, the cause otherwise. It may be
// called once.
func (s *Server) Run(ctx context.Context, listeners ...Listener) error {
	defer closeAll(listeners)
	fronts := make([]*front, len(listeners))
	for i, l := range listeners {
		f, err := s.newFront(i, l)
		if err != nil {
			return fmt.Errorf("dns listener %d: %w", i+1, err)
		}
		fronts[i] = f
	}
	if len(s.nameServers) == 0 {
		s.nameServers = s.defaultNameServers(fronts)
		for _, z := range s.zones {
			s.prepareZone(z)
		}
	}
	if err := s.openUpstream(); err != nil {
		return fmt.Errorf("dns server: %w", err)
	}
	own := ownAddrs(fronts)
	s.own.Store(&own)
	s.fronts.Store(&fronts) // Explain reads what stands above only after this
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { closeAll(listeners) })
	defer stop()
	for _, c := range s.couriers {
		g.Go(func() error { c.run(ctx); return nil })
	}
	g.Go(func() error { s.streams.run(ctx); return nil })
	if s.port != nil {
		g.Go(func() error { s.port.run(ctx); return nil })
	}
	g.Go(func() error { s.serveRenewals(ctx); return nil })
	g.Go(func() error { s.serveProbes(ctx); return nil })
	s.serveTransfers(ctx, g, fronts)
	for _, f := range fronts {
		f.serve(ctx, g)
	}
	s.mu.Lock()
	s.views = len(fronts)
	s.adopt = func(outer context.Context, serve func(context.Context)) {
		g.Go(func() error {
			outer, cancel := context.WithCancel(outer)
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			serve(outer)
			return nil
		})
	}
	s.mu.Unlock()
	close(s.running)
	g.Go(func() error {
		<-ctx.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.adopt = nil
		return nil
	})
	err := g.Wait()
	s.tasks.Wait()
	return err
}

// Serve answers on one more listener until ctx or Run ends, closes it, and
// forgets what upstreams said to its clients. It waits for Run to begin.
func (s *Server) Serve(ctx context.Context, l Listener) error {
	defer closeAll([]Listener{l})
	select {
	case <-s.running:
	case <-ctx.Done():
		return nil
	}
	s.mu.Lock()
	if s.adopt == nil {
		s.mu.Unlock()
		return nil
	}
	f, err := s.newFront(s.views, l)
	if err != nil {
		s.mu.Unlock()
		return fmt.Errorf("dns listener: %w", err)
	}
	s.views++
	ended := make(chan error, 1)
	s.adopt(ctx, func(ctx context.Context) { ended <- s.serveOne(ctx, f, l) })
	s.mu.Unlock()
	return <-ended
}

// serveOne serves one listener beside the others.
func (s *Server) serveOne(ctx context.Context, f *front, l Listener) error {
	defer closeAll([]Listener{l})
	s.setFronts(func(all []*front) []*front { return append(all, f) })
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { closeAll([]Listener{l}) })()
	f.serve(ctx, g)
	err := g.Wait()
	s.setFronts(func(all []*front) []*front { return slices.DeleteFunc(all, func(a *front) bool { return a == f }) })
	if f.view != nil {
		s.cache.remove(func(k cacheKey) bool { return k.view == f.view.id })
	}
	return err
}

// setFronts replaces the listeners that are known.
func (s *Server) setFronts(change func([]*front) []*front) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := change(slices.Clone(*s.fronts.Load()))
	own := ownAddrs(all)
	s.own.Store(&own)
	s.fronts.Store(&all)
}

func closeAll(closers []Listener) {
	for _, l := range closers {
		for _, c := range []io.Closer{l.UDP, l.TCP} {
			if c != nil {
				c.Close()
			}
		}
	}
}

// openUpstream opens what questions to upstreams are sent with: a courier for
// each core and, if all are to leave from one port, that.
func (s *Server) openUpstream() (err error) {
	if s.habits.SourcePort != nil {
		if s.port, err = openPort(*s.habits.SourcePort); err != nil {
			return err
		}
	}
	for range runtime.GOMAXPROCS(0) {
		c, err := newCourier(s)
		if err != nil {
			return err
		}
		s.couriers = append(s.couriers, c)
	}
	return nil
}

// defaultNameServers returns the concrete addresses at which the zone is
// served, or the gateway's if there are none.
func (s *Server) defaultNameServers(fronts []*front) []netip.Addr {
	var out []netip.Addr
	for _, f := range fronts {
		a := f.addr.Addr()
		if f.view == nil && !a.IsUnspecified() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return s.gateway
	}
	return out
}
