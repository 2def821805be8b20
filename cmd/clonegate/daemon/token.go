package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

// AdminTokenFile is the file in a data directory that holds the admin token.
func AdminTokenFile(data string) string { return filepath.Join(data, "admin.token") }

// adminTokenName is the token's name in lists and in the audit log.
const adminTokenName = "admin of this machine"

// ensureAdminToken makes the admin token at the first start and writes it to
// its file, for those who may read the data directory. Removing the file makes
// the next start replace the token; the old one is then refused.
func ensureAdminToken(ctx context.Context, reg *registry.Registry, data string, log *slog.Logger) error {
	name := AdminTokenFile(data)
	secret, err := os.ReadFile(name)
	if err == nil {
		token, err := reg.Authenticate(strings.TrimSpace(string(secret)))
		if err == nil && token.Role != registry.RoleAdmin {
			err = fmt.Errorf("token %s has role %s", token.ID, token.Role)
		}
		if err != nil {
			log.Warn("this is no valid admin token; remove the file and start again to make another", "file", name, "err", err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("admin token: %w", err)
	}
	for _, old := range reg.View().Tokens() {
		if old.Name != adminTokenName {
			continue
		}
		if err := reg.RevokeToken(ctx, registry.System, old.ID); err != nil {
			return fmt.Errorf("admin token: revoke the old one: %w", err)
		}
	}
	_, made, err := reg.CreateToken(ctx, registry.System, registry.TokenRequest{Name: adminTokenName, Role: registry.RoleAdmin})
	if err != nil {
		return fmt.Errorf("admin token: %w", err)
	}
	if err := durable.WriteFile(name, []byte(made+"\n"), 0o600); err != nil {
		return fmt.Errorf("admin token: %w", err)
	}
	log.Info("admin token written", "file", name)
	return nil
}
