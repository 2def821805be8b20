//go:build amd64 || arm64

package dnsd_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// TestSocketsAreUsedAgain: not one for each question, nor the same one soon.
func TestSocketsAreUsedAgain(t *testing.T) {
	const n, apart, uses = 6000, 1000, 32
	up := newUpstream(t, says(0, []string{" 60 IN A 198.51.100.1"}, nil))
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	conn, err := dns.Dial("udp", s.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range n {
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.", i), dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ReadMsg(); err != nil {
			t.Fatalf("question %d: %v", i, err)
		}
	}
	used, last := map[uint16]int{}, map[uint16]int{}
	soon, again := 0, 0
	for i, q := range up.questions() {
		port := q.from.Port()
		if used[port]++; used[port] > 1 {
			again++
			if i-last[port] < apart {
				soon++
			}
		}
		last[port] = i
		if used[port] > uses {
			t.Errorf("port %d was used %d times", port, used[port])
		}
	}
	if again < n/4 {
		t.Errorf("%d of %d questions used a port again", again, n)
	}
	if soon > n/100 { // the system may give a port that has just become free
		t.Errorf("%d questions used a port that less than %d others had used since", soon, apart)
	}
	if open := s.Sockets(); open > n/2 {
		t.Errorf("%d sockets are open after %d questions", open, n)
	}
}
