package main

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// An instanceFlag names one life of a clone.
type instanceFlag struct {
	app   *app
	value string
}

func (f *instanceFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.value, "instance", "", "`NAME` of this life of the clone ($CLONEGATE_INSTANCE); default: this machine's boot")
}

// get returns the instance: the one that was given or, by default, one that
// stays the same until this machine boots again.
func (f *instanceFlag) get() (string, error) {
	if given := firstOf(f.value, f.app.getenv("CLONEGATE_INSTANCE")); given != "" {
		return given, nil
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", errors.New("this machine has no boot ID; name the life of the clone with --instance")
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return host + "-" + strings.TrimSpace(string(boot)), nil
}
