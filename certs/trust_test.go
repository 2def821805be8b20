package certs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/certs"
)

// childTrust installs or uninstalls the root in dir and prints what was done.
// It is a process of its own because the home folder and PATH are read when a
// program starts.
func childTrust(dir string) {
	do := certs.Install
	if os.Getenv("CERTS_TEST_UNINSTALL") != "" {
		do = certs.Uninstall
	}
	var said []string
	steps, err := do(filepath.Join(dir, "ca.pem"), func(s string) { said = append(said, s) })
	if err != nil {
		said = append(said, err.Error())
	}
	json.NewEncoder(os.Stdout).Encode(trustReport{steps, said})
}

type trustReport struct {
	Steps []certs.TrustStep
	Said  []string
}

// step returns the step about a store, or the zero step.
func (r trustReport) step(store string) certs.TrustStep {
	for _, s := range r.Steps {
		if s.Store == store {
			return s
		}
	}
	return certs.TrustStep{}
}

func (r trustReport) said(what string) bool {
	return strings.Contains(strings.Join(r.Said, "\n"), what)
}

// A machine is a home folder, and programs that stand for the system's.
type machine struct {
	t         *testing.T
	dir, home string
	bin       string
	env       []string
}

// newMachine has no program but those named, which are the real ones.
func newMachine(t *testing.T, dir string, programs ...string) *machine {
	t.Helper()
	m := &machine{t: t, dir: dir, home: t.TempDir(), bin: t.TempDir()}
	for _, p := range programs {
		m.link(p)
	}
	m.env = []string{"HOME=" + m.home, "PATH=" + m.bin, "JAVA_HOME=", "SUDO_USER="}
	return m
}

func (m *machine) link(program string) {
	m.t.Helper()
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			if err := os.Symlink(filepath.Join(dir, program), filepath.Join(m.bin, program)); err != nil {
				m.t.Fatal(err)
			}
			return
		}
	}
	m.t.Fatalf("%s is missing", program)
}

// script puts a shell script in the place of a program.
func (m *machine) script(program, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.bin, program), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) run(env ...string) trustReport {
	m.t.Helper()
	cmd := child(m.t, "trust", m.dir, append(m.env, env...)...)
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatal(err)
	}
	var r trustReport
	if err := json.Unmarshal(out, &r); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	return r
}

func (m *machine) install() trustReport   { m.t.Helper(); return m.run() }
func (m *machine) uninstall() trustReport { m.t.Helper(); return m.run("CERTS_TEST_UNINSTALL=1") }

func (m *machine) wantOutcome(r trustReport, store string, want certs.TrustOutcome) {
	m.t.Helper()
	if got := r.step(store); got.Outcome != want {
		m.t.Errorf("%s: got %+v, want %s", store, got, want)
	}
}

// TestTrustBrowsers puts the root into real NSS databases and takes it out.
func TestTrustBrowsers(t *testing.T) {
	require(t, "libnss3-tools", "certutil")
	ca, cfg := mustCA(t)
	m := newMachine(t, cfg.Dir, "certutil")
	m.script("tee", "exit 1") // keeps the system's store out of it
	profile := filepath.Join(m.home, "snap/firefox/common/.mozilla/firefox/abc.default")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := output(t, "", nil, "certutil", "-N", "-d", "sql:"+profile, "--empty-password"); err != nil {
		t.Fatal(err)
	}
	dbs := []string{filepath.Join(m.home, ".pki/nssdb"), profile}
	trusted := func(db string) bool {
		out, err := output(t, "", nil, "certutil", "-L", "-d", "sql:"+db)
		return err == nil && strings.Contains(out, mustParse(t, ca.RootPEM()).Subject.CommonName) && strings.Contains(out, "C,,")
	}

	first := m.install()
	for _, db := range dbs {
		m.wantOutcome(first, db, certs.TrustDone)
		if !trusted(db) {
			t.Errorf("%s does not trust the root", db)
		}
		if !first.said("adding it to " + db) {
			t.Errorf("said %q; want a word about %s", first.Said, db)
		}
	}
	again := m.install()
	out := m.uninstall()
	gone := m.uninstall()
	for _, db := range dbs {
		m.wantOutcome(again, db, certs.TrustAlready)
		m.wantOutcome(out, db, certs.TrustDone)
		m.wantOutcome(gone, db, certs.TrustAlready)
		if trusted(db) {
			t.Errorf("%s still trusts the root", db)
		}
	}
}

// TestTrustByHand runs the commands proposed to a user without certutil.
func TestTrustByHand(t *testing.T) {
	require(t, "libnss3-tools", "certutil")
	_, cfg := mustCA(t)
	m := newMachine(t, cfg.Dir)
	r := m.install()
	db := filepath.Join(m.home, ".pki/nssdb")
	m.wantOutcome(r, db, certs.TrustSkipped)
	if got := r.step(db); !strings.Contains(got.Detail, "libnss3-tools") {
		t.Errorf("detail: got %q; want the package to install", got.Detail)
	}
	for _, command := range r.step(db).ByHand {
		if _, err := output(t, "", nil, "sh", "-c", command); err != nil {
			t.Fatal(err)
		}
	}
	m.link("certutil")
	m.wantOutcome(m.install(), db, certs.TrustAlready)
	m.wantOutcome(m.uninstall(), db, certs.TrustDone)
}

