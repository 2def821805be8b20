package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// An app is what every command shares: where it reads and writes, and the
// global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            []string // as os.Environ returns

	api       string // --api
	tokenFile string // --token-file
	caFile    string // --ca
	data      string // --data
	json      bool   // --json
}

const rootHelp = `clonegate gives every disposable clone of production its own https address,
its own DNS names, and a life that manages itself.

  clonegate demo                  try it: two clones of a small shop, on this machine
  clonegate serve --config FILE   run the gateway
  clonegate up shop@stable        start a clone and print its addresses

Commands find the daemon of this machine by themselves, through its data
directory. To speak to another one, give --api and --token-file, or set
CLONEGATE_API and CLONEGATE_TOKEN_FILE. Results are printed on standard output,
words on standard error; --json prints results for programs.`

// The groups of commands, in the order of the help.
const (
	groupDaemon    = "daemon"
	groupClones    = "clones"
	groupRegister  = "register"
	groupTemplates = "templates"
	groupAdmin     = "admin"
	groupMore      = "more"
)

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "clonegate",
		Short:         "https addresses, DNS names and a life for clones of production",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{cmd: cmd, err: err}
	})
	f := root.PersistentFlags()
	f.StringVar(&a.api, "api", "", "base `URL` of the daemon's API ($CLONEGATE_API); default: the daemon of this machine")
	f.StringVar(&a.tokenFile, "token-file", "", "`FILE` that holds the API token ($CLONEGATE_TOKEN_FILE); default: admin.token in the data directory")
	f.StringVar(&a.caFile, "ca", "", "PEM `FILE` of the authority that signed the API's certificate ($CLONEGATE_CA_FILE)")
	f.StringVar(&a.data, "data", "", "data `DIR` of the daemon of this machine ($CLONEGATE_DATA)")
	f.BoolVar(&a.json, "json", false, "print results as JSON")
	root.AddGroup(
		&cobra.Group{ID: groupClones, Title: "Clones:"},
		&cobra.Group{ID: groupTemplates, Title: "Templates:"},
		&cobra.Group{ID: groupRegister, Title: "Registering clones that something else started:"},
		&cobra.Group{ID: groupDaemon, Title: "The gateway:"},
		&cobra.Group{ID: groupAdmin, Title: "Access and trust:"},
		&cobra.Group{ID: groupMore, Title: "More:"},
	)
	addCommands(root, groupClones, newUp(a), newDown(a), newList(a), newShow(a), newLogs(a), newRequests(a), newOpen(a), newFault(a))
	addCommands(root, groupTemplates, newTemplate(a))
	addCommands(root, groupRegister, newRegister(a), newRenew(a), newUnregister(a))
	addCommands(root, groupDaemon, newServe(a), newDemo(a), newDNS(a), newDoctor(a))
	addCommands(root, groupAdmin, newToken(a), newTrust(a))
	addCommands(root, groupMore, newVersion(a))
	root.AddCommand(newExitCodes())
	root.SetHelpCommand(newHelp(root))
	root.SetHelpCommandGroupID(groupMore)
	root.SetCompletionCommandGroupID(groupMore)
	// A command that only holds others is not one to run by itself.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	plainUsage(root)
	return root
}

// plainUsage keeps "[flags]" out of usage lines, which name what matters.
func plainUsage(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	for _, c := range cmd.Commands() {
		plainUsage(c)
	}
}

func addCommands(root *cobra.Command, group string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// newHelp returns the help command, which knows topics beside commands.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command or a topic",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd, strings.Join(rest, " "))
			}
			return cmd.Help()
		},
	}
}

// unknownCommand is the error for a command that does not exist, with what
// may have been meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	text := fmt.Sprintf("there is no command %q", name)
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef(cmd, "%s", text)
}

// newGroup returns a command that only holds others.
func newGroup(use, short, long string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "%s needs to know what to do", cmd.CommandPath())
			}
			return unknownCommand(cmd, args[0])
		},
	}
	c.AddCommand(cmds...)
	return c
}
