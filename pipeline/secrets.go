package pipeline

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

// newInstance returns a random string that names one life of a clone.
func newInstance() string { return strings.ToLower(rand.Text()) }

// startupEnvironment returns what the startup command is told beside what
// hosts are: how to reach the API, and a registration that only needs to be sent.
func (w *worker) startupEnvironment(ctx context.Context, p *plan) (map[string]string, error) {
	token := filepath.Join(p.site.Private, "token")
	if err := w.writeToken(ctx, token); err != nil {
		return nil, err
	}
	body, err := json.MarshalIndent(p.registration(), "", "  ")
	if err != nil {
		return nil, err
	}
	registration := filepath.Join(p.site.Private, "registration.json")
	if err := durable.WriteFile(registration, append(body, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write the registration: %w", err)
	}
	env := p.environment(manifest.StartupName)
	env["CLONEGATE_API"] = w.l.cfg.API
	env["CLONEGATE_TOKEN_FILE"] = token
	env["CLONEGATE_REGISTRATION_FILE"] = registration
	if w.l.cfg.CAFile != "" {
		env["CLONEGATE_CA_FILE"] = w.l.cfg.CAFile
	}
	return env, nil
}

// tokenName is how the token of a clone's startup command is called.
func tokenName(id registry.ID) string { return "clone " + string(id) }

// writeToken makes a token that may register this clone alone, unless an
// interrupted start has made one already.
func (w *worker) writeToken(ctx context.Context, file string) error {
	if secret, err := os.ReadFile(file); err == nil && w.knows(string(secret)) {
		return nil
	}
	if err := w.revokeTokens(ctx); err != nil {
		return err
	}
	_, secret, err := w.l.cfg.Registry.CreateToken(ctx, registry.System, registry.TokenRequest{
		Name: tokenName(w.id), Role: registry.RoleClone, IDs: []string{string(w.id)},
	})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(file, []byte(secret), 0o600); err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	return nil
}

// knows reports whether a token's secret is one of this clone.
func (w *worker) knows(secret string) bool {
	for _, t := range w.tokens() {
		if strings.HasPrefix(secret, registry.TokenPrefix+t.ID+"_") {
			return true
		}
	}
	return false
}

// tokens returns the tokens that were made for this clone's startup command.
func (w *worker) tokens() []*registry.Token {
	var found []*registry.Token
	for _, t := range w.l.view.Tokens() {
		if t.Role == registry.RoleClone && t.Name == tokenName(w.id) && len(t.IDs) == 1 && t.IDs[0] == (registry.IDRange{First: w.id, Last: w.id}) {
			found = append(found, t)
		}
	}
	return found
}

// revokeTokens takes every token of this clone's startup command away.
func (w *worker) revokeTokens(ctx context.Context) error {
	for _, t := range w.tokens() {
		if err := w.l.cfg.Registry.RevokeToken(ctx, registry.System, t.ID); err != nil && !errors.Is(err, registry.ErrNotFound) {
			return err
		}
	}
	return nil
}
