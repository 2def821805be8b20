package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// grace is how long requests at work may take to end when the process is told
// to stop.
const grace = 5 * time.Second

// serve answers on an address until ctx ends, then lets requests at work
// finish. It returns nil when all of them have.
func serve(ctx context.Context, address string, handler http.Handler, log *slog.Logger) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           logged(handler, log),
		ReadHeaderTimeout: 15 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	log.Info("listening", "addr", address)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping")
	ending, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err = server.Shutdown(ending)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("requests cut off", "after", grace)
		return server.Close()
	}
	return err
}

// logged writes a line for every request when it arrives: an open feed would
// otherwise be told of only when it ends.
func logged(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		level := slog.LevelInfo
		if r.URL.Path == "/healthz" {
			level = slog.LevelDebug
		}
		log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "peer", r.RemoteAddr, "for", r.Header.Get("X-Forwarded-For"))
		next.ServeHTTP(w, r)
	})
}
