package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxClones is the largest number of clones that a bench registers before it
// measures; clones with higher numbers come during measurements.
const MaxClones = 100_000

// SmokeClones is how many clones a smoke test has.
const SmokeClones = 20

// Options is what the command line of a bench asks for.
type Options struct {
	Clones    []int // a table each
	Rounds    int
	Dur       time.Duration // of one measurement
	Tests     []string      // empty: all
	Only      []string      // servers; empty: all
	Smoke     bool          // see that everything works, and measure nothing
	Clonegate string        // program to test
	Dir       string        // for programs and data
	Readme    string        // file for the tables of whole runs

	Stdout, Stderr io.Writer
}

// parse reads a command line.
func (b *Bench) parse(args []string, stdout, stderr io.Writer) (*Options, error) {
	o := &Options{Stdout: stdout, Stderr: stderr}
	clones := b.Clones
	flags := flag.NewFlagSet("bench-"+b.Name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&clones, "clones", clones, "numbers of registered clones, by comma; a table each")
	flags.IntVar(&o.Rounds, "rounds", 3, "rounds; each starts every server anew")
	flags.DurationVar(&o.Dur, "dur", 4*time.Second, "time of one measurement")
	flags.BoolVar(&o.Smoke, "smoke", false, "see that everything works, with what this machine has, and measure nothing")
	flags.StringVar(&o.Clonegate, "clonegate", "bin/clonegate", "the program to test")
	flags.StringVar(&o.Dir, "dir", "build/bench", "directory for programs and data")
	flags.StringVar(&o.Readme, "readme", "bench/README.md", "file that whole runs write their tables to")
	var names []string
	for _, s := range b.Servers {
		names = append(names, s.Name)
	}
	flags.Func("tests", "tests to run, by comma: "+strings.Join(b.Keys, ", ")+" (default: all)", choice(&o.Tests, b.Keys))
	flags.Func("only", "servers to test, by comma: "+strings.Join(names, ", ")+" (default: all)", choice(&o.Only, names))
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("bench-%s takes flags only, not %q", b.Name, flags.Arg(0))
	}
	for text := range strings.SplitSeq(clones, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxClones {
			return nil, fmt.Errorf("-clones: %q is no number from 1 to %d", text, MaxClones)
		}
		o.Clones = append(o.Clones, n)
	}
	if o.Smoke {
		o.Clones, o.Rounds, o.Dur = []int{SmokeClones}, 1, 50*time.Millisecond
	}
	if o.Rounds < 1 || o.Dur <= 0 {
		return nil, errors.New("-rounds and -dur have to be above 0")
	}
	for _, path := range []*string{&o.Clonegate, &o.Dir} { // programs run in directories of their own
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// choice returns the reader of a flag whose value is a list of some of all.
func choice(to *[]string, all []string) func(string) error {
	return func(text string) error {
		*to = strings.Split(text, ",")
		for _, name := range *to {
			if !slices.Contains(all, name) {
				return fmt.Errorf("there is no %q; there are %s", name, strings.Join(all, ", "))
			}
		}
		return nil
	}
}

// Wants reports whether a test is to run.
func (o *Options) Wants(test string) bool { return len(o.Tests) == 0 || slices.Contains(o.Tests, test) }

// whole reports whether nothing was left out.
func (o *Options) whole() bool { return !o.Smoke && len(o.Tests) == 0 && len(o.Only) == 0 }

// publish prints a table, and writes it into the README if nothing was left out.
func (o *Options) publish(section, text string) error {
	fmt.Fprintln(o.Stdout, text)
	if !o.whole() {
		return nil
	}
	return WriteSection(o.Readme, section, text)
}

// ErrMissing is that this machine does not have what a bench cannot do without.
var ErrMissing = errors.New("missing")

// find returns those of the servers that were asked for and are on this
// machine, and where they and the tools are. It installs what is missing as far
// as it can, but for a smoke test.
func (o *Options) find(ctx context.Context, servers []Server, tools []Program) ([]Server, map[string]Found, error) {
	if _, err := os.Stat(o.Clonegate); err != nil {
		return nil, nil, fmt.Errorf("%w: build it with  make build", err)
	}
	bin := filepath.Join(o.Dir, "bin")
	found, missing, err := find(ctx, bin, !o.Smoke, tools...)
	if err != nil {
		return nil, nil, err
	}
	if len(missing) > 0 {
		return nil, nil, fmt.Errorf("%w: this machine has no %s", ErrMissing, strings.Join(missing, ", no "))
	}
	wanted := slices.Clone(servers)
	if len(o.Only) > 0 {
		wanted = slices.DeleteFunc(wanted, func(s Server) bool { return !slices.Contains(o.Only, s.Name) })
	}
	var programs []Program
	for _, s := range wanted {
		if s.Program != (Program{}) {
			programs = append(programs, s.Program)
		}
	}
	those, missing, err := find(ctx, bin, !o.Smoke, programs...)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(found, those)
	for _, m := range missing {
		fmt.Fprintln(o.Stderr, "NOT TESTED: this machine has no", m)
	}
	here := slices.DeleteFunc(wanted, func(s Server) bool {
		_, ok := found[s.Program.Name]
		return !ok && s.Program != (Program{})
	})
	if len(here) == 0 {
		return nil, nil, errors.New("none of the servers is there")
	}
	return here, found, nil
}

// tempDir makes a directory for one round.
func (o *Options) tempDir() (string, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(o.Dir, "round-")
}

// Foreign is the figure of ours that holds how many cores were busy with
// something else, for the caption.
const Foreign = "foreign"

// caption says under which conditions a table was made.
func (o *Options) caption(ctx context.Context, clones int, servers []Server, found map[string]Found, r *Results) string {
	versions := []string{"clonegate " + commit(ctx, ".")}
	for _, s := range servers {
		if f, ok := found[s.Program.Name]; ok {
			versions = append(versions, s.Name+" "+f.Version)
		}
	}
	foreign, _ := r.Median(Foreign, Ours)
	return fmt.Sprintf("%d clones, rounds: %d, %s each; %s; %s.\n%s.\nCPU of everything that is no part of the test: %.2f cores in the median, at most %.2f.\n\n",
		clones, o.Rounds, o.Dur, time.Now().Format("2 January 2006"), machine(), strings.Join(versions, ", "), foreign, r.Worst(Foreign, Ours))
}
