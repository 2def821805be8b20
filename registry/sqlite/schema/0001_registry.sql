-- +goose Up

-- Every record is one JSON value, as the API shows it; the columns beside it
-- are what the store itself has to find it by. Times inside a value are
-- RFC 3339, times in a column Unix milliseconds; both are written by the
-- daemon, never by SQL.

-- "clgt": tells this file from other SQLite databases.
PRAGMA application_id = 0x636c6774;

CREATE TABLE meta (
	one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), -- the table has one row
	next_id INTEGER NOT NULL -- the next configuration ID to try when one is allocated
) STRICT;

CREATE TABLE clones (
	id       TEXT    NOT NULL PRIMARY KEY, -- configuration ID
	revision INTEGER NOT NULL,             -- of the change that made the value
	over     INTEGER NOT NULL,             -- 1 if its life has ended, else 0
	value    TEXT    NOT NULL              -- JSON of a registry.Clone
) STRICT;

-- Finds the newest of those that are over without reading the others.
CREATE INDEX clones_over ON clones (revision) WHERE over = 1;

-- Apart from clones, because renewals are frequent and values are large.
CREATE TABLE renewals (
	clone   TEXT    NOT NULL PRIMARY KEY REFERENCES clones (id), -- one that is not over
	renewed INTEGER NOT NULL -- Unix milliseconds of the last renewal
) STRICT, WITHOUT ROWID;

CREATE TABLE templates (
	name    TEXT NOT NULL,
	version TEXT NOT NULL,
	value   TEXT NOT NULL, -- JSON of a registry.Template
	PRIMARY KEY (name, version)
) STRICT;

CREATE TABLE channels (
	template TEXT NOT NULL,
	name     TEXT NOT NULL,
	value    TEXT NOT NULL, -- JSON of a registry.Channel
	PRIMARY KEY (template, name)
) STRICT;

CREATE TABLE tokens (
	id        TEXT NOT NULL PRIMARY KEY,
	last_used INTEGER,      -- Unix milliseconds; NULL if not since the value was written
	value     TEXT NOT NULL -- JSON of a registry.Token; never the secret, only its hash
) STRICT;

CREATE TABLE events (
	seq   INTEGER NOT NULL PRIMARY KEY, -- without gaps; the newest is the registry's revision
	value TEXT    NOT NULL              -- JSON of a registry.Event
) STRICT;
