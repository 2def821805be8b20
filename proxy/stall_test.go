package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
)

func TestStalledUpload(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.StallTimeout = 800 * time.Millisecond })
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	c := b.dialTLS("www-1." + zone)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: www-1."+zone+"\r\nContent-Length: 10\r\n\r\n")
	for range 5 { // progress resets the clock
		time.Sleep(200 * time.Millisecond)
		io.WriteString(c, "x")
	}
	start := time.Now()
	exchangeRaw(t, c, "").wantReason(t, 408, proxy.BodyTimeout)
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("it took %s to give up; want 0.8 s", d)
	}
}

// TestStalledDownload has a client that stops reading. Its connection is cut,
// and the clone's with it.
func TestStalledDownload(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.StallTimeout = 200 * time.Millisecond })
	cut := make(chan error, 1)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.CopyN(w, zeros{}, 1<<30)
		cut <- err
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		res, err := c.Get("https://www-1." + zone + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		select {
		case err := <-cut:
			if err == nil {
				t.Error("the clone sent everything")
			}
		case <-time.After(5 * time.Second):
			t.Error("the clone still waits for the client after 5 s")
		}
	})
}

// TestQuietStreamsStay keeps an event stream and a stream both ways open for
// much longer than any deadline, without an octet.
func TestQuietStreamsStay(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) {
		l := &c.Limits
		l.StallTimeout, l.ResponseTimeout, l.HeadTimeout = 250*time.Millisecond, 250*time.Millisecond, 250*time.Millisecond
	})
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		time.Sleep(500 * time.Millisecond)
		io.WriteString(w, "awake")
		if r.Method == "POST" {
			w.(http.Flusher).Flush()
			io.Copy(w, r.Body)
		}
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		if got := b.do(c, "https://www-1."+zone+"/"); got.body != "awake" {
			t.Errorf("events: got %q", got.body)
		}
		r, w := io.Pipe()
		req, _ := http.NewRequest("POST", "https://www-1."+zone+"/", r)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		octets := make([]byte, 5)
		io.ReadFull(res.Body, octets)
		time.Sleep(500 * time.Millisecond)
		io.WriteString(w, " and well")
		w.Close()
		rest, err := io.ReadAll(res.Body)
		if string(octets)+string(rest) != "awake and well" || err != nil {
			t.Errorf("both ways: got %q, %v", string(octets)+string(rest), err)
		}
	})
}
