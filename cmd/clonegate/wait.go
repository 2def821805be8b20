package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// waitFlags say whether a command waits for what it asked for, and how long.
type waitFlags struct {
	not     bool
	timeout time.Duration
}

// add adds the flags; until is what the clone is waited for to be.
func (f *waitFlags) add(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVar(&f.not, "no-wait", false, "return at once, before the clone is "+until)
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Minute, "give up waiting after this `TIME`; the clone goes on")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if f.timeout <= 0 {
			return usagef(cmd, "--timeout %s: want a time above 0; not to wait at all, give --no-wait", f.timeout)
		}
		return nil
	}
}

// bound returns a context that ends when waiting is given up.
func (f *waitFlags) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("not done after %s", f.timeout))
}
