package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
	"github.com/clonegate/clonegate/registry/durable"
)

func newToken(a *app) *cobra.Command {
	return newGroup("token", "Make, list and revoke API tokens",
		`A token says what its holder may do, by its role:

  viewer     read everything
  clone      register, renew and unregister the IDs it was issued for
  engineer   start clones, and stop those it owns
  publisher  publish, promote and revoke templates
  admin      everything`,
		newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
}

func newTokenCreate(a *app) *cobra.Command {
	var req registry.TokenRequest
	var role, out string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Make a token and print its secret, this once",
		Long: `Make a token. NAME tells people, and the audit log, who uses it. The secret is
printed on standard output, or written to a new file that only you may read; it
is kept nowhere else.`,
		Example: `  clonegate token create ci --role publisher --out ci.token
  clonegate token create rack-7 --role clone --ids 1000-1999 --ttl 24h`,
		Args: wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Name, req.Role = args[0], registry.Role(role)
			if req.TTL, err = wholeSeconds("ttl", ttl); err != nil {
				return usagef(cmd, "%w", err)
			}
			if role == "" {
				return usagef(cmd, "a token needs a role: give --role, one of %s", join(registry.Roles))
			}
			if _, err := os.Lstat(out); err == nil {
				return fmt.Errorf("%s is there already, and may be a token in use: remove it first, or choose another file", out)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			t, err := c.CreateToken(cmd.Context(), req)
			if err != nil {
				return err
			}
			a.say("token %s of %s, role %s, %s", t.ID, t.Name, t.Role, expiry(&t.Token))
			if out != "" {
				return keepSecret(cmd.Context(), c, t, out)
			}
			return a.result(t, func(w io.Writer) { fmt.Fprintln(w, t.Secret) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "what the token may do: viewer, clone, engineer, publisher or admin (`ROLE`)")
	f.StringSliceVar(&req.IDs, "ids", nil, "for role clone: the `IDS` it may register, as in 1234 or 1000-1999")
	f.BoolVar(&req.Takeover, "takeover", false, "for role clone: it may take over a living registration")
	f.DurationVar(&ttl, "ttl", 0, "end the token after this `TIME`; default: never")
	f.StringVar(&out, "out", "", "write the secret to this new `FILE` instead, for you alone")
	return cmd
}

// keepSecret writes the secret of a token to a file that only this user may
// read. A token whose secret cannot be kept is of no use and revoked.
func keepSecret(ctx context.Context, c *client.Client, t *api.NewToken, file string) error {
	err := durable.CreateFile(file, []byte(t.Secret+"\n"), 0o600)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("token %s is revoked, its secret could not be kept: %w", t.ID, err), c.RevokeToken(ctx, t.ID))
}

func join(roles []registry.Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

func expiry(t *api.Token) string {
	if t.Expires.IsZero() {
		return "does not expire"
	}
	return "expires " + t.Expires.Format(time.RFC3339)
}

func newTokenList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List tokens, without their secrets",
		Args:  wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			tokens := []*api.Token{}
			for t, err := range c.Tokens(cmd.Context()) {
				if err != nil {
					return err
				}
				tokens = append(tokens, t)
			}
			return a.result(tokens, func(w io.Writer) { printTokens(w, tokens, time.Now()) })
		},
	}
}

func printTokens(w io.Writer, tokens []*api.Token, now time.Time) {
	var rows [][]string
	for _, t := range tokens {
		expires := "never"
		if !t.Expires.IsZero() {
			expires = "in " + short(t.Expires.Sub(now))
		}
		rows = append(rows, []string{t.ID, t.Name, string(t.Role), strings.Join(t.IDs, ","), expires, ago(t.LastUsed, now)})
	}
	table(w, []string{"ID", "NAME", "ROLE", "IDS", "EXPIRES", "USED"}, rows)
}

func newTokenRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID...",
		Short: "End tokens at once",
		Args:  wantArgs(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			for _, id := range args {
				if err := c.RevokeToken(cmd.Context(), id); err != nil {
					return err
				}
				a.say("token %s is revoked", id)
			}
			return nil
		},
	}
}
