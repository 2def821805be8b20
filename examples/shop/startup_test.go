package shop_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// shells are what the script has to run in.
var shells = [][]string{{"sh"}, {"dash"}, {"busybox", "sh"}, {"bash", "--posix"}}

// A script is a running startup.sh.
type script struct {
	t      *testing.T
	cmd    *exec.Cmd
	token  string
	mu     sync.Mutex
	stderr bytes.Buffer  // guarded by mu
	wrote  chan struct{} // gets a value after each write
	exit   chan error
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.wrote <- struct{}{}:
	default:
	}
	return s.stderr.Write(p)
}

func (s *script) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.String()
}

// run starts startup.sh for clone 1234 against an API, as a provider would.
// Its environment holds nothing but what env adds to or replaces in that.
func run(t *testing.T, shell []string, apiURL, token string, env ...string) *script {
	t.Helper()
	for _, program := range []string{shell[0], "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NOT TESTED: %s is not installed; .ci/install installs it", program)
		}
	}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, token: token, wrote: make(chan struct{}, 1), exit: make(chan error, 1)}
	s.cmd = exec.Command(shell[0], append(shell[1:], "startup.sh")...)
	s.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "CLONEGATE_API=" + apiURL, "CLONEGATE_TOKEN_FILE=" + tokenFile,
		"CLONEGATE_ID=1234", "CLONEGATE_INSTANCE=life-1", "CLONEGATE_OWNER=ada \"countess\" \\ lovelace",
	}
	for name, h := range readTemplate(t).Hosts {
		s.cmd.Env = append(s.cmd.Env, fmt.Sprintf("CLONEGATE_ADDRESS_%s=%s%d", strings.ToUpper(name), network, h.Address))
	}
	s.cmd.Env = append(s.cmd.Env, env...)
	s.cmd.Stderr = s
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { s.exit <- s.cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	return s
}

// waitFor waits until the script has said text.
func (s *script) waitFor(text string) {
	s.t.Helper()
	late := time.After(15 * time.Second)
	for !strings.Contains(s.said(), text) {
		select {
		case <-s.wrote:
		case err := <-s.exit:
			s.t.Fatalf("startup.sh ended with %v before it said %q; it said:\n%s", err, text, s.said())
		case <-late:
			s.t.Fatalf("startup.sh did not say %q; it said:\n%s", text, s.said())
		}
	}
}

// ends waits for the script to exit with a status and returns what it said.
func (s *script) ends(status int) string {
	s.t.Helper()
	select {
	case err := <-s.exit:
		s.exit <- err
		if got := s.cmd.ProcessState.ExitCode(); got != status {
			s.t.Fatalf("startup.sh ended with status %d, want %d; it said:\n%s", got, status, s.said())
		}
	case <-time.After(15 * time.Second):
		s.t.Fatalf("startup.sh did not end; it said:\n%s", s.said())
	}
	if strings.Contains(s.said(), s.token) {
		s.t.Errorf("startup.sh said the token:\n%s", s.said())
	}
	return s.said()
}

// A gate is a real registry behind its real API.
type gate struct {
	t        *testing.T
	registry *registry.Registry
	url      string
}

