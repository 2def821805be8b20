package lab

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Program is one that tests need and this repository has not.
type Program struct {
	Name    string // of the executable
	Package string // Debian package that has it, or
	Module  string // Go package@version that go install builds it from
}

// A Found program is one that this machine has.
type Found struct {
	Path    string
	Version string
}

// find returns the programs that this machine has, by name. If install is true
// it first installs what is missing, as far as this user may: Go programs into
// bin, Debian packages if the user is root. What is missing all the same is
// named in missing, with the command that installs it.
func find(ctx context.Context, bin string, install bool, programs ...Program) (found map[string]Found, missing []string, err error) {
	if install {
		if err := installAll(ctx, bin, programs); err != nil {
			return nil, nil, err
		}
	}
	found = map[string]Found{}
	for _, p := range programs {
		f, ok := p.find(ctx, bin)
		switch {
		case ok:
			found[p.Name] = f
		case p.Module != "":
			missing = append(missing, fmt.Sprintf("%s: GOBIN=%s go install %s", p.Name, bin, p.Module))
		default:
			missing = append(missing, fmt.Sprintf("%s: apt-get install %s", p.Name, p.Package))
		}
	}
	return found, missing, nil
}

// installAll installs what is not there.
func installAll(ctx context.Context, bin string, programs []Program) error {
	var packages []string
	for _, p := range programs {
		if _, ok := p.find(ctx, bin); ok {
			continue
		}
		if p.Module == "" {
			packages = append(packages, p.Package)
			continue
		}
		if err := run(ctx, []string{"GOBIN=" + bin}, "go", "install", p.Module); err != nil {
			return fmt.Errorf("install %s: %w", p.Module, err)
		}
	}
	if len(packages) == 0 || os.Getuid() != 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil // find says what is missing
	}
	// RUNLEVEL=1 keeps the services of these packages from starting.
	env := []string{"DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"}
	if err := run(ctx, env, "apt-get", "update", "-q"); err != nil {
		return err
	}
	return run(ctx, env, "apt-get", append([]string{"install", "-qy", "--no-install-recommends"}, packages...)...)
}

func run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// find looks for the program where it would have been installed.
func (p Program) find(ctx context.Context, bin string) (Found, bool) {
	if p.Module != "" {
		path := filepath.Join(bin, p.Name)
		info, err := buildinfo.ReadFile(path)
		_, want, _ := strings.Cut(p.Module, "@")
		if err != nil || info.Main.Version != want {
			return Found{}, false
		}
		return Found{path, want}, true
	}
	for dir := range strings.SplitSeq(os.Getenv("PATH")+":/usr/sbin:/sbin", ":") {
		path := filepath.Join(dir, p.Name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return Found{path, p.packaged(ctx)}, true
		}
	}
	return Found{}, false
}

// packaged returns the version of the program's Debian package.
func (p Program) packaged(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat=${Version}", p.Package).Output()
	if err != nil {
		return "of unknown version"
	}
	return string(out)
}
