//! The tables, and how an older database becomes a current one.
//!
//! `PRAGMA user_version` counts the migrations that were applied. Each migration and its count are one
//! transaction, so there is no half-made schema; a database of a newer program is refused, not guessed at.
//!
//! Keys are BLOBs: they compare by bytes, and the end of a range may be bytes that are no text. Rows that are
//! found by key lie in the order of their keys (WITHOUT ROWID): a listing is one walk over adjacent pages.
//! An `etag` that is the hex of an MD5 is kept as its 16 bytes, any other as text.

use rusqlite::Connection;

use super::open::OpenError;

const MIGRATIONS: &[&str] = &[
    INITIAL,
    MIRRORS,
    super::warnings::TABLE,
    super::positions::TABLE,
    super::digests::TABLE,
    super::restore_points::TABLES,
    super::takeover::TABLES,
    LINEAGE,
    REMOVALS,
    INCARNATIONS,
    super::part_contents::TABLE,
    super::uploads::AGE,
    super::mirrors::NODES,
    super::restore_points::NEWEST,
];

/// The version that this program writes.
pub(super) const CURRENT: usize = MIGRATIONS.len();

pub(super) fn migrate(db: &mut Connection) -> Result<(), OpenError> {
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = found as usize;
    if found > CURRENT {
        return Err(OpenError::Newer {
            found,
            known: CURRENT,
        });
    }
    for (version, migration) in (1..).zip(MIGRATIONS).skip(found) {
        let transaction = db.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

const INCARNATIONS: &str = "
-- How the starts on this database called themselves in a store.
CREATE TABLE incarnations (
    store TEXT NOT NULL,
    token TEXT NOT NULL,
    PRIMARY KEY (store, token)
) STRICT, WITHOUT ROWID;
";

const REMOVALS: &str = "
CREATE INDEX removals ON journal (repository, key) WHERE size IS NULL;
";

const MIRRORS: &str = "
-- `resync` and `stalled` are JSON, NULL for none.
CREATE TABLE mirrors (
    repository INTEGER NOT NULL REFERENCES repositories,
    store TEXT NOT NULL,
    mode TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    handover TEXT NOT NULL,
    applied INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    resync TEXT,
    stalled TEXT,
    failed INTEGER NOT NULL,
    transferred INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (repository, store)
) STRICT, WITHOUT ROWID;
";

const INITIAL: &str = "
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('uptime_ms', 0), ('clean', 1);

CREATE TABLE buckets (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The counters are written once per transaction; `sequence` is the highest of the journal.
CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    bucket INTEGER NOT NULL REFERENCES buckets,
    base_path TEXT NOT NULL,
    store TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    unjournalled INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    UNIQUE (bucket, base_path)
) STRICT;

CREATE TABLE locks (
    repository INTEGER PRIMARY KEY REFERENCES repositories,
    version INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    lock TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    reason TEXT
) STRICT;

CREATE TABLE objects (
    bucket INTEGER NOT NULL,
    key BLOB NOT NULL,
    repository INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag ANY NOT NULL,
    hash BLOB,
    identity TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    details TEXT,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

-- `size` and `etag` are NULL for a delete.
CREATE TABLE journal (
    repository INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    key BLOB NOT NULL,
    size INTEGER,
    etag ANY,
    hash BLOB,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (repository, sequence)
) STRICT, WITHOUT ROWID;

-- An id names one intent for ever, also after it ended: AUTOINCREMENT.
CREATE TABLE intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    repository INTEGER NOT NULL REFERENCES repositories,
    bucket INTEGER NOT NULL,
    key BLOB NOT NULL,
    upload TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    cluster TEXT NOT NULL,
    put TEXT NOT NULL,
    UNIQUE (bucket, key)
) STRICT;
CREATE INDEX intents_of_repository ON intents (repository);

CREATE TABLE tombstones (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    location BLOB NOT NULL,
    removed INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    key BLOB NOT NULL,
    repository INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag ANY NOT NULL,
    hash BLOB,
    identity TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    details TEXT
) STRICT;
CREATE INDEX tombstones_by_due ON tombstones (repository, due_ms, id);
CREATE INDEX tombstones_by_key ON tombstones (repository, key, id);

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repositories,
    bucket INTEGER NOT NULL,
    key BLOB NOT NULL,
    store_upload TEXT NOT NULL,
    epoch INTEGER,
    cluster TEXT NOT NULL,
    details TEXT,
    checksum TEXT,
    checksum_whole INTEGER,
    initiated_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX uploads_by_key ON uploads (bucket, key, id);
CREATE INDEX uploads_of_repository ON uploads (repository);

CREATE TABLE parts (
    upload TEXT NOT NULL REFERENCES uploads ON DELETE CASCADE,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    locator TEXT NOT NULL,
    etag ANY NOT NULL,
    checksums TEXT,
    hash BLOB,
    modified_ms INTEGER NOT NULL,
    PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE completed (
    bucket INTEGER NOT NULL,
    upload TEXT NOT NULL,
    at_uptime_ms INTEGER NOT NULL,
    key BLOB NOT NULL,
    repository INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag ANY NOT NULL,
    hash BLOB,
    identity TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    details TEXT,
    PRIMARY KEY (bucket, upload)
) STRICT, WITHOUT ROWID;
CREATE INDEX completed_by_age ON completed (at_uptime_ms);

-- `request` is the SHA-256 of what makes two requests the same.
CREATE TABLE answers (
    request BLOB PRIMARY KEY,
    etag ANY NOT NULL,
    sequence INTEGER NOT NULL,
    at_uptime_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_by_age ON answers (at_uptime_ms);

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    repository TEXT,
    epoch INTEGER,
    detail TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit table is append-only'); END;
CREATE TRIGGER audit_is_never_shortened BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit table is append-only'); END;
";

const LINEAGE: &str = "
-- NULL in `reserved`: nothing is reserved yet. `claim` and `token`: noted, perhaps in the store already.
CREATE TABLE sequences (
    repository INTEGER PRIMARY KEY REFERENCES repositories,
    reserved INTEGER,
    claim INTEGER,
    token TEXT
) STRICT;

CREATE TABLE bindings (
    repository INTEGER PRIMARY KEY REFERENCES repositories,
    epoch INTEGER NOT NULL,
    cluster_id TEXT NOT NULL
) STRICT;

ALTER TABLE intents ADD COLUMN binds TEXT;
";
