// Package web is the shop's front: pages for browsers, and a WebSocket that
// tells every open page what has just been bought.
//
// It behaves as the front of a production does: it knows its own public URL
// and writes it into redirects, cookies are for secure origins only, and a
// page calls the API on another origin. It asks the API for everything and
// keeps nothing.
package web

import (
	"context"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/clonegate/clonegate/examples/shop"
	"github.com/clonegate/clonegate/examples/shop/rest"
)

//go:embed pages static
var files embed.FS

// Config is what the front needs. Every field is required.
type Config struct {
	Clone *shop.Clone
	API   *rest.Client
	WWW   string          // public URL of the front itself, without a slash at the end
	Calls string          // public URL of the API, for calls from pages
	Stop  <-chan struct{} // open WebSockets end when it is closed
	Log   *slog.Logger
}

// A Front serves the shop's pages.
type Front struct {
	Config
	pages    map[string]*template.Template
	sessions sessions
	handler  http.Handler
	live     sync.WaitGroup // open WebSockets
}

// New returns a Front.
func New(cfg Config) (*Front, error) {
	f := &Front{Config: cfg, pages: map[string]*template.Template{}, sessions: newSessions()}
	names, err := fs.Glob(files, "pages/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		t, err := template.New("layout.html").Funcs(functions).ParseFS(files, "pages/layout.html", name)
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", name, err)
		}
		f.pages[strings.TrimSuffix(strings.TrimPrefix(name, "pages/"), ".html")] = t
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", f.front)
	mux.HandleFunc("GET /products/{sku}", f.product)
	mux.HandleFunc("POST /products/{sku}/reviews", f.review)
	mux.HandleFunc("GET /orders", f.orders)
	mux.HandleFunc("GET /orders/{number}", f.order)
	mux.HandleFunc("POST /orders", f.place)
	mux.HandleFunc("GET /login", f.login)
	mux.HandleFunc("POST /login", f.signIn)
	mux.HandleFunc("POST /logout", f.signOut)
	mux.HandleFunc("GET /old-shop", f.oldShop)
	mux.HandleFunc("GET /live", f.liveOrders)
	mux.HandleFunc("GET /healthz", f.healthz)
	mux.Handle("GET /static/", cached(http.FileServerFS(files)))
	mux.HandleFunc("/", f.unknown)

	guard := http.NewCrossOriginProtection()
	if err := guard.AddTrustedOrigin(cfg.WWW); err != nil {
		return nil, fmt.Errorf("public URL of the front: %w", err)
	}
	f.handler = f.secured(guard.Handler(mux))
	return f, nil
}

// ServeHTTP serves the pages. Forms and WebSockets of other origins, another
// clone's pages among them, get 403.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.handler.ServeHTTP(w, r) }

// Wait returns when every WebSocket has been told goodbye, which they are
// once Stop is closed, or when ctx ends.
func (f *Front) Wait(ctx context.Context) {
	ended := make(chan struct{})
	go func() { f.live.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// secured sends the policy that production sends: scripts and styles from here
// alone, calls to the API. The API's scheme stands for its name, because
// browsers take no name with an underscore in a policy, and the zones of
// clones may have one (CSP 3 §2.3.1, host-char).
func (f *Front) secured(next http.Handler) http.Handler {
	scheme, _, _ := strings.Cut(f.Calls, "//")
	policy := "default-src 'self'; connect-src 'self' " + scheme + "; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "strict-origin-when-cross-origin")
		next.ServeHTTP(w, r)
	})
}

// cached lets browsers keep what is embedded, for a short while: the next
// version of the shop may have other files under the same names.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		next.ServeHTTP(w, r)
	})
}

// healthz is healthy if the API is, for no page works without it.
func (f *Front) healthz(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := f.API.Healthy(r.Context()); err != nil {
		http.Error(w, "api: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// oldShop is an address of years ago that is still in people's bookmarks.
func (f *Front) oldShop(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, f.WWW+"/", http.StatusMovedPermanently)
}
