package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/clonegate/clonegate"

// A listed is one package as go list sees it.
type listed struct {
	ImportPath    string
	Imports, Deps []string
}

// TestArrows keeps the rooms apart: cmd knows everybody, everybody knows
// registry, and the others never know one another.
func TestArrows(t *testing.T) {
	for _, p := range listPackages(t) {
		from := room(p.ImportPath)
		for _, dep := range p.Deps {
			if to := room(dep); to != "" && !mayKnow(from, to) {
				t.Errorf("%s depends on %s: %s may not know %s; declare a small interface and let cmd connect it", p.ImportPath, dep, from, to)
			}
		}
	}
}

func mayKnow(from, to string) bool {
	switch from {
	case to, "cmd", "bench":
		return true
	case "proxy", "dnsd", "certs", "pipeline":
		return to == "registry"
	}
	return false // registry and the examples know nobody
}

// TestForeignTypesStopAtOneDoor keeps what may be replaced one day behind one
// package each, and the domain free of how it is reached and kept.
func TestForeignTypesStopAtOneDoor(t *testing.T) {
	doors := []struct{ foreign, door string }{
		{"github.com/mattn/go-sqlite3", "registry/sqlite"},
		{"github.com/pressly/goose/v3", "registry/sqlite"},
		{"github.com/miekg/dns", "dnsd"},
		{"github.com/caddyserver/certmagic", "certs"},
		{"github.com/libdns/libdns", "certs"},
		{"github.com/mholt/acmez/v3", "certs"},
		{"go.uber.org/zap", "certs"},
		{"github.com/smallstep/truststore", "certs"},
		{"oras.land/oras-go/v2", "pipeline"},
		{"github.com/spf13/cobra", "cmd/clonegate"},
	}
	forbidden := []struct{ pkg, dep, why string }{
		{"registry", "net/http", "the registry does not know how it is reached"},
		{"registry", "database/sql", "the registry does not know how it is kept"},
		{"registry/client", "database/sql", "clients wait for no cgo"},
		{"dnsd", "database/sql", "names come from the view"},
		{"proxy", "database/sql", "routes come from the view"},
	}
	packages := listPackages(t)
	for _, d := range doors {
		for _, p := range packages {
			if !under(p.ImportPath, module+"/"+d.door) && slices.ContainsFunc(p.Imports, func(i string) bool { return under(i, d.foreign) }) {
				t.Errorf("%s imports %s; only %s may", p.ImportPath, d.foreign, d.door)
			}
		}
	}
	for _, f := range forbidden {
		i := slices.IndexFunc(packages, func(p listed) bool { return p.ImportPath == module+"/"+f.pkg })
		if i < 0 {
			t.Errorf("package %s does not exist", f.pkg)
			continue
		}
		if slices.Contains(packages[i].Deps, f.dep) {
			t.Errorf("%s depends on %s: %s", f.pkg, f.dep, f.why)
		}
	}
}

// room returns the top-level folder of a package of ours, "" for others.
func room(path string) string {
	rest, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func listPackages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = errors.New(string(exit.Stderr))
		}
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}
