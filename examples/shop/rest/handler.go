package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strconv"

	"github.com/clonegate/clonegate/examples/shop"
)

// Handler serves a backend. Feeds of events end when stop is closed, so that a
// server can shut down under open ones.
func Handler(b Backend, stop <-chan struct{}, log *slog.Logger) http.Handler {
	h := &handler{log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.answer(func(r *http.Request) (any, error) {
		return map[string]string{"status": "ok"}, b.Healthy(r.Context())
	}))
	mux.HandleFunc("GET /products", h.answer(func(r *http.Request) (any, error) {
		return b.Products(r.Context(), r.FormValue("q"))
	}))
	mux.HandleFunc("GET /products/{sku}", h.answer(func(r *http.Request) (any, error) {
		return b.Product(r.Context(), r.PathValue("sku"))
	}))
	mux.HandleFunc("GET /customers/{email}", h.answer(func(r *http.Request) (any, error) {
		return b.Customer(r.Context(), r.PathValue("email"))
	}))
	mux.HandleFunc("GET /orders", h.answer(func(r *http.Request) (any, error) {
		before, err := number(r.FormValue("before"), 0)
		if err != nil {
			return nil, err
		}
		limit, err := number(r.FormValue("limit"), 50)
		if err != nil {
			return nil, err
		}
		return b.Orders(r.Context(), before, min(limit, 500))
	}))
	mux.HandleFunc("GET /orders/{number}", h.answer(func(r *http.Request) (any, error) {
		n, err := number(r.PathValue("number"), 0)
		if err != nil {
			return nil, err
		}
		return b.Order(r.Context(), n)
	}))
	mux.HandleFunc("POST /orders", take(h, b.Place))
	mux.HandleFunc("POST /reviews", take(h, b.Review))
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { h.events(w, r, b, stop) })
	return mux
}

type handler struct{ log *slog.Logger }

// answer makes a handler of a question to the backend.
func (h *handler) answer(ask func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := ask(r)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

// take makes a handler of a write to the backend. Only JSON is taken: a
// foreign web page cannot send that without asking the CORS policy first.
func take[In, Out any](h *handler, write func(context.Context, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
			writeJSON(w, http.StatusUnsupportedMediaType, problem{"send Content-Type: application/json"})
			return
		}
		var in In
		body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
		body.DisallowUnknownFields()
		if err := body.Decode(&in); err != nil {
			writeJSON(w, http.StatusBadRequest, problem{"body: " + err.Error()})
			return
		}
		out, err := write(r.Context(), in)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusCreated, out)
	}
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := StatusOf(err)
	if status >= 500 && r.Context().Err() == nil {
		h.log.Error("not answered", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	writeJSON(w, status, problem{err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the client has gone if this fails
}

// number reads a positive number; empty stands for def.
func number(s string, def int) (int, error) {
	if s == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: %.40q is not a number", shop.ErrInvalid, s)
	}
	return int(n), nil
}
