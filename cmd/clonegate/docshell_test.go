package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
)

// docPorts are the ports that pages speak of. Each run uses others, so that it
// disturbs nothing on the machine.
var docPorts = regexp.MustCompile(`\b(8443|8053|8054|8153|7480)\b`)

// A docShell is the shell in which the blocks of one page run, in a copy of
// this repository.
type docShell struct {
	t     *testing.T
	dir   string
	env   []string
	ports map[string]string // as in the page → as in this run
	cmd   *exec.Cmd
	in    io.Writer
	lines chan string // of its output; closed at the end
	stop  []func()
}

func newDocShell(t *testing.T, bin string) *docShell {
	t.Helper()
	s := &docShell{t: t, dir: copyRepository(t), ports: map[string]string{}, lines: make(chan string, 64)}
	for _, port := range []string{"8443", "8053", "8054", "8153", "7480"} {
		s.ports[port] = freePort(t)
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, config.EnvPrefix) && !strings.HasPrefix(v, "PATH=") {
			s.env = append(s.env, v)
		}
	}
	s.env = append(s.env, "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir(),
		"CLONEGATE_API_LISTEN=127.0.0.1:"+s.ports["7480"], "CLONEGATE_LOG_FORMAT=text")
	return s
}

// begin starts the shell, once it is known what its environment holds.
func (s *docShell) begin() {
	if s.cmd != nil {
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command("sh", "-eu")
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.dir, s.env, w, w
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	w.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(s.lines)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			s.lines <- sc.Text()
		}
	}()
	s.t.Cleanup(func() {
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		s.cmd.Wait()
		go func() {
			for range s.lines {
			}
		}()
		<-ended
		r.Close()
	})
}

// place writes the ports of this run in place of those of the page.
func (s *docShell) place(text string) string {
	return docPorts.ReplaceAllStringFunc(text, func(p string) string { return s.ports[p] })
}

func (s *docShell) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(s.place(text)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run runs one block and fails the test if the shell ends on it.
func (s *docShell) run(page string, b block) {
	s.t.Helper()
	s.begin()
	const done = "-- the block is done --"
	fmt.Fprintf(s.in, "%s\necho '%s'\n", s.place(b.text), done)
	deadline := time.After(2 * time.Minute)
	var out []string
	for {
		select {
		case line, open := <-s.lines:
			if !open {
				s.t.Fatalf("%s:%d: the block failed:\n%s\nIt wrote\n%s", page, b.line, b.text, strings.Join(out, "\n"))
			}
			if line == done {
				s.t.Logf("%s:%d:\n%s", page, b.line, strings.Join(out, "\n"))
				return
			}
			out = append(out, line)
		case <-deadline:
			s.t.Fatalf("%s:%d: the block does not end:\n%s\nIt wrote\n%s", page, b.line, b.text, strings.Join(out, "\n"))
		}
	}
}

// background starts a block that goes on while others run.
func (s *docShell) background(page string, b block) {
	s.t.Helper()
	program, _, _ := strings.Cut(strings.TrimSpace(b.text), " ")
	requireProgram(s.t, program)
	s.begin()
	log := filepath.Join(s.dir, fmt.Sprintf("background-%d.log", b.line))
	fmt.Fprintf(s.in, "{\n%s\n} >%s 2>&1 &\n", s.place(b.text), log)
	up := func() bool { return s.isReady(filepath.Join(s.dir, "data")) }
	if port, given := strings.CutPrefix(b.info, "background port="); given {
		up = func() bool { return listens(s.place(port)) }
	} else {
		s.stop = append(s.stop, func() { s.terminate(filepath.Join(s.dir, "data")) })
	}
	for deadline := time.Now().Add(patience); !up(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log)
			s.t.Fatalf("%s:%d: not ready after %s:\n%s\nIt wrote\n%s", page, b.line, patience, b.text, said)
		}
	}
}

func listens(port string) bool {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (s *docShell) isReady(data string) bool {
	a, err := daemon.ReadAddresses(data)
	if err != nil {
		return false
	}
	_, port, _ := net.SplitHostPort(a.API.Listen)
	return listens(port)
}

// startDaemon starts what pages find running, with its data directory and its
// CA where a page's reader has them.
func (s *docShell) startDaemon() {
	s.t.Helper()
	cfg, _, err := config.Load(config.Sources{Set: []string{
		"zone=test_envs.localhost", "data=" + filepath.Join(s.dir, "data"),
		"gateway.listen=127.0.0.1:" + s.ports["8443"], "gateway.redirect=off",
		"api.listen=127.0.0.1:" + s.ports["7480"], "dns.listen=127.0.0.1:" + s.ports["8053"],
		"endpoints.allow=10.0.0.0/8,127.0.0.1/32",
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := daemon.Open(s.t.Context(), daemon.Options{Config: cfg, EndClones: true})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	s.stop = append(s.stop, func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("the daemon ended with %v", err)
		}
	})
	<-d.Started()
	if err := os.Symlink("data/ca.pem", filepath.Join(s.dir, "ca.pem")); err != nil {
		s.t.Fatal(err)
	}
	s.env = append(s.env, "CLONEGATE_DATA="+cfg.Data, "CLONEGATE_API="+d.Addresses().API.URL,
		"CLONEGATE_TOKEN_FILE="+daemon.AdminTokenFile(cfg.Data))
}

// prepare brings about what a page speaks of and does not make itself.
func (s *docShell) prepare(page string) {
	s.t.Helper()
	switch page {
	case "README.md":
		s.do("mkdir -p build/shop/bin && cp -r examples/shop/template.yaml examples/shop/startup.sh examples/shop/data build/shop/")
		s.do("go build -o build/shop/bin/shop ./examples/shop/cmd/shop")
		s.do("clonegate template publish build/shop --promote stable")
	case "certificates.md", "faults.md", "requests.md":
		clone := httptest.NewServer(http.NotFoundHandler())
		s.t.Cleanup(clone.Close)
		addr := clone.Listener.Addr().String()
		s.do("clonegate register 1234 --service www=" + addr + " --service api=" + addr)
	}
}

// do runs a command that no page shows.
func (s *docShell) do(command string) {
	s.t.Helper()
	s.run("(the test itself)", block{text: command})
}

// terminate ends a daemon of the page, and the clones it leaves behind, as its
// reader would.
func (s *docShell) terminate(data string) {
	a, err := daemon.ReadAddresses(data)
	if err != nil {
		s.t.Errorf("the daemon of the page is gone: %v", err)
		return
	}
	if err := syscall.Kill(a.PID, syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	for deadline := time.Now().Add(patience); s.isReady(data); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Errorf("the daemon of the page does not end")
			return
		}
	}
}

func (s *docShell) end() {
	for _, stop := range s.stop {
		stop()
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	for range 20 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenPacket("udp", ln.Addr().String())
		ln.Close()
		if err == nil {
			udp.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no port is free for both TCP and UDP")
	return ""
}

// copyRepository copies what a checkout holds to a directory of its own.
func copyRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case name == ".git" && !e.IsDir(): // of a linked working tree
			return nil
		case name == ".git" || name == "bin" || name == "build":
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(filepath.Join(dir, name), 0o755)
		case !e.Type().IsRegular():
			return nil
		}
		return copyFile(filepath.Join(dir, name), path)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if os.IsNotExist(err) {
		return nil // an editor's or a compiler's, gone meanwhile
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}
