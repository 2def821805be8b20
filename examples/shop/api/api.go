// Package api is the shop's public API: what package rest serves, for browsers
// on the shop's own pages and for programs. It keeps nothing itself.
package api

import (
	"log/slog"
	"net/http"

	"github.com/clonegate/clonegate/examples/shop/rest"
)

// Config is what the API needs. Backend and Front are required.
type Config struct {
	Backend rest.Backend
	Front   string          // public URL of the web front, whose pages may call the API
	Host    string          // name of this instance, in the header Shop-Host of every answer
	Stop    <-chan struct{} // feeds of events end when it is closed
	Log     *slog.Logger
}

// New returns the handler of the API.
func New(cfg Config) http.Handler {
	return signed(cfg.Host, crossOrigin(cfg.Front, rest.Handler(cfg.Backend, cfg.Stop, cfg.Log)))
}

// signed says which instance has answered.
func signed(host string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Shop-Host", host)
		next.ServeHTTP(w, r)
	})
}

// crossOrigin lets the pages of one origin call, with credentials, and
// answers their preflights. Pages of every other origin are told nothing, so
// that their browser keeps the answer from them.
func crossOrigin(origin string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		if r.Header.Get("Origin") == origin {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Access-Control-Expose-Headers", "Shop-Host")
		}
		if r.Method != http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID")
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	})
}
