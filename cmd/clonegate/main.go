// Command clonegate gives every disposable clone of production its own trusted
// https address, its own DNS, and a life that manages itself.
//
// The daemon is "clonegate serve"; every other command speaks to it through
// the API. This package connects the rooms and holds no rules of its own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends ctx; a second one, the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns the status to exit with.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: os.Environ()}
	cmd := newRoot(app)
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if text := explain(err); text != "" {
		fmt.Fprintln(stderr, "clonegate: "+text)
	}
	return exitStatus(ctx, err)
}
