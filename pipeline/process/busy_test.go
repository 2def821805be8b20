package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/process"
)

// TestBusyProgram starts a program that somebody still has open for writing.
func TestBusyProgram(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	program, err := os.ReadFile(self)
	must(t, err)
	p := open(t, process.Config{})
	site := prepare(t, p, order("1", "life-busy", map[string]string{"program": string(program)}))
	run := pipeline.Process{
		Name: "web", Run: []string{"./program", "-test.run=^$"},
		Env: map[string]string{"CLONEGATE_INSTANCE": "life-busy", "CLONEGATE_HOST": "web"},
	}
	busy, err := os.OpenFile(filepath.Join(site.Dir, "program"), os.O_WRONLY, 0)
	must(t, err)
	err = p.Start(t.Context(), "1", run)
	if err == nil || !strings.Contains(err.Error(), "text file busy") {
		t.Errorf("start of a program that stays busy: %v, want text file busy", err)
	}
	released := time.AfterFunc(100*time.Millisecond, func() { busy.Close() })
	defer released.Stop()
	start(t, p, "1", run)
	if exit := wait(t, p, "1", "web"); !exit.OK {
		t.Errorf("it %s", exit.Status)
	}
}
