package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pressly/goose/v3"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// applicationID marks our files; the first migration writes it.
const applicationID = 0x636c6774

// schemaTable is where goose notes which migrations were applied. The name
// leaves room for other rooms' tables, and their migrations, in the same file.
const schemaTable = "registry_schema"

// migrations returns goose over our schema and the newest version of it.
func migrations(db *sql.DB) (p *goose.Provider, newest int64, err error) {
	files, err := fs.Sub(schemaFiles, "schema")
	if err != nil {
		return nil, 0, err
	}
	p, err = goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithTableName(schemaTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, 0, err
	}
	sources := p.ListSources()
	return p, sources[len(sources)-1].Version, nil
}

// migrate brings a schema up to date, each version in a transaction of its own.
func migrate(ctx context.Context, db *sql.DB) error {
	p, _, err := migrations(db)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// inspect refuses a file that this program should not touch, reading only.
func (s *Store) inspect(ctx context.Context) error {
	r := inspector
	if _, err := os.Stat(s.path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		r = snapshot
	}
	db := openPool(s.path, r)
	defer db.Close()
	db.SetMaxOpenConns(1)

	var application int64
	if err := db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&application); err != nil {
		return s.fail("open", err)
	}
	if application != applicationID {
		return fmt.Errorf("registry %s: is a database of another program; choose another file", s.path)
	}
	if err := s.checkVersion(ctx, db); err != nil {
		return err
	}
	return s.quickCheck(ctx, db)
}

func (s *Store) checkVersion(ctx context.Context, db *sql.DB) error {
	_, newest, err := migrations(db)
	if err != nil {
		return s.fail("open", err)
	}
	var version int64
	err = db.QueryRowContext(ctx, `SELECT max(version_id) FROM `+schemaTable).Scan(&version)
	if err != nil {
		return s.fail("read the schema version of", err)
	}
	if version > newest {
		return fmt.Errorf("registry %s: has schema version %d, and this clonegate knows versions up to %d; "+
			"run the newer clonegate that wrote it, or restore a backup from before the update", s.path, version, newest)
	}
	return nil
}

// quickCheck finds pages that contradict one another. It reads the whole file.
func (s *Store) quickCheck(ctx context.Context, db *sql.DB) error {
	var finding string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&finding); err != nil {
		return s.fail("check", err)
	}
	if finding != "ok" {
		return s.fail("check", damage(finding))
	}
	return nil
}
