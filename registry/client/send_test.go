package client_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

// TestSend streams both ways: the server answers every part before the next
// one is sent.
func TestSend(t *testing.T) {
	url := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/echo" || r.URL.RawQuery != "a=b" || r.Header.Get("Content-Type") != "application/x-tar" || r.ContentLength != -1 {
			t.Errorf("request is %s %s of %d octets with %v", r.Method, r.URL, r.ContentLength, r.Header)
		}
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		for part := make([]byte, 1); ; {
			if _, err := r.Body.Read(part); err != nil {
				return
			}
			w.Write(part)
			w.(http.Flusher).Flush()
		}
	})
	c, err := client.New(client.Config{URL: url, Token: "cgt_a_b"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body, parts := io.Pipe()
	resp, err := c.Send(t.Context(), client.Request{Method: "POST", Path: "/v1/echo", Query: map[string][]string{"a": {"b"}}}, "application/x-tar", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, want := range "stream" {
		fmt.Fprint(parts, string(want))
		got := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, got); err != nil || got[0] != byte(want) {
			t.Fatalf("sent %c, got %q, %v", want, got, err)
		}
	}
	parts.Close()
	if left, err := io.ReadAll(resp.Body); len(left) > 0 || err != nil {
		t.Errorf("after the end: %q, %v", left, err)
	}
}

func TestSendRefused(t *testing.T) {
	sent := 0
	url := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		sent++
		if r.ContentLength != 0 || r.Header.Get("Content-Type") != "" {
			t.Errorf("no body was sent as %d octets of %q", r.ContentLength, r.Header.Get("Content-Type"))
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(503)
		fmt.Fprint(w, `{"status":503,"code":"unavailable","detail":"busy"}`)
	})
	c, err := client.New(client.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Send(t.Context(), client.Request{Method: "GET", Path: "/"}, "", nil)
	if !errors.Is(err, registry.ErrUnavailable) || err.Error() != "busy" || sent != 1 {
		t.Errorf("%v after %d requests, want ErrUnavailable after one", err, sent)
	}
}
