package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A demo is a "clonegate demo" that runs.
type demo struct {
	*process
	t   *testing.T
	tmp string // its temporary directory
	out string // file with what it prints
}

// startDemo runs the demo as people do, but on free ports and in a temporary
// directory of the test's own.
func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{t: t, tmp: t.TempDir()}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	d.out = out.Name()
	cmd := exec.Command(binary, "demo", "--template", shopTemplate(t),
		"--set", "gateway.listen=127.0.0.1:0", "--set", "gateway.redirect=127.0.0.1:0", "--set", "dns.listen=127.0.0.1:0",
		"--set", `dns.resolvers=[{listen: "127.0.0.1:0", clone: "1000"}]`, "--set", "providers.process.network="+freeNetwork(t))
	cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	cmd.Stdout, cmd.Stderr = out, out
	t.Cleanup(func() {
		killClones(t, d.tmp)
		if strings.Contains(d.printed(), "DATA RACE") || strings.Contains(d.printed(), "panic: ") {
			t.Error("the demo failed inside")
		}
		if t.Failed() {
			t.Logf("the demo printed:\n%s", d.printed())
		}
	})
	d.process = startProcess(t, cmd)
	return d
}

func (d *demo) printed() string {
	text, err := os.ReadFile(d.out)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

var demoURL = regexp.MustCompile(`(?m)^www +(https://www-[0-9]+\.test_envs\.localhost:[0-9]+)$`)

// urls waits until the demo has said everything, and returns its two URLs.
func (d *demo) urls() []string {
	d.t.Helper()
	eventually(d.t, time.Minute, "the demo prints what to do", func() string {
		if d.ended() {
			d.t.Fatalf("the demo ended by itself, %s:\n%s", d.status(), d.printed())
		}
		if text := d.printed(); !strings.Contains(text, "Ctrl-C stops") {
			return "it has printed:\n" + text
		}
		return ""
	})
	var urls []string
	for _, m := range demoURL.FindAllStringSubmatch(d.printed(), -1) {
		urls = append(urls, m[1])
	}
	if len(urls) != 2 || urls[0] == urls[1] {
		d.t.Fatalf("the demo printed %d URLs of web fronts:\n%s", len(urls), d.printed())
	}
	return urls
}

// data returns the demo's data directory.
func (d *demo) data() string {
	d.t.Helper()
	found, err := filepath.Glob(filepath.Join(d.tmp, "clonegate-demo-*"))
	if err != nil || len(found) != 1 {
		d.t.Fatalf("data directories of the demo: %v, %v", found, err)
	}
	return found[0]
}

// answer opens both clones with curl, as the demo says.
func (d *demo) answer() {
	d.t.Helper()
	urls := d.urls()
	said := regexp.MustCompile(`(?m)^ *(curl --cacert .*)$`).FindStringSubmatch(d.printed())
	if said == nil {
		d.t.Fatalf("the demo names no curl command:\n%s", d.printed())
	}
	has(d.t, "answer to "+said[1], output(d.t, "sh", "-c", said[1]+" --silent --show-error"), "clone 1000")
	for i, url := range urls {
		page := output(d.t, "curl", "--silent", "--show-error", "--cacert", filepath.Join(d.data(), "ca.pem"), url)
		has(d.t, url, page, fmt.Sprintf("clone %d", 1000+i), "Harrow")
	}
}

// interrupt is Ctrl-C. The demo ends with 0 and leaves nothing behind.
func (d *demo) interrupt() {
	d.t.Helper()
	before := descendants(d.t, d.pid())
	d.signal(os.Interrupt)
	if !d.wait(30 * time.Second) {
		d.t.Fatalf("the demo did not end within 30 s of Ctrl-C:\n%s", d.printed())
	}
	if d.status() != "exit status 0" {
		d.t.Errorf("after Ctrl-C: %s, want exit status 0", d.status())
	}
	if left := clonesOf(d.t, d.tmp); len(left) > 0 {
		d.t.Errorf("processes of clones are left: %v", left)
	}
	for _, r := range processes(d.t) {
		if slices.Contains(before, r.pid) {
			d.t.Errorf("a child of the demo is left: %v", r)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(d.tmp, "*")); len(left) > 0 {
		d.t.Errorf("files of the demo are left: %v", left)
	}
}

// descendants returns the children of a process and theirs.
func descendants(t *testing.T, pid int) (pids []int) {
	t.Helper()
	all := processes(t)
	family := []int{pid}
	for grown := true; grown; {
		grown = false
		for _, r := range all {
			if slices.Contains(family, r.parent) && !slices.Contains(family, r.pid) {
				family, grown = append(family, r.pid), true
			}
		}
	}
	return family[1:]
}

func TestDemo(t *testing.T) {
	need(t, map[string]string{"curl": "curl"})
	t.Parallel()
	shopTemplate(t)
	began := time.Now()
	d := startDemo(t)
	d.urls()
	took := time.Since(began)
	t.Logf("two URLs after %s:\n%s", took.Round(time.Millisecond), d.printed())
	if took > time.Minute {
		t.Errorf("the demo took %s, want less than a minute", took)
	}
	d.answer()
	d.interrupt()
	has(t, "demo", d.printed(), "stopping the clones")
}

// TestDemoInterrupted presses Ctrl-C at any moment of the start.
func TestDemoInterrupted(t *testing.T) {
	long(t)
	t.Parallel()
	for i := range 8 {
		d := startDemo(t)
		eventually(t, 10*time.Second, "the demo begins", func() string { // a signal before that ends any program
			if begun, _ := filepath.Glob(filepath.Join(d.tmp, "*")); len(begun) == 0 {
				return "its directory is not there"
			}
			return ""
		})
		time.Sleep(rand.N(time.Duration(i+1) * 100 * time.Millisecond))
		d.interrupt()
	}
}

// TestDemoKilled kills the demo, and starts it again beside what is left.
func TestDemoKilled(t *testing.T) {
	long(t)
	need(t, map[string]string{"curl": "curl"})
	t.Parallel()
	first := startDemo(t)
	first.urls()
	first.kill()
	left := clonesOf(t, first.tmp)
	if len(left) == 0 {
		t.Error("clones die with a daemon that is killed")
	}
	second := startDemo(t)
	second.answer()
	second.interrupt()
	for _, r := range left {
		syscall.Kill(r.pid, syscall.SIGKILL)
	}
}
