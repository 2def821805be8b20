package certs_test

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/certs"
	"github.com/clonegate/clonegate/registry"
)

// TestMain lets the test binary be what a test runs and kills.
func TestMain(m *testing.M) {
	switch dir := os.Getenv("CERTS_TEST_DIR"); os.Getenv("CERTS_TEST_CHILD") {
	case "ca":
		childCA(dir)
	case "trust":
		childTrust(dir)
	default:
		os.Exit(m.Run())
	}
}

// child runs the test binary as one of the above.
func child(t *testing.T, what, dir string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(append(os.Environ(), "CERTS_TEST_CHILD="+what, "CERTS_TEST_DIR="+dir, "GORACE=atexit_sleep_ms=0"), env...)
	return cmd
}

// childCA makes CAs in fresh folders below dir until it is killed.
func childCA(dir string) {
	zones, err := registry.NewZones(zone, alias)
	if err != nil {
		panic(err)
	}
	for {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			panic(err)
		}
		if _, err := certs.NewCA(certs.CAConfig{Dir: sub, Zones: zones, Names: clone1234}); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("made\n")
	}
}

// TestKilledInFirstStart kills processes that are making CAs, at random, and
// demands that every folder they leave can be used.
func TestKilledInFirstStart(t *testing.T) {
	dir := t.TempDir()
	states := map[string]int{}
	for range 25 {
		cmd := child(t, "ca", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 5)) // one has been made
		time.Sleep(rand.N(3 * time.Millisecond))
		cmd.Process.Kill()
		cmd.Wait()
	}
	folders, err := os.ReadDir(dir)
	if err != nil || len(folders) < 25 {
		t.Fatalf("got %d folders, %v; want 25 or more", len(folders), err)
	}
	for _, f := range folders {
		sub := filepath.Join(dir, f.Name())
		state := files(t, sub)
		states[state]++
		cfg := certs.CAConfig{Dir: sub, Zones: mustZones(t, zone, alias), Names: clone1234}
		ca, err := certs.NewCA(cfg)
		if err != nil {
			t.Errorf("a folder with %s: %v", state, err)
			continue
		}
		if !bytes.Equal(ca.RootPEM(), mustRead(t, filepath.Join(sub, "ca.pem"))) {
			t.Errorf("a folder with %s: ca.pem is not the root", state)
		}
	}
	t.Logf("found %v", states)
}

// files lists a folder.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestLeftovers opens what each moment of a first start would leave behind.
func TestLeftovers(t *testing.T) {
	whole, cfg := mustCA(t)
	key := mustRead(t, filepath.Join(cfg.Dir, "ca.key"))
	for _, tc := range []struct {
		name     string
		leftover map[string]string
		same     bool // the root is that of key
	}{
		{"half a key aside", map[string]string{".aside-ca.key-1": string(key[:100])}, false},
		{"an empty key aside", map[string]string{".aside-ca.key-1": ""}, false},
		{"a key, no root", map[string]string{"ca.key": string(key)}, true},
		{"a key, half a root aside", map[string]string{"ca.key": string(key), ".aside-ca.pem-1": "-----BEG"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tc.leftover {
				mustWrite(t, filepath.Join(dir, name), []byte(text))
			}
			ca, _ := mustCA(t, func(c *certs.CAConfig) { c.Dir = dir })
			if got := bytes.Equal(ca.RootPEM(), whole.RootPEM()); got != tc.same {
				t.Errorf("the root is that of the key found: got %t, want %t", got, tc.same)
			}
			if got := files(t, dir); got != "ca.key ca.pem" {
				t.Errorf("files: got %s; want ca.key ca.pem", got)
			}
			info, err := os.Stat(filepath.Join(dir, "ca.key"))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("ca.key: got mode %v, %v; want 0600", info.Mode(), err)
			}
		})
	}
}

