package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

func newServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// What may arrive twice is sent again when the daemon says so; what may not is
// sent once.
func TestRetries(t *testing.T) {
	busy := func(w http.ResponseWriter, retryAfter string) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(503)
		fmt.Fprint(w, `{"type":"urn:clonegate:problem:unavailable","title":"t","status":503,"code":"unavailable","detail":"busy"}`)
	}
	tests := []struct {
		name       string
		retryAfter string
		fails      int32
		call       func(context.Context, *client.Client) error
		sent       int32
		ok         bool
	}{
		{"GET", "1", 1, func(ctx context.Context, c *client.Client) error { _, err := c.Clone(ctx, "1"); return err }, 2, true},
		{"renewal", "1", 1, func(ctx context.Context, c *client.Client) error { _, err := c.Renew(ctx, "1", "x"); return err }, 2, true},
		{"GET that never gets through", "1", 99, func(ctx context.Context, c *client.Client) error { _, err := c.Clone(ctx, "1"); return err }, 3, false},
		{"GET without a word when", "", 1, func(ctx context.Context, c *client.Client) error { _, err := c.Clone(ctx, "1"); return err }, 1, false},
		{"POST that makes something", "1", 1, func(ctx context.Context, c *client.Client) error {
			_, err := c.Create(ctx, registry.CreateRequest{})
			return err
		}, 1, false},
		{"health", "1", 1, func(ctx context.Context, c *client.Client) error { _, err := c.Health(ctx); return err }, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int32
			c := open(t, client.Config{URL: newServer(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				if sent.Add(1) <= tt.fails {
					busy(w, tt.retryAfter)
					return
				}
				fmt.Fprint(w, `{}`)
			})})
			err := tt.call(t.Context(), c)
			if sent.Load() != tt.sent || (err == nil) != tt.ok {
				t.Errorf("sent %d times, want %d; error %v", sent.Load(), tt.sent, err)
			}
			if err != nil && !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("error %v, want ErrUnavailable", err)
			}
		})
	}
}

// A caller without the time for another try gets the error it has, at once.
func TestRetriesEndWithTheContext(t *testing.T) {
	c := open(t, client.Config{URL: newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(503)
	})})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	_, err := c.Whoami(ctx)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 503 || time.Since(began) > 3*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestRefusedConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	c := open(t, client.Config{URL: "http://" + addr, Token: "cgt_a_topsecret"})
	_, _, err = c.Unregister(t.Context(), "1", "instance-secret")
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "DELETE /v1/clones/1 at http://"+addr) || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody listens: %v", err)
	}
	// A daemon that is only starting is waited for.
	late := make(chan *http.Server, 1)
	time.AfterFunc(150*time.Millisecond, func() {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			late <- nil
			return
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"9"}`) })}
		late <- s
		s.Serve(ln)
	})
	made, err := c.Create(t.Context(), registry.CreateRequest{Template: "shop"})
	s := <-late
	if s == nil {
		t.Skip("another program took the port")
	}
	defer s.Close()
	if err != nil || made.ID != "9" {
		t.Errorf("a daemon that came late: %+v, %v", made, err)
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"id":"x","name":%q}`, r.Proto)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	if _, err := open(t, client.Config{URL: s.URL}).Whoami(t.Context()); err == nil {
		t.Error("a certificate that nobody trusts was taken")
	}
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if who, err := open(t, client.Config{URL: s.URL, RootCAs: roots}).Whoami(t.Context()); err != nil || who.ID != "x" {
		t.Errorf("%+v, %v", who, err)
	}
}