func startGate(t *testing.T) *gate {
	t.Helper()
	zones, err := registry.NewZones("test_envs.localhost")
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.Open(t.Context(), registry.Config{
		Store: registrytest.NewStore(), Zones: zones,
		Networks: registry.NewNetworks([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}),
		TTL:      3 * time.Second, RenewEvery: time.Second, SweepEvery: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := api.New(api.Config{Registry: r})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	server := httptest.NewServer(a.Handler())
	t.Cleanup(func() {
		server.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("registry: %v", err)
		}
	})
	return &gate{t, r, server.URL}
}

// token returns a clone's token for some IDs.
func (g *gate) token(ids ...string) string {
	g.t.Helper()
	_, secret, err := g.registry.CreateToken(g.t.Context(), registry.System, registry.TokenRequest{Name: "startup", Role: registry.RoleClone, IDs: ids})
	if err != nil {
		g.t.Fatal(err)
	}
	return secret
}

// register begins a life of clone 1234 as somebody else.
func (g *gate) register(instance string, takeover bool) {
	g.t.Helper()
	if _, err := g.registry.Register(g.t.Context(), registry.System, "1234", registry.Registration{Instance: instance}, takeover); err != nil {
		g.t.Fatal(err)
	}
}

// reaches waits until clone 1234 is in a state.
func (g *gate) reaches(state registry.State) *registry.Clone {
	g.t.Helper()
	view := g.registry.View()
	ctx, cancel := context.WithTimeout(g.t.Context(), 15*time.Second)
	defer cancel()
	for {
		at := view.Revision()
		if c, ok := view.Clone("1234"); ok && c.State == state {
			return c
		}
		if _, err := view.Changes(ctx, at); err != nil {
			c, _ := view.Clone("1234")
			g.t.Fatalf("clone did not become %s: %v; it is %+v", state, err, c)
		}
	}
}

func TestStartupRegistersRenewsAndLeaves(t *testing.T) {
	t.Parallel()
	for _, shell := range shells {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			t.Parallel()
			g := startGate(t)
			s := run(t, shell, g.url, g.token("1234"))
			c := g.reaches(registry.Ready)
			saysTheSame(t, readTemplate(t), c)
			if got, want := c.Owner, `ada "countess" \ lovelace`; got != want {
				t.Errorf("owner %s, want %s", got, want)
			}
			s.waitFor("www-1234.test_envs.localhost")

			first, _ := g.registry.Lease("1234")
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				if l, ok := g.registry.Lease("1234"); ok && l.Renewed.After(first.Renewed) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the lease was not renewed; startup.sh said:\n%s", s.said())
				}
			}

			s.cmd.Process.Signal(syscall.SIGTERM)
			s.ends(0)
			if c := g.reaches(registry.Gone); c.Instance != "life-1" {
				t.Errorf("instance %q ended, want life-1", c.Instance)
			}
			if err := syscall.Kill(-s.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("startup.sh left a process behind: %v", err)
			}
		})
	}
}

func TestStartupComesBackAfterItsLeaseHasEnded(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	s := run(t, shells[0], g.url, g.token("1234"))
	g.reaches(registry.Ready)
	s.cmd.Process.Signal(syscall.SIGSTOP) // as if the machine slept
	g.reaches(registry.Lost)
	s.cmd.Process.Signal(syscall.SIGCONT)
	g.reaches(registry.Ready)
	s.waitFor("registering again")
}

func TestStartupEndsWhenItsLifeIsOver(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(*gate)
		says string
	}{
		{"a newer life took over", func(g *gate) { g.register("life-2", true) }, "not the living instance"},
		{"somebody ended it", func(g *gate) { g.registry.Unregister(g.t.Context(), registry.System, "1234", "") }, "a new life needs a new instance"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := startGate(t)
			s := run(t, shells[0], g.url, g.token("1234"))
			g.reaches(registry.Ready)
			tt.end(g)
			if said := s.ends(0); !strings.Contains(said, "this life is over") || !strings.Contains(said, tt.says) {
				t.Errorf("it said %s, want something of %q", said, tt.says)
			}
		})
	}
}

