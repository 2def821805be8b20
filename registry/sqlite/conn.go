package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	"github.com/mattn/go-sqlite3"
)

// A role is what connections of one pool are for.
type role struct {
	query   url.Values
	pragmas []pragma
}

// A pragma is a setting that every connection of a role is given and must then
// show: SQLite ignores what it does not know or cannot do without a word.
type pragma struct {
	name, value string
	why         string // what an operator can do about a refusal; optional
}

// checked holds for all connections: wait for other processes rather than
// fail, and mistrust what the file says about itself.
var checked = []pragma{
	{name: "busy_timeout", value: "5000"}, // milliseconds
	{name: "foreign_keys", value: "1"},
	{name: "cache_size", value: "-512"}, // KiB of pages; the system holds the rest
	{name: "cell_size_check", value: "1"},
	{name: "trusted_schema", value: "0"},
}

// The roles. An inspector leaves the file and its log as they are; a snapshot
// is a file without a log, beside which it does not even make an empty one.
var (
	inspector = role{query: url.Values{"mode": {"ro"}}, pragmas: checked}
	snapshot  = role{query: url.Values{"mode": {"ro"}, "immutable": {"1"}}, pragmas: checked}
	reader    = role{
		query:   url.Values{"mode": {"rw"}, "_stmt_cache_size": {"16"}},
		pragmas: append([]pragma{{name: "query_only", value: "1"}}, checked...),
	}
	writer = role{
		query: url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_stmt_cache_size": {"32"}},
		pragmas: append([]pragma{
			{name: "journal_mode", value: "wal", why: "its file system cannot share memory between processes; put it on a local disk"},
			{name: "synchronous", value: "2"},               // FULL: a commit is on disk when it returns
			{name: "wal_autocheckpoint", value: "1000"},     // pages
			{name: "journal_size_limit", value: "67108864"}, // bytes the log keeps after a burst
		}, checked...),
	}
)

// openPool returns connections to the file at path. It opens none yet.
func openPool(path string, r role) *sql.DB {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: r.query.Encode()}
	return sql.OpenDB(&connector{
		name:   name.String(),
		driver: sqlite3.SQLiteDriver{ConnectHook: r.set},
	})
}

// A connector opens connections without a driver name known to the whole process.
type connector struct {
	name   string
	driver sqlite3.SQLiteDriver
}

func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.name) }

func (c *connector) Driver() driver.Driver { return &c.driver }

// set gives a new connection its settings and reads them back.
func (r role) set(c *sqlite3.SQLiteConn) error {
	for _, p := range r.pragmas {
		if _, err := c.Exec("PRAGMA "+p.name+" = "+p.value, nil); err != nil {
			return fmt.Errorf("set %s to %s: %w", p.name, p.value, err)
		}
		got, err := queryValue(c, "PRAGMA "+p.name)
		if err != nil {
			return fmt.Errorf("read %s: %w", p.name, err)
		}
		if got != p.value {
			err := fmt.Errorf("%s is %s and cannot be set to %s", p.name, got, p.value)
			if p.why != "" {
				err = fmt.Errorf("%w: %s", err, p.why)
			}
			return err
		}
	}
	return nil
}

// queryValue returns the only value of the only row of query.
func queryValue(c *sqlite3.SQLiteConn, query string) (string, error) {
	rows, err := c.Query(query, nil)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(row); err != nil && err != io.EOF {
		return "", err
	}
	if len(row) == 0 {
		return "", nil
	}
	return fmt.Sprint(row[0]), nil
}
