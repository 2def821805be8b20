package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
)

var update = flag.Bool("update", false, "write what commands print into the scripts that compare it")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"clonegate": main})
}

// TestScripts runs one user story after another against the real program. In a
// script, $CLONEGATE_DATA is the data directory, $UPSTREAM the address of a
// server that stands for a clone, and
//
//	exits STATUS clonegate ...   runs a command that must exit with STATUS
//	ready                        waits for the daemon and sets $API, $GATEWAY,
//	                             $REDIRECT and $DNS to what it listens on
//	terminate                    sends that daemon SIGTERM
//	eventually clonegate ...     repeats a command until it succeeds
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		RequireUniqueNames:  true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      scriptExits,
			"ready":      scriptReady,
			"terminate":  scriptTerminate,
			"eventually": scriptEventually,
		},
	})
}

func setupScript(env *testscript.Env) error {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("leads-to"); to != "" {
			w.Header().Set("Location", to)
		}
		fmt.Fprintf(w, "the clone was asked for %s\n", r.Host)
	}))
	env.Defer(upstream.Close)
	env.Setenv("UPSTREAM", upstream.Listener.Addr().String())
	env.Setenv("CLONEGATE_DATA", env.WorkDir+"/data")
	env.Setenv("CLONEGATE_ZONE", "test_envs.localhost")
	env.Setenv("CLONEGATE_GATEWAY_LISTEN", "127.0.0.1:0")
	env.Setenv("CLONEGATE_GATEWAY_REDIRECT", "127.0.0.1:0")
	env.Setenv("CLONEGATE_API_LISTEN", "127.0.0.1:0")
	env.Setenv("CLONEGATE_DNS_LISTEN", "127.0.0.1:0")
	env.Setenv("CLONEGATE_ENDPOINTS_ALLOW", "127.0.0.0/8,10.0.0.0/8")
	env.Setenv("HOME", env.WorkDir)
	return nil
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status is %d, want %d", got, want)
	}
}

// patience bounds every wait of a script.
const patience = 20 * time.Second

func scriptReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: ready")
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		a, err := daemon.ReadAddresses(ts.Getenv("CLONEGATE_DATA"))
		if err != nil {
			continue
		}
		resp, err := http.Get(a.API.URL + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			continue
		}
		ts.Setenv("API", a.API.URL)
		ts.Setenv("GATEWAY", a.Gateway.Listen)
		_, port, _ := strings.Cut(a.Gateway.Listen, ":")
		ts.Setenv("GATEWAY_PORT", port)
		ts.Setenv("REDIRECT", a.Gateway.Redirect)
		_, port, _ = strings.Cut(a.DNS.Listen, ":")
		ts.Setenv("DNS_PORT", port)
		return
	}
	ts.Fatalf("no daemon is ready on %s after %s", ts.Getenv("CLONEGATE_DATA"), patience)
}

func scriptTerminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: terminate")
	}
	a, err := daemon.ReadAddresses(ts.Getenv("CLONEGATE_DATA"))
	ts.Check(err)
	ts.Check(syscall.Kill(a.PID, syscall.SIGTERM))
}

func scriptEventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: eventually program [args...]")
	}
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = ts.Exec(args[0], args[1:]...); err == nil {
			return
		}
	}
	ts.Fatalf("%v, even after %s", err, patience)
}

// requireProgram skips a test that drives a program this machine does not have.
func requireProgram(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("NOT TESTED: this machine has no %s; .ci/install installs it", name)
		}
	}
}

func TestHelpOfEveryCommandIsComplete(t *testing.T) {
	root := newRoot(&app{stdout: os.Stdout, stderr: os.Stderr})
	for _, c := range root.Commands() {
		for _, c := range append(c.Commands(), c) {
			if c.Short == "" || strings.HasSuffix(c.Short, ".") {
				t.Errorf("%s: short help %q; want a sentence without its full stop", c.CommandPath(), c.Short)
			}
			if len(c.Short) > 72 {
				t.Errorf("%s: short help is %d characters long; want at most 72", c.CommandPath(), len(c.Short))
			}
		}
	}
}
