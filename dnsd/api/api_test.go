package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/clonegate/clonegate/dnsd"
	dnsapi "github.com/clonegate/clonegate/dnsd/api"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A daemon is an API and a DNS server over one registry.
type daemon struct {
	t        *testing.T
	url, dns string
	secrets  map[registry.Role]string
	registry *registry.Registry
	zone     string
}

func start(t *testing.T) *daemon {
	t.Helper()
	r := registrytest.New(t)
	a, err := api.New(api.Config{Registry: r})
	must(t, err)
	server, err := dnsd.New(dnsd.Config{Directory: r.View(), Gateway: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, ResolvConf: t.TempDir() + "/absent"})
	must(t, err)
	dnsapi.Register(a.Huma(), server)
	d := &daemon{t: t, registry: r, secrets: map[registry.Role]string{}, zone: string(r.View().Zones().Zone())}
	for _, role := range []registry.Role{registry.RoleAdmin, registry.RoleEngineer, registry.RoleViewer} {
		_, d.secrets[role], err = r.CreateToken(t.Context(), registry.System, registry.TokenRequest{Name: string(role), Role: role})
		must(t, err)
	}
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	must(t, err)
	d.dns = tcp.Addr().String()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	d.url = "http://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() {
		ended <- server.Run(ctx, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: &dnsd.Resolver{Clone: "7"}})
	}()
	web := a.Server()
	go func() { ended <- web.Serve(ln) }()
	t.Cleanup(func() {
		cancel()
		must(t, web.Close())
		<-ended
		<-ended
		http.DefaultClient.CloseIdleConnections()
	})
	d.ask("ready." + d.zone) // the listener is open by then
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) ask(name string) int {
	d.t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.TypeA)
	r, _, err := new(dns.Client).Exchange(m, d.dns)
	must(d.t, err)
	return r.Rcode
}

func (d *daemon) call(role registry.Role, method, path, body string) (int, string) {
	d.t.Helper()
	resp := d.open(d.t.Context(), role, method, path, body)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(d.t, err)
	return resp.StatusCode, string(text)
}

func (d *daemon) open(ctx context.Context, role registry.Role, method, path, body string) *http.Response {
	d.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, strings.NewReader(body))
	must(d.t, err)
	req.Header.Set("Authorization", "Bearer "+d.secrets[role])
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	must(d.t, err)
	return resp
}

// TestOperations: every operation, by those who may call it and those who may not.
func TestOperations(t *testing.T) {
	d := start(t)
	for _, row := range []struct {
		role         registry.Role
		method, path string
		body         string
		status       int
		want         string
	}{
		{registry.RoleViewer, "GET", "/v1/dns/explain?name=x." + d.zone, "", 200, `"rcode":"NXDOMAIN"`},
		{registry.RoleViewer, "GET", "/v1/dns/explain?name=x&view=7&type=MX", "", 200, `"rcode":"SERVFAIL"`},
		{registry.RoleViewer, "GET", "/v1/dns/explain?name=x&view=9", "", 404, `no-listener`},
		{registry.RoleViewer, "GET", "/v1/dns/explain?name=a..b", "", 400, `bad-question`},
		{registry.RoleViewer, "POST", "/v1/dns/flush", `{"name":".","suffix":true}`, 403, `forbidden`},
		{registry.RoleEngineer, "POST", "/v1/dns/flush", `{"name":".","suffix":true}`, 200, `"answers":`},
		{registry.RoleEngineer, "POST", "/v1/dns/flush", `{"name":"a..b"}`, 400, `bad-name`},
		{registry.RoleViewer, "GET", "/v1/dns/log", "", 403, `forbidden`},
		{registry.RoleAdmin, "GET", "/v1/dns/log?client=here", "", 400, `bad-filter`},
	} {
		status, body := d.call(row.role, row.method, row.path, row.body)
		if status != row.status && !(row.status == 422 && status == 400) || !strings.Contains(body, row.want) {
			t.Errorf("%s %s %s as %s: %d %s; want %d and %s", row.method, row.path, row.body, row.role, status, body, row.status, row.want)
		}
	}
}

// TestFault: a fault of the clone is met by clients of its resolver, and told.
func TestFault(t *testing.T) {
	d := start(t)
	if rcode := d.ask("x." + d.zone); rcode != dns.RcodeNameError {
		t.Errorf("before the fault: rcode %d", rcode)
	}
	_, err := d.registry.Register(t.Context(), registry.System, "7", registry.Registration{Instance: "one"}, false)
	must(t, err)
	_, err = d.registry.AddFault(t.Context(), registry.System, "7", registry.FaultRequest{
		FaultSpec: registry.FaultSpec{Kind: registry.FaultDNSServfail, Name: "x." + d.zone},
	})
	must(t, err)
	if rcode := d.ask("x." + d.zone); rcode != dns.RcodeServerFailure {
		t.Errorf("under the fault: rcode %d", rcode)
	}
	if _, body := d.call(registry.RoleViewer, "GET", "/v1/dns/explain?view=7&name=x."+d.zone, ""); !strings.Contains(body, `"faults":["fault `) {
		t.Errorf("explained without its fault: %s", body)
	}
	_, err = d.registry.RemoveFault(t.Context(), registry.System, "7", 0)
	must(t, err)
	if rcode := d.ask("x." + d.zone); rcode != dns.RcodeNameError {
		t.Errorf("after the fault: rcode %d", rcode)
	}
}

// TestLog: the log is followed line by line.
func TestLog(t *testing.T) {
	d := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp := d.open(ctx, registry.RoleAdmin, "GET", "/v1/dns/log?clone=7&suffix="+d.zone+"&client=127.0.0.1", "")
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	asked := make(chan struct{})
	go func() { // until the reader is there
		defer close(asked)
		for ctx.Err() == nil {
			d.ask("log." + d.zone)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	line, err := bufio.NewReader(resp.Body).ReadBytes('\n')
	must(t, err)
	cancel()
	<-asked
	var e dnsd.LogEntry
	must(t, json.Unmarshal(line, &e))
	if e.Name != "log."+d.zone+"." || e.Type != "A" || e.Rcode != "NXDOMAIN" || e.Clone != "7" || !e.Client.IsLoopback() {
		t.Errorf("got %s", line)
	}
}
