//go:build !linux || !(amd64 || arm64)

package dnsd

import (
	"context"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// A courier is there only where replies go out in numbers; elsewhere every question has a goroutine.
type courier struct{}

func newCourier(*Server) (*courier, error) { return &courier{}, nil }

func (c *courier) run(ctx context.Context) { <-ctx.Done() }

func (v *view) carry(*flight) bool { return false }

// An attempt is a question that a courier carries.
type attempt struct {
	server netip.AddrPort
	start  time.Time
}

// An outbox is there for couriers.
type outbox struct{}

func (*outbox) room() []byte { return nil }

func (*outbox) add(f *front, socket *udpSocket, reply []byte, to peer) { f.send(socket, reply, to) }

func (a *attempt) over() bool { return true }

func (a *attempt) wait(ctx context.Context) (*dns.Msg, error) { return nil, ctxError(ctx, errSilent) }
