// Package pipeline brings clones to life: it takes the wish for a clone from
// the registry, has a provider unpack the template and start its hosts in the
// order of their needs, and sees to it that what no longer should run does not.
//
// It holds no truth of its own: what is wanted stands in the registry, what
// runs stands in the provider, and after a crash at any moment the Launcher
// compares the two and goes on. It carries no traffic and answers no names.
package pipeline

import (
	"context"
	"io"
	"net/netip"

	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
)

// A Registry is what the Launcher needs of *registry.Registry.
type Registry interface {
	View() *registry.View
	SetState(ctx context.Context, by registry.Actor, id registry.ID, incarnation uint64, s registry.State, reason string) error
	Register(ctx context.Context, by registry.Actor, id registry.ID, reg registry.Registration, takeover bool) (*registry.Grant, error)
	Renew(ctx context.Context, by registry.Actor, id registry.ID, instance string) (*registry.Grant, error)
	CreateToken(ctx context.Context, by registry.Actor, req registry.TokenRequest) (*registry.Token, string, error)
	RevokeToken(ctx context.Context, by registry.Actor, id string) error
}

// Templates holds the content of templates. *oci.Store is one.
type Templates interface {
	// Manifest returns the verified manifest of the content with this digest.
	Manifest(ctx context.Context, digest string) (*manifest.Manifest, error)

	// Unpack unpacks it as the directory dest, which must not exist yet, once
	// every byte has been verified.
	Unpack(ctx context.Context, digest, dest string) (*manifest.Manifest, error)
}

// A Provider makes and ends the clones of one kind. What it has begun it
// remembers across a crash, so every method may be repeated. Prepare, Start,
// Stop and Remove are called one at a time for one clone, but that several
// Starts may run at once.
type Provider interface {
	// Prepare gives a clone its addresses and its own copy of the template's
	// files, or returns those it has been given already.
	Prepare(ctx context.Context, o Order) (*Site, error)

	// Start starts a process of a prepared clone, unless it runs already. A
	// process that has ended is not started again: the error is an *ExitError.
	Start(ctx context.Context, id registry.ID, p Process) error

	// Wait returns when a process has ended, with how. Processes that were
	// never started have ended.
	Wait(ctx context.Context, id registry.ID, name string) (Exit, error)

	// Stop ends all processes of a clone, those of the highest level first,
	// and returns nil once nothing of it runs any more.
	Stop(ctx context.Context, id registry.ID) error

	// Remove deletes everything of a stopped clone but its output.
	Remove(ctx context.Context, id registry.ID) error

	// Processes returns the names of the processes that were started.
	Processes(id registry.ID) []string

	// Held returns the clones that were prepared and not removed.
	Held() []registry.ID

	// Tail returns the last lines a process has written, at most n.
	Tail(id registry.ID, name string, n int) []string

	// Logs writes what the processes of a clone have written to w, which gets
	// whole lines. The error is registry.ErrNotFound if there is no output.
	Logs(ctx context.Context, id registry.ID, q LogQuery, w io.Writer) error

	// Run does what has to be done from time to time, until ctx ends. Processes
	// of clones go on without it.
	Run(ctx context.Context) error
}

// An Order is what a provider needs to know to prepare a clone.
type Order struct {
	ID       registry.ID
	Instance string // names this life; kept by the provider if it is new
	Hosts    map[string]OrderedHost
	Data     []string // directories whose files the clone may change
	// Unpack makes the clone's own copy of the content at dest, which must
	// not exist yet.
	Unpack func(ctx context.Context, dest string) error
}

// An OrderedHost is one host of an Order.
type OrderedHost struct {
	Address uint8    // last octet
	Ports   []uint16 // it will listen on, as far as known
}

// A Site is what a clone was given.
type Site struct {
	Instance  string // of the life the clone was prepared for
	Dir       string // the clone's files, the working directory of its processes
	Private   string // a directory for the clone's secrets, 0700
	Addresses map[string]netip.Addr
}

// A Process is one program of a clone: one of its hosts, or its startup command.
type Process struct {
	Name  string
	Level int // processes of a higher level need those of lower ones
	Run   []string
	Env   map[string]string
}

// An Exit says how a process ended.
type Exit struct {
	OK     bool   // with status 0
	Status string // for people: "ended with exit status 3"
}

// An ExitError is a process that should run and has ended.
type ExitError struct {
	Name string
	Exit Exit
}

func (e *ExitError) Error() string { return e.Name + " " + e.Exit.Status }

// A LogQuery says which output is wanted.
type LogQuery struct {
	Names  []string // of processes; empty: all
	Tail   int      // so many of the last lines of each; negative: all that is kept
	Follow bool     // go on until the context ends or the clone is gone
}

// CheckParams says whether a published template takes the parameters a clone
// is asked for with. The error is registry.FieldErrors.
func CheckParams(t *registry.Template, params map[string]string) error {
	m, err := manifest.FromJSON(t.Manifest)
	if err != nil {
		return err
	}
	_, err = m.Values(params)
	return err
}
