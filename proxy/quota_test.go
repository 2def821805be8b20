package proxy_test

import (
	"bufio"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// TestFailuresDoNotFloodTheLog has one clone fail again and again: the log gets a
// few lines a second and the number of the others, and what another clone has to
// say is not lost.
func TestFailuresDoNotFloodTheLog(t *testing.T) {
	const most, failures = 3, 40
	b := newBench(t, func(c *proxy.Config) { c.LogOneIn, c.Limits.FailuresLogged = 0, most })
	for _, id := range []string{"1", "2"} {
		b.backend(registry.ID(id), func(c *net.TCPConn, _ *bufio.Reader) { c.SetLinger(0) })
	}
	fail := func(id string) {
		b.get("https://www-"+id+"."+zone+"/", method("POST")).wantReason(t, 502, proxy.UpstreamBroken)
	}
	start := time.Now()
	for range failures {
		fail("1")
	}
	fail("2")
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1010 * time.Millisecond))) // to the next second
	fail("1")
	b.stop()
	lines, said := 0, 0
	for _, msg := range []string{"request", "endpoint is benched"} {
		for _, line := range b.log.records(msg) {
			if line["clone"] == "1" {
				unsaid, _ := line["unsaid"].(float64)
				lines, said = lines+1, said+1+int(unsaid)
			}
		}
	}
	if seconds := int(time.Since(start)/time.Second) + 2; lines > most*seconds {
		t.Errorf("%d lines about clone 1 in %d seconds; want at most %d in each", lines, seconds, most)
	}
	if want := failures + 2; said != want { // one is that the endpoint is benched
		t.Errorf("the log tells of %d failures of clone 1; want %d", said, want)
	}
	if !slices.ContainsFunc(b.log.records("request"), func(line map[string]any) bool { return line["clone"] == "2" }) {
		t.Error("the log does not tell of clone 2")
	}
}
