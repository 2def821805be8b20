package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/clonegate/clonegate/registry"
)

func newOpen(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "open ID [SERVICE]",
		Short: "Open a clone in the browser, or print its address",
		Long: `Open a service of a clone in the browser; without SERVICE, its default one. In a
script, or where there is no browser, its URL is printed instead.`,
		Example: `  clonegate open 1234
  curl "$(clonegate open 1234 api)/healthz"`,
		Args: wantArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			clone, err := findClone(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			service := defaultService(clone)
			if len(args) == 2 {
				service = args[1]
			}
			url := clone.URLs[service]
			if url == "" {
				return fmt.Errorf("service %q of clone %s: %w; it has %q", service, clone.ID, registry.ErrNotFound, serviceNames(clone))
			}
			if browser := a.browser(); browser != "" {
				a.say("opening %s", url)
				return exec.CommandContext(cmd.Context(), browser, url).Run()
			}
			return a.result(map[string]string{"service": service, "url": url}, func(w io.Writer) { fmt.Fprintln(w, url) })
		},
	}
}

// browser returns the program that opens a URL, "" if the output is not for
// people or there is none.
func (a *app) browser() string {
	f, ok := a.stdout.(*os.File)
	if !ok || a.json || !term.IsTerminal(int(f.Fd())) || a.getenv("DISPLAY")+a.getenv("WAYLAND_DISPLAY") == "" {
		return ""
	}
	path, err := exec.LookPath("xdg-open")
	if err != nil {
		return ""
	}
	return path
}
