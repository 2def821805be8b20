package pipeline_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/pipeline/process"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/clonegate/clonegate/registry/sqlite"
)

// beDaemon is a registry on disk and a launcher, in which two clones of
// shop@1 are asked for at once. It works until it is killed.
func beDaemon(dir string) {
	err := func() error {
		ctx := context.Background()
		store, err := sqlite.Open(ctx, filepath.Join(dir, "registry.db"), sqlite.Config{})
		if err != nil {
			return err
		}
		zones, err := registry.NewZones(registrytest.Zone)
		if err != nil {
			return err
		}
		cfg := registry.Config{Store: store, Zones: zones}
		records(&cfg)
		r, err := registry.Open(ctx, cfg)
		if err != nil {
			return err
		}
		go func() { _ = r.Run(ctx) }() // until it is killed
		templates, err := oci.Open(oci.Config{Dir: filepath.Join(dir, "templates")})
		if err != nil {
			return err
		}
		provider, err := process.New(process.Config{Dir: filepath.Join(dir, "clones")})
		if err != nil {
			return err
		}
		l, err := pipeline.New(pipeline.Config{
			Registry: r, Templates: templates, API: "http://127.0.0.1:1",
			Providers: map[string]pipeline.Provider{"process": provider},
		})
		if err != nil {
			return err
		}
		for range 2 {
			if _, err := r.Create(ctx, registry.System, registry.CreateRequest{Template: "shop"}); err != nil {
				return err
			}
		}
		fmt.Println("created")
		return l.Run(ctx)
	}()
	fmt.Fprintln(os.Stderr, "daemon ended:", err)
	os.Exit(1)
}

// onDisk keeps the registry in a file.
func onDisk(t *testing.T, dir string) func(*registry.Config) {
	return func(cfg *registry.Config) {
		var store *sqlite.Store
		// What a daemon was about to start when it was killed may have its
		// files open for a moment, until it becomes another program.
		eventually(t, "the registry's file", func() bool {
			var err error
			store, err = sqlite.Open(t.Context(), filepath.Join(dir, "registry.db"), sqlite.Config{})
			return err == nil
		})
		cfg.Store = store
		t.Cleanup(func() { must(t, store.Close()) })
	}
}

// TestKilledAtAnyMoment kills a daemon at some moment of its starts. The next
// one brings the same clones up, once each, and can end them without a trace.
func TestKilledAtAnyMoment(t *testing.T) {
	for round := range 10 {
		t.Run(fmt.Sprintf("after %d ms", round*70), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			t.Run("publish", func(t *testing.T) { // ends before the daemon begins
				buildAt(t, dir, nil, onDisk(t, dir)).publish(shop, nil)
			})
			daemon := exec.Command(os.Args[0])
			daemon.Env = append(os.Environ(), "CLONEGATE_TEST_DAEMON="+dir)
			daemon.Stderr = os.Stderr
			out, err := daemon.StdoutPipe()
			must(t, err)
			must(t, daemon.Start())
			t.Cleanup(func() { endClones(t, dir) })
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "created\n" {
				t.Fatalf("daemon said %q, %v", line, err)
			}
			time.Sleep(time.Duration(round) * 70 * time.Millisecond)
			must(t, daemon.Process.Kill())
			_ = daemon.Wait() // it was killed

			h := buildAt(t, dir, nil, onDisk(t, dir))
			for _, id := range []registry.ID{"1000", "1001"} {
				h.await(id, registry.Ready)
				hosts := map[string]bool{}
				for host := range h.running(id) {
					hosts[host] = true
				}
				if diff := cmp.Diff(map[string]bool{"web": true, "api-1": true, "api-2": true, "db": true}, hosts); diff != "" {
					t.Errorf("running hosts of %s (-want +got):\n%s", id, diff)
				}
				if got := h.get(id, "web", "/rows"); got != "from the template\n" {
					t.Errorf("data of %s: %q", id, got)
				}
				h.down(id)
				h.nothingRuns(id)
			}
		})
	}
}
