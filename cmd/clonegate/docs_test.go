package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
)

// A block is a fenced part of a page. Its info string says what is done with
// it:
//
//	sh                       runs; all of a page run in one shell, in order
//	sh background            runs beside the others; a daemon until it is ready
//	sh background port=8153  the same, until something listens on the port
//	sh no-run reason="…"     does not run, and the test says so
//	… file=NAME              is written to that file before the page runs
//	yaml reference           is the reference of the configuration
//	anything else            is for people
type block struct {
	line       int
	lang, info string
	text       string
}

// blocks returns the fenced parts of a page.
func blocks(t *testing.T, page string) []block {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	var open *block
	for i, line := range strings.Split(string(text), "\n") {
		switch fence, isFence := strings.CutPrefix(line, "```"); {
		case !isFence && open != nil:
			open.text += line + "\n"
		case isFence && open == nil:
			lang, info, _ := strings.Cut(fence, " ")
			open = &block{line: i + 1, lang: lang, info: info}
		case isFence:
			out = append(out, *open)
			open = nil
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block is never closed", page, open.line)
	}
	return out
}

func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(found) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	return append([]string{"../../README.md", "../../examples/README.md"}, found...)
}

// TestDocs runs every command of README and docs, with the programs they name,
// against a real daemon. Pages that start none find one that runs.
func TestDocs(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED: -short leaves out the docs")
	}
	requireProgram(t, "sh", "curl", "dig", "openssl", "make", "go")
	bin := t.TempDir()
	build(t, bin)
	for _, page := range pages(t) {
		name := strings.TrimPrefix(page, "../../")
		t.Run(name, func(t *testing.T) { runPage(t, page, bin) })
	}
}

// build builds the program under test into a directory.
func build(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", ".") // as make does
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func runPage(t *testing.T, page, bin string) {
	all := blocks(t, page)
	s := newDocShell(t, bin)
	own := false
	for _, b := range all {
		own = own || b.lang == "sh" && strings.Contains(b.info, "background")
	}
	if !own {
		s.startDaemon()
		s.prepare(filepath.Base(page))
	}
	for _, b := range all {
		switch {
		case strings.HasPrefix(b.info, "file="):
			s.write(strings.TrimPrefix(b.info, "file="), b.text)
		case b.lang != "sh":
		case strings.HasPrefix(b.info, "no-run reason="):
			t.Logf("NOT RUN: %s:%d: %s", page, b.line, strings.TrimPrefix(b.info, "no-run reason="))
		case b.info == "":
			s.run(page, b)
		case b.info == "background", strings.HasPrefix(b.info, "background port="):
			s.background(page, b)
		default:
			t.Fatalf("%s:%d: a block of sh with %q; see block in docs_test.go for what there is", page, b.line, b.info)
		}
	}
	s.end()
}

// TestReferenceInDocs keeps docs/configuration.md equal to what the program
// reads its defaults from; -update writes it.
func TestReferenceInDocs(t *testing.T) {
	const page = "../../docs/configuration.md"
	for _, b := range blocks(t, page) {
		if b.lang == "yaml" && b.info == "reference" {
			if *update {
				rewrite(t, page, b.text, config.Reference)
				return
			}
			if diff := cmp.Diff(config.Reference, b.text); diff != "" {
				t.Errorf("docs/configuration.md differs from reference.yaml; -update writes it (-reference +docs):\n%s", diff)
			}
			return
		}
	}
	t.Error("docs/configuration.md has no block of yaml reference")
}

// rewrite replaces a part of a page.
func rewrite(t *testing.T, page, old, now string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err == nil {
		err = os.WriteFile(page, []byte(strings.Replace(string(text), old, now, 1)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLinksInDocs follows every relative link.
func TestLinksInDocs(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}
