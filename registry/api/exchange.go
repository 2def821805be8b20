package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// An exchange is what the layers around one request learn about it and the
// access log tells.
type exchange struct {
	operation string
	actor     registry.Actor
	err       error // what the client was not told
	stream    bool  // the answer lasts until the client leaves
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request; of any other context, one that
// nobody reads and whose actor may do nothing.
func exchangeOf(ctx context.Context) *exchange {
	if e, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return e
	}
	return &exchange{actor: nobody("")}
}

// nobody is an actor without any right. The zero Actor would be the daemon.
func nobody(from string) registry.Actor {
	return registry.Actor{Token: &registry.Token{Name: "nobody"}, From: from}
}

// Actor returns who makes the request that ctx belongs to.
func Actor(ctx context.Context) registry.Actor { return exchangeOf(ctx).actor }

// peer returns the address a request came from, without its port.
func peer(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return ap.Addr().Unmap().String()
}

// isOpen reports whether path answers without a token.
func (a *API) isOpen(path string) bool {
	switch path {
	case "/healthz", "/readyz", "/openapi.json", "/ca.pem":
		return true
	}
	return false
}

// authenticate lets requests through that carry a valid token; everything but
// the open paths needs one, whether it exists or not.
func (a *API) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.isOpen(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		token, p := a.tokenOf(r)
		if p != nil {
			p.write(w)
			return
		}
		exchangeOf(r.Context()).actor.Token = token
		next.ServeHTTP(w, r)
	})
}

// tokenOf returns the token a request carries.
func (a *API) tokenOf(r *http.Request) (*registry.Token, *Problem) {
	const hint = "send the header Authorization: Bearer cgt_…; an admin makes tokens with: clonegate token create"
	given := r.Header.Values("Authorization")
	if len(given) == 0 {
		return nil, Refusal(http.StatusUnauthorized, "no-token", "this request carries no token; %s", hint)
	}
	scheme, secret, _ := strings.Cut(given[0], " ")
	if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return nil, Refusal(http.StatusUnauthorized, "no-token", "the Authorization header is not one Bearer token; %s", hint)
	}
	token, err := a.registry.Authenticate(strings.TrimSpace(secret))
	if err != nil {
		p := ProblemOf(err)
		p.Detail += "; " + hint
		return nil, p
	}
	return token, nil
}

// refuse answers instead of an operation.
func refuse(ctx huma.Context, p *Problem) {
	_, w := humago.Unwrap(ctx)
	p.write(w)
}
