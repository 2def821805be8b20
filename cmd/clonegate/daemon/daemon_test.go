package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
)

// configure returns a configuration on free loopback ports with its data in
// dir; set overrides it.
func configure(t *testing.T, dir string, set ...string) *config.Config {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{Set: append([]string{
		"zone=test_envs.localhost", "data=" + dir, "gateway.listen=127.0.0.1:0", "gateway.redirect=127.0.0.1:0",
		"api.listen=127.0.0.1:0", "dns.listen=127.0.0.1:0", "gateway.drain=1s",
	}, set...)})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// start opens a daemon and runs it until the test ends, or stop is called.
func start(t *testing.T, cfg *config.Config) (d *daemon.Daemon, stop func()) {
	t.Helper()
	d, err := daemon.Open(t.Context(), daemon.Options{Config: cfg, Version: "test", Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended with %v, want nil", err)
		}
	}
	t.Cleanup(stop)
	waitReady(t, d.Addresses().API.URL)
	return d, stop
}

// testLog sends a log to the test.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func waitReady(t *testing.T, api string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if resp, err := http.Get(api + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
	}
	t.Fatal("the daemon is not ready after 10 s")
}

// get returns status and body of a GET with the admin token in dir.
func get(t *testing.T, url, dir string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(daemon.AdminTokenFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestFirstStartLeavesWhatTheCommandLineNeeds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d, stop := start(t, configure(t, dir))
	for name, mode := range map[string]os.FileMode{"": 0o700, "admin.token": 0o600, "addresses.json": 0o644, "ca.pem": 0o644, "registry.db": 0o600, "clonegate.lock": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got != mode {
			t.Errorf("%s has mode %o, want %o", info.Name(), got, mode)
		}
	}
	a, err := daemon.ReadAddresses(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.API.URL != d.Addresses().API.URL || a.Zone != "test_envs.localhost" || a.DNS.Listen == "" || a.Gateway.Redirect == "" || a.PID != os.Getpid() {
		t.Errorf("addresses.json says %+v", a)
	}
	status, body := get(t, a.API.URL+"/v1/whoami", dir)
	if status != http.StatusOK || !strings.Contains(body, `"admin"`) {
		t.Errorf("whoami with the admin token: %d %s", status, body)
	}
	stop()
	if _, err := daemon.ReadAddresses(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end addresses.json: got %v, want none", err)
	}
}

func TestTheAdminTokenStaysAndIsReplacedOnDemand(t *testing.T) {
	dir := t.TempDir()
	read := func() string {
		b, err := os.ReadFile(daemon.AdminTokenFile(dir))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, stop := start(t, configure(t, dir))
	first := read()
	stop()
	_, stop = start(t, configure(t, dir))
	if read() != first {
		t.Error("the second start replaced the admin token")
	}
	stop()
	if err := os.Remove(daemon.AdminTokenFile(dir)); err != nil {
		t.Fatal(err)
	}
	d, _ := start(t, configure(t, dir))
	if read() == first {
		t.Error("a start without the file did not make another token")
	}
	if status, _ := get(t, d.Addresses().API.URL+"/v1/whoami", dir); status != http.StatusOK {
		t.Errorf("the new token: got %d, want 200", status)
	}
	if err := os.WriteFile(daemon.AdminTokenFile(dir), []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, d.Addresses().API.URL+"/v1/whoami", dir); status != http.StatusUnauthorized {
		t.Errorf("the old token: got %d, want 401", status)
	}
}

func TestTwoDaemonsOnOneDataDirectory(t *testing.T) {
	dir := t.TempDir()
	start(t, configure(t, dir))
	_, err := daemon.Open(t.Context(), daemon.Options{Config: configure(t, dir)})
	inUse, ok := errors.AsType[*daemon.InUseError](err)
	if !ok {
		t.Fatalf("got %v, want an InUseError", err)
	}
	if inUse.Dir != dir || inUse.Process != strconv.Itoa(os.Getpid()) {
		t.Errorf("got %+v, want %s in use by %d", inUse, dir, os.Getpid())
	}
}

func TestBusyPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_, udpPort, _ := net.SplitHostPort(udp.LocalAddr().String())
	for key, addr := range map[string]string{
		"gateway.listen": ln.Addr().String(), "gateway.redirect": ln.Addr().String(), "api.listen": ln.Addr().String(),
		"dns.listen": udp.LocalAddr().String(), "dns.resolvers[0].listen": "127.0.0.1:" + udpPort,
	} {
		t.Run(key, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			set := key + "=" + addr
			if strings.HasPrefix(key, "dns.resolvers") {
				set = `dns.resolvers=[{listen: "` + addr + `", view: world}]`
			}
			_, err := daemon.Open(t.Context(), daemon.Options{Config: configure(t, dir, set)})
			if err == nil {
				t.Fatal("no error")
			}
			_, port, _ := net.SplitHostPort(addr)
			for _, want := range []string{key + ": ", addr, "ss -lntup 'sport = :" + port + "'"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "registry.db")); err == nil {
				t.Error("a start that failed on a port has made a database")
			}
		})
	}
}