func TestStartupGivesUpWithAReason(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before func(*gate)
		ids    []string // of the token; nil: no valid token
		env    string
		says   []string
	}{
		{"held", func(g *gate) { g.register("other", false) }, []string{"1234"}, "A=", []string{"belongs to somebody else", "held by another instance"}},
		{"token of another clone", nil, []string{"8"}, "A=", []string{"refused (403)", "was issued for clone"}},
		{"no valid token", nil, nil, "A=", []string{"refused (401)"}},
		{"metadata service", nil, []string{"1234"}, "CLONEGATE_ADDRESS_WEB=169.254.169.254", []string{"refused (422)", "endpoint-link-local"}},
		{"template not published", nil, []string{"1234"}, "CLONEGATE_TEMPLATE=shop@9", []string{"refused (422)", "template-unknown"}},
		{"no such path", nil, []string{"1234"}, "CLONEGATE_ID=1234/x", []string{"refused (404)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := startGate(t)
			if tt.before != nil {
				tt.before(g)
			}
			token := "cgt_abcdefgh_NOTATOKENATALLNOTATOKEN"
			if tt.ids != nil {
				token = g.token(tt.ids...)
			}
			said := run(t, shells[0], g.url, token, tt.env).ends(1)
			for _, want := range tt.says {
				if !strings.Contains(said, want) {
					t.Errorf("it said %s, want something of %q", said, want)
				}
			}
		})
	}
}

// TestStartupWaitsForTheGateway starts the script before anything listens, and
// lets the first answers be failures.
func TestStartupWaitsForTheGateway(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	s := run(t, shells[0], "http://"+addr, "cgt_abcdefgh_SECRET")
	s.waitFor("cannot register now (000)")

	statuses := []int{http.StatusServiceUnavailable, http.StatusCreated}
	if ln, err = net.Listen("tcp", addr); err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	server := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(statuses[0])
		statuses = statuses[1:]
		fmt.Fprint(w, `{"urls":{"www":"https://www-1234.zone"},"lease":{"ttl":120,"renew_every":20}}`)
	})}}
	server.Start()
	t.Cleanup(server.Close)
	s.waitFor("cannot register now (503)")
	s.waitFor("https://www-1234.zone")
}

// TestStartupKeepsItsToken looks at every process of the machine while curl
// waits for its answer.
func TestStartupKeepsItsToken(t *testing.T) {
	t.Parallel()
	const token = "cgt_abcdefgh_THISMUSTNOTBESEEN"
	var mu sync.Mutex
	calls, curls := []string{}, 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, r.Method+" "+r.URL.String())
		if got := r.Header.Get("Authorization"); got != "Bearer "+token {
			t.Errorf("Authorization %q, want the token", got)
		}
		curls += lookAtProcesses(t, token, r.Host)
		fmt.Fprint(w, `{"urls":{"www":"https://www-1234.zone"},"lease":{"ttl":3,"renew_every":1}}`)
	}))
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, root, 0o644); err != nil {
		t.Fatal(err)
	}
	s := run(t, shells[0], server.URL, token, "CLONEGATE_CA_FILE="+ca)
	s.waitFor("registered")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		mu.Lock()
		n := len(calls)
		mu.Unlock()
		if n >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no renewal; startup.sh said:\n%s", s.said())
		}
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.ends(0)

	mu.Lock()
	defer mu.Unlock()
	if got, want := calls[0]+", "+calls[1], "PUT /v1/clones/1234, POST /v1/clones/1234/renew"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
	if got, want := calls[len(calls)-1], "DELETE /v1/clones/1234?instance=life-1"; got != want {
		t.Errorf("called %s at last, want %s", got, want)
	}
	if curls < len(calls) {
		t.Errorf("curl was seen %d times during %d calls; the test looks at the wrong processes", curls, len(calls))
	}
}

// lookAtProcesses fails the test if the token stands in the arguments or the
// environment of any process. It returns how many processes mention host.
func lookAtProcesses(t *testing.T, token, host string) (mentions int) {
	files, _ := filepath.Glob("/proc/[0-9]*/[ce][mn][dv]*") // cmdline and environ
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the process has ended, or is somebody else's
		}
		if bytes.Contains(text, []byte(token)) {
			t.Errorf("the token stands in %s: %q", f, text)
		}
		if strings.HasSuffix(f, "cmdline") && bytes.Contains(text, []byte("curl")) && bytes.Contains(text, []byte(host)) {
			mentions++
		}
	}
	return mentions
}
