package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// records waits for so many records of a clone.
func (b *bench) records(id registry.ID, n int) []proxy.RequestRecord {
	b.t.Helper()
	var got []proxy.RequestRecord
	eventually(b.t, "records of requests", func() (ok bool) {
		var err error
		if got, err = b.gateway.Requests(id, proxy.RequestFilter{}, 0, 1000); err != nil {
			b.t.Fatal(err)
		}
		return len(got) >= n
	})
	return got
}

func TestRequestsAreRecorded(t *testing.T) {
	b := newBench(t)
	s := b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/missing" {
			w.WriteHeader(404)
		}
		io.WriteString(w, "hello")
	})
	before := time.Now()
	b.do(b.h2, "https://www-1."+zone+"/missing")
	b.records("1", 1)
	b.get("https://www-1."+zone+"/a?token=secret&x", method("POST"), func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("body")) })
	b.records("1", 2)
	b.get("https://nothing-1." + zone + "/")
	got := b.records("1", 3)
	for i, want := range []proxy.RequestRecord{
		{Method: "GET", Path: "/missing", Protocol: "HTTP/2.0", Status: 404, Sent: 5, Service: "www"},
		{Method: "POST", Path: "/a?token=*&*", Protocol: "HTTP/1.1", Status: 200, Received: 4, Sent: 5, Service: "www"},
		{Method: "GET", Path: "/", Protocol: "HTTP/1.1", Status: 404, Reason: proxy.UnknownService, Sent: got[2].Sent},
	} {
		r := got[i]
		if r.Seq != got[0].Seq+uint64(i) || r.Time.Before(before) || len(r.ID) != 16 || r.Client.String() != "127.0.0.1" || r.Duration <= 0 {
			t.Errorf("record %d: %+v; want number, time, request, client and duration", i, r)
		}
		answered := want.Reason == ""
		if addr := s.Listener.Addr().String(); answered != (r.Endpoint.String() == addr) || answered != (r.Waited > 0) || r.Waited > r.Duration || (r.Connect > 0) != (i == 0) {
			t.Errorf("record %d: endpoint %s, waited %d of %d, connected in %d; want that of an answer: %v", i, r.Endpoint, r.Waited, r.Duration, r.Connect, answered)
		}
		want.Seq, want.Time, want.ID, want.Client, want.Duration = r.Seq, r.Time, r.ID, r.Client, r.Duration
		want.Endpoint, want.Waited, want.Connect, want.Trace, want.Host = r.Endpoint, r.Waited, r.Connect, r.Trace, r.Host
		if r != want {
			t.Errorf("record %d: got %+v\nwant %+v", i, r, want)
		}
	}
	if len(got[0].Trace) != 32 || got[0].Host != "www-1."+zone {
		t.Errorf("trace %q, host %q; want those of the request", got[0].Trace, got[0].Host)
	}
	for f, want := range map[proxy.RequestFilter]int{
		{Status: 404}: 2, {Status: 4}: 2, {Status: 200}: 1, {Service: "www"}: 2, {Reason: proxy.UnknownService}: 1, {Service: "api"}: 0,
	} {
		if got, err := b.gateway.Requests("1", f, 0, 1000); err != nil || len(got) != want {
			t.Errorf("%+v: %d records, error %v; want %d", f, len(got), err, want)
		}
	}
	if got, _ := b.gateway.Requests("1", proxy.RequestFilter{}, 0, 1); len(got) != 1 || got[0].Reason != proxy.UnknownService {
		t.Errorf("the newest one is %+v", got)
	}
}

// TestRequestsToACloneThatStartsAreRecorded asks for a clone that takes none.
func TestRequestsToACloneThatStartsAreRecorded(t *testing.T) {
	b := newBench(t)
	b.register("1", www(), func(r *registry.Registration) { r.State = registry.Starting })
	b.get("https://www-1." + zone + "/")
	if got := b.records("1", 1); got[0].Reason != proxy.Starting || got[0].Status != 503 {
		t.Errorf("got %+v; want the reason", got[0])
	}
	if _, err := b.gateway.Requests("9", proxy.RequestFilter{}, 0, 10); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("requests of an unknown clone: %v; want not found", err)
	}
}

// TestFaultsAreRecorded has requests meet faults that somebody added.
func TestFaultsAreRecorded(t *testing.T) {
	b := newBench(t)
	b.serve("1", who("1"))
	slow := fmt.Sprint(b.fault("1", registry.FaultSpec{Kind: registry.FaultLatency, Delay: 1}).ID, " latency")
	teapot := fmt.Sprint(b.fault("1", registry.FaultSpec{Kind: registry.FaultAbort, Status: 418, Path: "/pot"}).ID, " abort")
	for i, tt := range []struct {
		path, want string
		status     int
	}{{"/", slow, 200}, {"/pot", slow + ", " + teapot, 418}} {
		for j, client := range []*http.Client{b.client, b.h2} {
			b.do(client, "https://www-1."+zone+tt.path)
			if r := b.records("1", 2*i+j+1)[2*i+j]; r.Faults != tt.want || r.Path != tt.path || r.Status != tt.status {
				t.Errorf("%s: recorded %+v; want %d and the faults %q", tt.path, r, tt.status, tt.want)
			}
		}
	}
}

func TestFollowRequests(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.RequestsRecorded = 16 })
	b.serve("1", who("1"))
	url := "https://www-1." + zone
	for range 3 {
		b.get(url + "/old")
	}
	b.records("1", 3)
	f, old, err := b.gateway.Follow("1", proxy.RequestFilter{}, 0, 2)
	if err != nil || len(old) != 2 {
		t.Fatalf("%d old records, error %v; want 2", len(old), err)
	}
	defer f.Close()
	if got, missed := f.Read(); len(got) != 0 || missed != 0 {
		t.Errorf("read %v, %d missed; want nothing", got, missed)
	}
	news, over := f.News()
	if over {
		t.Fatal("it is over before it began")
	}
	b.get(url + "/new")
	<-news
	got, _ := f.Read()
	if len(got) != 1 || got[0].Path != "/new" {
		t.Fatalf("read %+v; want the new request", got)
	}
	for range 20 {
		b.get(url + "/many")
	}
	eventually(t, "all are recorded", func() bool {
		all, _ := b.gateway.Requests("1", proxy.RequestFilter{}, 0, 100)
		return all[len(all)-1].Seq == got[0].Seq+20
	})
	if many, missed := f.Read(); len(many) != 16 || missed != 4 {
		t.Errorf("read %d, %d missed; want 16 and 4", len(many), missed)
	}
	news, _ = f.News()
	again, _, err := b.gateway.Follow("1", proxy.RequestFilter{}, got[0].Seq+18, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if rest, missed := again.Read(); len(rest) != 2 || missed != 0 {
		t.Errorf("resumed: %d records, %d missed; want 2", len(rest), missed)
	}
	b.unregister("1")
	<-news
	if _, over := f.News(); !over {
		t.Error("the clone is gone, and its requests are followed")
	}
	if _, _, err := b.gateway.Follow("1", proxy.RequestFilter{}, 0, 1); !errors.Is(err, registry.ErrEnded) {
		t.Errorf("to follow a clone that is gone: %v; want that its life has ended", err)
	}
	if got := b.series("clonegate_proxy_record_bytes")[""]; got != 0 {
		t.Errorf("%v octets are in use for no clone", got)
	}
}
