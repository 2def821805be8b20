package client

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A stream that no longer says anything is left, one that only shows that it
// lives is not.
func TestSilence(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		beat := time.NewTicker(20 * time.Millisecond)
		defer beat.Stop()
		for range 20 {
			fmt.Fprint(w, ": still here\n\n")
			http.NewResponseController(w).Flush()
			<-beat.C
		}
		fmt.Fprint(w, "event: last\n\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	c, err := New(Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.silence = 200 * time.Millisecond
	got := ""
	err = c.Stream(t.Context(), "/", nil, "", func(m Message) error { got += m.Event; return nil })
	if !errors.Is(err, errSilent) || got != "last" {
		t.Errorf("heard %q, then %v; want last and %v", got, err, errSilent)
	}
}