func TestAddressThatIsNotOurs(t *testing.T) {
	_, err := daemon.Open(t.Context(), daemon.Options{Config: configure(t, t.TempDir(), "gateway.listen=192.0.2.1:443")})
	if err == nil || !strings.Contains(err.Error(), "gateway.listen: this machine does not have the address of 192.0.2.1:443") {
		t.Errorf("got %v", err)
	}
}

func TestEndpointAtTheGatewayItselfIsRefused(t *testing.T) {
	dir := t.TempDir()
	d, _ := start(t, configure(t, dir, "endpoints.allow=127.0.0.0/8"))
	token, _ := os.ReadFile(daemon.AdminTokenFile(dir))
	for _, own := range []string{d.Addresses().Gateway.Listen, d.Addresses().Gateway.Redirect, d.Addresses().API.Listen, d.Addresses().DNS.Listen} {
		body := `{"instance":"a","services":{"www":{"endpoints":["` + own + `"]}}}`
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, d.Addresses().API.URL+"/v1/clones/7", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var problem struct{ Errors []struct{ Rule string } }
		err = json.NewDecoder(resp.Body).Decode(&problem)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusUnprocessableEntity || len(problem.Errors) != 1 || problem.Errors[0].Rule != "endpoint-own-listener" {
			t.Errorf("endpoint %s: got %d %+v %v, want 422 endpoint-own-listener", own, resp.StatusCode, problem, err)
		}
	}
}

func TestDataDirectoryThatOthersMayRead(t *testing.T) {
	tests := []struct {
		name     string
		inside   string
		wantOpen bool
		wantMode os.FileMode
	}{
		{"empty", "", false, 0o700},
		{"ours", "clonegate.lock", false, 0o700},
		{"somebody else's", "letters.txt", true, 0o755},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if tt.inside != "" {
				if err := os.WriteFile(filepath.Join(dir, tt.inside), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			open, err := daemon.MakeData(dir)
			if err != nil || open != tt.wantOpen {
				t.Errorf("got %v, %v; want %v, nil", open, err, tt.wantOpen)
			}
			info, err := os.Stat(dir)
			if err != nil || info.Mode().Perm() != tt.wantMode {
				t.Errorf("mode is %v, want %o", info.Mode(), tt.wantMode)
			}
		})
	}
}

// TestTransferKey: a key of a secondary that others may read, or that is none,
// ends the start, and the error says what to do.
func TestTransferKey(t *testing.T) {
	key := "hmac-sha256:xfr.test:c2VjcmV0c2VjcmV0c2VjcmV0"
	tests := []struct {
		name, text string
		mode       os.FileMode
		want       string // in the error; empty: none
	}{
		{"a key", key + "\n", 0o600, ""},
		{"readable by others", key, 0o640, "chmod 600"},
		{"none", "secret", 0o600, "want hmac-sha256:NAME:SECRET"},
		{"absent", "", 0, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "xfr.key")
			if tt.mode != 0 {
				if err := os.WriteFile(file, []byte(tt.text), tt.mode); err != nil {
					t.Fatal(err)
				}
			}
			cfg := configure(t, t.TempDir(), "dns.secondaries=[{clients: [127.0.0.1/32], key_file: "+file+"}]")
			if tt.want == "" {
				start(t, cfg)
				return
			}
			_, err := daemon.Open(t.Context(), daemon.Options{Config: cfg, Version: "test", Log: testLog(t)})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "c2Vj") {
				t.Errorf("got %v, want an error with %q and without the secret", err, tt.want)
			}
		})
	}
}
