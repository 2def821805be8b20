package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

// What clonegate exits with; exitCodesHelp tells people.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitNotAllowed  = 5
	exitUnreachable = 6
	exitInterrupted = 130
)

const exitCodesHelp = `Every command exits with one of these:

    0  it did what was asked
    1  it failed; the reason is on standard error
    2  the command line, or what was to be sent, is not valid
    3  what was named does not exist
    4  conflict: a name is taken, another instance lives, or the lease has ended
    5  not allowed: no token, a wrong one, or one without the right
    6  the daemon cannot be reached
  130  interrupted while waiting`

func newExitCodes() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit statuses of every command mean", Long: exitCodesHelp}
}

// A usageError is a command line that cannot be carried out.
type usageError struct {
	cmd *cobra.Command
	err error
}

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd, fmt.Errorf(format, args...)}
}

func (e *usageError) Unwrap() error { return e.err }

// Error ends in a command that can be pasted.
func (e *usageError) Error() string {
	return fmt.Sprintf("%v\nsee  %s --help", e.err, e.cmd.CommandPath())
}

// wantArgs returns a check for the number of arguments; the names are those
// of the command's usage line. most < 0 takes any number.
func wantArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef(cmd, "too few arguments; want  %s", cmd.UseLine())
		case most >= 0 && len(args) > most:
			return usagef(cmd, "unexpected argument %q; want  %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// exitStatus returns what to exit with for an error.
func exitStatus(ctx context.Context, err error) int {
	_, usage := errors.AsType[*usageError](err)
	_, configuration := errors.AsType[config.Problems](err)
	switch {
	case isUnknownTemplate(err):
		return exitNotFound
	case usage, configuration, errors.Is(err, registry.ErrInvalid):
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	case isUnreachable(err):
		return exitUnreachable
	case errors.Is(err, registry.ErrNotFound):
		return exitNotFound
	case isOneOf(err, registry.ErrExists, registry.ErrHeld, registry.ErrLabelTaken, registry.ErrFenced, registry.ErrEnded):
		return exitConflict
	case isOneOf(err, registry.ErrForbidden, registry.ErrNoToken):
		return exitNotAllowed
	}
	return exitFailed
}

// isUnknownTemplate reports whether all that is wrong with what was sent is
// that it names a template nobody has published.
func isUnknownTemplate(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && len(e.Faults) == 1 && e.Faults[0].Rule == "template-unknown"
}

func isOneOf(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// explain returns what to tell people about an error; several faults of one
// input are a list.
func explain(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok && len(e.Faults) > 0 {
		return listFaults(e)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return strings.ReplaceAll(err.Error(), context.Canceled.Error(), "interrupted")
	case errors.Is(err, registry.ErrNoToken):
		return err.Error() + "; give one with --token-file FILE or CLONEGATE_TOKEN_FILE"
	case isUnreachable(err):
		return unreachableHint(err)
	}
	return err.Error()
}

// listFaults tells every fault of one input, each with its place.
func listFaults(e *client.Error) string {
	var lines []string
	for _, f := range e.Faults {
		lines = append(lines, strings.TrimPrefix(f.Location, "body.")+": "+f.Detail)
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return "what was sent is not valid:\n  - " + strings.Join(lines, "\n  - ")
}

// unreachableHint tells what may be wrong when no daemon answers.
func unreachableHint(err error) string {
	text := err.Error()
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return text + "; name the authority that signed it with --ca FILE"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return text + "; is the daemon running? see  clonegate doctor"
	}
	return text
}
