package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry/api"
)

// publishShop publishes the example shop as stable.
func (g *gateway) publishShop() {
	g.t.Helper()
	g.must("template", "publish", shopTemplate(g.t), "--version", "2026.11.21-1")
	g.must("template", "promote", "shop@2026.11.21-1", "stable", "--why", "tests passed")
}

// up starts a clone with one command and returns what it printed as JSON.
func (g *gateway) up(args ...string) *api.Clone {
	g.t.Helper()
	clone := new(api.Clone)
	text := g.must(append([]string{"--json", "up"}, args...)...)
	if err := json.Unmarshal([]byte(text), clone); err != nil {
		g.t.Fatalf("%v\n%s", err, text)
	}
	return clone
}

// fixedPorts is a configuration for daemons that come back at their addresses,
// as clones that are registered by a script expect.
func fixedPorts(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("gateway: {listen: \"127.0.0.1:%s\", redirect: \"127.0.0.1:0\", access_log: off, drain: 10s}\napi: {listen: \"127.0.0.1:%s\"}", freePort(t), freePort(t))
}

// treeDigest returns one digest of every file below a directory.
func treeDigest(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// curl opens a URL as curl does, with the gateway's root and nothing else.
func (g *gateway) curl(args ...string) string {
	g.t.Helper()
	return output(g.t, "curl", append([]string{"--silent", "--show-error", "--max-time", "30", "--cacert", filepath.Join(g.data, "ca.pem")}, args...)...)
}

// order places an order in a clone and returns its number.
func (g *gateway) order(clone *api.Clone, name string) string {
	g.t.Helper()
	form := "sku=MUG-031&quantity=2&name=" + name + "&email=" + name + "@example.com"
	location := strings.TrimSpace(g.curl("--data", form, "--output", os.DevNull, "--write-out", "%{redirect_url}", clone.URLs["www"]+"/orders"))
	number, ok := strings.CutPrefix(location, clone.URLs["www"]+"/orders/")
	if !ok {
		g.t.Fatalf("an order in clone %s led to %q", clone.ID, location)
	}
	return number
}