// TestTrustSystem has scripts stand for the programs that change the system.
func TestTrustSystem(t *testing.T) {
	_, cfg := mustCA(t)
	t.Run("as root or with sudo", func(t *testing.T) {
		m := newMachine(t, cfg.Dir, "cat")
		log := filepath.Join(m.home, "log")
		m.script("sudo", `shift; "$@"`)
		for _, p := range []string{"tee", "update-ca-certificates", "update-ca-trust", "trust"} {
			m.script(p, `echo `+p+` "$@" >>`+log+`; [ `+p+` != tee ] || cat >>`+log)
		}
		r := m.install()
		m.wantOutcome(r, "system", certs.TrustDone)
		text := string(mustRead(t, log))
		if !strings.Contains(text, "tee /") || !strings.Contains(text, string(mustRead(t, filepath.Join(cfg.Dir, "ca.pem")))) {
			t.Errorf("the system was told:\n%s\nwant the root written", text)
		}
		if !r.said("adding it to the system's store, ") || !r.said("valid for "+zone) || !r.said("SHA-256") {
			t.Errorf("said %q; want the root and what needs root's rights", r.Said)
		}
		m.wantOutcome(m.uninstall(), "system", certs.TrustAlready)
	})
	t.Run("refused", func(t *testing.T) {
		m := newMachine(t, cfg.Dir)
		m.script("sudo", "echo a password is required >&2; exit 1")
		m.script("tee", "echo permission denied >&2; exit 1")
		got := m.install().step("system")
		if got.Outcome != certs.TrustFailed || !strings.Contains(got.Detail, "a password is required") || len(got.ByHand) != 2 {
			t.Errorf("got %+v; want the failure and two commands", got)
		}
	})
	t.Run("under sudo", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("NOT TESTED: this takes root")
		}
		m := newMachine(t, cfg.Dir)
		r := m.run("SUDO_USER=ada")
		if got := r.step("nss"); got.Outcome != certs.TrustSkipped || !strings.Contains(got.Detail, "home of ada") {
			t.Errorf("nss: got %+v; want it left to ada", got)
		}
		if _, err := os.Stat(filepath.Join(m.home, ".pki")); err == nil {
			t.Error("a folder was made in the home of somebody else")
		}
	})
}

// TestTrustJava puts the root into the store of a Java home.
func TestTrustJava(t *testing.T) {
	require(t, "default-jdk-headless", "keytool")
	_, cfg := mustCA(t)
	m := newMachine(t, cfg.Dir)
	none := m.install()
	m.wantOutcome(none, "java", certs.TrustSkipped)
	if by := none.step("java").ByHand; len(by) != 1 || !strings.HasPrefix(by[0], "keytool -importcert") {
		t.Errorf("by hand: got %q, want a keytool command", by)
	}

	java := t.TempDir()
	for _, dir := range []string{"bin", "lib/security"} {
		if err := os.MkdirAll(filepath.Join(java, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/usr/bin/keytool", filepath.Join(java, "bin/keytool")); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(java, "lib/security/cacerts")
	if _, err := output(t, "", nil, "keytool", "-genkeypair", "-keyalg", "EC", "-dname", "CN=x", "-alias", "x", "-keystore", store, "-storepass", "changeit"); err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "JAVA_HOME="+java)
	done := m.install()
	m.wantOutcome(done, "java", certs.TrustDone)
	if got := done.step("java").Detail; !strings.Contains(got, "underscore") {
		t.Errorf("detail: got %q; want a word about the underscore", got)
	}
	m.wantOutcome(m.install(), "java", certs.TrustAlready)
	m.wantOutcome(m.uninstall(), "java", certs.TrustDone)
	m.wantOutcome(m.uninstall(), "java", certs.TrustSkipped)
}

// TestTrustRefuses touches nothing for a file that would be unwise to trust.
func TestTrustRefuses(t *testing.T) {
	ca, _ := mustCA(t)
	leaf, err := ca.GetCertificate(hello(""))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text []byte
		want string
	}{
		"a CA for every name": {newUnboundCA(t), "name constraints"},
		"a leaf":              {pemOf(leaf.Certificate[0]), "not that of a CA"},
		"text":                {[]byte("hello"), "no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustWrite(t, filepath.Join(dir, "ca.pem"), tc.text)
			m := newMachine(t, dir)
			r := m.install()
			if len(r.Steps) != 0 || !r.said(tc.want) {
				t.Errorf("got steps %+v, said %q; want no step and %q", r.Steps, r.Said, tc.want)
			}
		})
	}
	if _, err := certs.Install(filepath.Join(t.TempDir(), "none.pem"), nil); err == nil {
		t.Error("no file: got no error")
	}
}