// TestRefused opens folders that need the operator: the error names the file
// and says what to do.
func TestRefused(t *testing.T) {
	_, cfg := mustCA(t)
	_, other := mustCA(t)
	key := string(mustRead(t, filepath.Join(cfg.Dir, "ca.key")))
	root := string(mustRead(t, filepath.Join(cfg.Dir, "ca.pem")))
	otherKey := string(mustRead(t, filepath.Join(other.Dir, "ca.key")))
	otherRoot := string(mustRead(t, filepath.Join(other.Dir, "ca.pem")))
	split := strings.Index(key, "-----BEGIN CERTIFICATE")
	otherSplit := strings.Index(otherKey, "-----BEGIN CERTIFICATE")
	const anew = "clonegate trust"

	for _, tc := range []struct {
		name      string
		key, root string // "" is no file
		change    func(*certs.CAConfig)
		want      []string
	}{
		{"the root alone", "", root, nil, []string{"ca.pem is there but", "ca.key is not", anew}},
		{"half a key", key[:100], root, nil, []string{"ca.key", "got 0 PEM blocks", anew}},
		{"an empty key", " ", root, nil, []string{"ca.key", "PEM", anew}},
		{"a key without certificates", key[:split], root, nil, []string{"ca.key", "got 1 PEM blocks", anew}},
		{"a flipped byte in the key", flip(key, 60), root, nil, []string{"ca.key", anew}},
		{"a flipped byte in the root", flip(key, len(key)-120), root, nil, []string{"ca.key", anew}},
		{"another's key", otherKey[:otherSplit] + key[split:], root, nil, []string{"ca.key", "does not belong", anew}},
		{"another's root in ca.key", key[:strings.LastIndex(key, "-----BEGIN")] + otherRoot, otherRoot, nil, []string{"ca.key", "did not sign", anew}},
		{"another's root", key, otherRoot, nil, []string{"ca.pem is not the root of", "ca.key", "move"}},
		{"half a root", key, root[:80], nil, []string{"ca.pem is not the root of", "written again"}},
		{"after its end", key, root, at(10*365*24*time.Hour + 100*time.Hour), []string{"ca.key expired at 20", anew}},
		{"before its time", key, root, at(-2 * time.Hour), []string{"ca.key is valid from", "clock"}},
		{"another zone", key, root, zoned(t, "other.localhost"), []string{"ca.key was made for " + zone + ", " + alias, "zone other.localhost", anew}},
		{"one zone more", key, root, zoned(t, zone, alias, "third.localhost"), []string{"zone third.localhost", anew}},
		{"the parent zone", key, root, zoned(t, "localhost"), []string{"zone localhost", anew}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := cfg
			cfg.Dir = t.TempDir()
			if tc.key != "" {
				mustWrite(t, filepath.Join(cfg.Dir, "ca.key"), []byte(tc.key))
			}
			if tc.root != "" {
				mustWrite(t, filepath.Join(cfg.Dir, "ca.pem"), []byte(tc.root))
			}
			if tc.change != nil {
				tc.change(&cfg)
			}
			before := files(t, cfg.Dir)
			_, err := certs.NewCA(cfg)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got error %q; want one with %q", err, part)
				}
			}
			if after := files(t, cfg.Dir); after != before {
				t.Errorf("files: got %s; want %s left alone", after, before)
			}
		})
	}
}

// flip changes one letter, so that base64 stays base64.
func flip(s string, at int) string {
	c := byte('A')
	if s[at] == c {
		c = 'B'
	}
	return s[:at] + string(c) + s[at+1:]
}

func at(later time.Duration) func(*certs.CAConfig) {
	return func(c *certs.CAConfig) { c.Now = func() time.Time { return time.Now().Add(later) } }
}

func zoned(t *testing.T, zone string, aliases ...string) func(*certs.CAConfig) {
	return func(c *certs.CAConfig) { c.Zones = mustZones(t, zone, aliases...) }
}

// TestRemarks opens folders that work but deserve a word in the log.
func TestRemarks(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*certs.CAConfig)
		mode   os.FileMode
		want   []string
	}{
		{"a zone less", zoned(t, zone), 0o600, []string{"WARN", "not configured", alias}},
		{"a zone below", zoned(t, "a."+zone), 0o600, []string{"WARN", "not configured", zone}},
		{"a key for all to read", nil, 0o644, []string{"WARN", "chmod 600", "ca.key"}},
		{"near its end", at(3650*24*time.Hour - 80*24*time.Hour), 0o600, []string{"WARN", "ends soon", "clonegate trust"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, cfg := mustCA(t)
			if err := os.Chmod(filepath.Join(cfg.Dir, "ca.key"), tc.mode); err != nil {
				t.Fatal(err)
			}
			log := new(recorder)
			cfg.Log = slog.New(log)
			if tc.change != nil {
				tc.change(&cfg)
			}
			if _, err := certs.NewCA(cfg); err != nil {
				t.Fatal(err)
			}
			if len(log.find(tc.want...)) != 1 {
				t.Errorf("log:\n%s\nwant one line with %q", log, tc.want)
			}
		})
	}
}
