package certs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Chromium on Linux and Firefox everywhere keep trusted roots in databases of
// the NSS library, one a user or profile. truststore knows only the oldest of
// these places, so they are found and filled here, with NSS's own certutil.

// chromiumDB is where Chromium looks first; it is made if it is not there.
const chromiumDB = ".pki/nssdb"

// nssPlaces are the folders of databases below the home folder.
var nssPlaces = []string{
	chromiumDB,
	".local/share/pki/nssdb",
	"snap/chromium/current/.pki/nssdb",
	".var/app/*/.pki/nssdb",
	".mozilla/firefox/*",
	".config/mozilla/firefox/*",
	"snap/firefox/common/.mozilla/firefox/*",
	".var/app/org.mozilla.firefox/.mozilla/firefox/*",
	"Library/Application Support/Firefox/Profiles/*",
}

func (t *trust) installNSS() []TrustStep {
	return t.eachNSS(true, func(db, certutil string) TrustStep {
		if err := makeNSS(db, certutil); err != nil {
			return TrustStep{Outcome: TrustFailed, Detail: err.Error(), ByHand: t.nssInstallByHand(db)}
		}
		there := run(certutil, "-L", "-d", "sql:"+db, "-n", t.name) == nil
		t.say("adding it to " + db)
		// Also if it is there: it may have lost its trust.
		if err := run(certutil, "-A", "-d", "sql:"+db, "-t", "C,,", "-n", t.name, "-i", t.file); err != nil {
			return TrustStep{Outcome: TrustFailed, Detail: err.Error(), ByHand: t.nssInstallByHand(db)}
		}
		if there {
			return TrustStep{Outcome: TrustAlready}
		}
		return TrustStep{Outcome: TrustDone, Detail: "a browser that is running must be started again"}
	})
}

func (t *trust) uninstallNSS() []TrustStep {
	return t.eachNSS(false, func(db, certutil string) TrustStep {
		if run(certutil, "-L", "-d", "sql:"+db, "-n", t.name) != nil {
			return TrustStep{Outcome: TrustAlready, Detail: "it is not there"}
		}
		t.say("removing it from " + db)
		if err := run(certutil, "-D", "-d", "sql:"+db, "-n", t.name); err != nil {
			return TrustStep{Outcome: TrustFailed, Detail: err.Error(), ByHand: t.nssUninstallByHand(db)}
		}
		return TrustStep{Outcome: TrustDone}
	})
}

// eachNSS calls do with every database of this user, and with the one that
// Chromium will make if it is wanted too. The step gets its Store here.
func (t *trust) eachNSS(install bool, do func(db, certutil string) TrustStep) []TrustStep {
	home, err := os.UserHomeDir()
	if err != nil {
		return []TrustStep{{Store: "nss", Outcome: TrustSkipped, Detail: err.Error()}}
	}
	if user := os.Getenv("SUDO_USER"); user != "" && os.Geteuid() == 0 {
		return []TrustStep{{Store: "nss", Outcome: TrustSkipped, Detail: "browsers keep their roots in the home of " + user + ": run this again without sudo"}}
	}
	dbs := nssDatabases(home)
	if first := filepath.Join(home, chromiumDB); install && runtime.GOOS == "linux" && !slices.Contains(dbs, first) {
		dbs = append([]string{first}, dbs...)
	}
	certutil, err := exec.LookPath("certutil")
	missing := err != nil || runtime.GOOS == "windows" // where certutil is something else
	var steps []TrustStep
	for _, db := range dbs {
		step := TrustStep{
			Outcome: TrustSkipped,
			Detail:  "certutil of NSS is not installed (Debian: libnss3-tools, Fedora: nss-tools, Homebrew: nss)",
			ByHand:  t.nssUninstallByHand(db),
		}
		if install {
			step.ByHand = t.nssInstallByHand(db)
		}
		if !missing {
			step = do(db, certutil)
		}
		step.Store = db
		steps = append(steps, step)
	}
	return steps
}

// nssDatabases returns the folders that hold a database.
func nssDatabases(home string) []string {
	var dbs []string
	for _, place := range nssPlaces {
		found, _ := filepath.Glob(filepath.Join(home, place, "cert9.db")) // the pattern is well formed
		for _, f := range found {
			dbs = append(dbs, filepath.Dir(f))
		}
	}
	return dbs
}

// makeNSS makes an empty database without a password where there is none.
func makeNSS(db, certutil string) error {
	if _, err := os.Stat(filepath.Join(db, "cert9.db")); err == nil {
		return nil
	}
	if err := os.MkdirAll(db, 0o700); err != nil {
		return err
	}
	return run(certutil, "-N", "-d", "sql:"+db, "--empty-password")
}

func (t *trust) nssInstallByHand(db string) []string {
	add := fmt.Sprintf("certutil -d %s -A -t C,, -n %s -i %s", quote("sql:"+db), quote(t.name), quote(t.file))
	if _, err := os.Stat(filepath.Join(db, "cert9.db")); err == nil {
		return []string{add}
	}
	return []string{
		"mkdir -p -m 700 " + quote(db),
		"certutil -d " + quote("sql:"+db) + " -N --empty-password",
		add,
	}
}

func (t *trust) nssUninstallByHand(db string) []string {
	return []string{fmt.Sprintf("certutil -d %s -D -n %s", quote("sql:"+db), quote(t.name))}
}

// run runs a program without input and returns what it complained of.
func run(program string, args ...string) error {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.Join(strings.Fields(string(out)), " "))
	}
	return nil
}
