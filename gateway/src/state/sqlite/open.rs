//! Opening the database, and what must hold before anything relies on it.
//!
//! One process owns the file: a lock beside it says so, taken before the first byte is read, and SQLite is told
//! so ([`OWNED`]): its own locks are then those of this process and cost no system calls. The file lies on a
//! local file system, since an fsync must mean it. What was asked of SQLite is
//! read back. A database that was not closed in order is checked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, flock, statfs};

use super::schema;

/// SQLite's file access for a database that one process owns: the index of the log lies in this process's
/// memory, and its locks are taken there. A program beside it finds the file locked.
pub(super) const OWNED: &str = "unix-excl";
/// Page cache of the writing connection and of each reading one, in KiB.
const WRITER_CACHE: i64 = 16 * 1024;
const READER_CACHE: i64 = 2 * 1024;
/// The WAL file is cut back to this many bytes when it has grown beyond.
const WAL_KEPT: i64 = 64 * 1024 * 1024;
/// Statements that a connection keeps prepared: more than there are.
const STATEMENTS: usize = 96;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the state database {0} is in use by another process")]
    InUse(PathBuf),
    #[error(
        "the state database {path} lies on {kind}: SQLite needs a local file system; use a local disk, or PostgreSQL for several gateways"
    )]
    Network { path: PathBuf, kind: &'static str },
    #[error(
        "the state database has schema version {found}, this program knows up to {known}: it was used by a newer snapgate"
    )]
    Newer { found: usize, known: usize },
    #[error("the state database is damaged: {0}")]
    Damaged(String),
    #[error("SQLite did not accept {setting}: it answered {answer}")]
    Setting {
        setting: &'static str,
        answer: String,
    },
    #[error("cannot open the state database {path}: {cause}")]
    Io {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error("cannot open the state database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot read the state database: {0}")]
    State(#[from] crate::state::Error),
}

/// An opened and checked database file.
pub(super) struct Opened {
    pub writer: Connection,
    /// Held while the process works on the database.
    pub lock: File,
}

pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let io = |cause| OpenError::Io {
        path: path.to_owned(),
        cause,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    std::fs::create_dir_all(directory).map_err(io)?;
    let magic = statfs(directory).map_err(|e| io(e.into()))?.f_type;
    // The field's type differs between architectures; the numbers fit into 32 bits.
    if let Some(kind) = network_file_system(magic as u32) {
        return Err(OpenError::Network {
            path: path.to_owned(),
            kind,
        });
    }
    let lock = own(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut writer = Connection::open_with_flags_and_vfs(path, flags, OWNED)?;
    configure_writer(&writer)?;
    schema::migrate(&mut writer)?;
    if !closed_in_order(&writer)? {
        check(&writer)?;
    }
    carry_over(&writer)?;
    writer.execute("UPDATE meta SET value = 0 WHERE name = 'clean'", [])?;
    // The database file's own name must survive a power cut.
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(io)?;
    Ok(Opened { writer, lock })
}

/// What a run that ended in disorder left in the write-ahead log goes into the database: runs too short to make a
/// checkpoint of their own must not let the log grow from start to start.
fn carry_over(db: &Connection) -> rusqlite::Result<()> {
    match shorten_log(db) {
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            tracing::warn!(cause = %e, "the write-ahead log of the state database cannot be shortened now");
            Ok(())
        }
        done => done,
    }
}

fn shorten_log(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags_and_vfs(path, flags, OWNED)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -READER_CACHE)?;
    Ok(db)
}

/// Says that the database was closed in order, as the last thing written.
pub(super) fn close_in_order(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE meta SET value = 1 WHERE name = 'clean'", [])?;
    shorten_log(db)
}

fn own(path: &Path) -> Result<File, OpenError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let io = |cause| OpenError::Io {
        path: path.to_owned(),
        cause,
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&beside)
        .map_err(io)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(path.to_owned())),
        Err(e) => Err(io(e.into())),
    }
}

fn configure_writer(db: &Connection) -> Result<(), OpenError> {
    db.busy_timeout(Duration::from_secs(5))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -WRITER_CACHE)?;
    db.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT, |_| Ok(()))?;
    // SQLite drops the errors of its automatic checkpoints; the writer makes its own and sees them.
    db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    expect(db, "journal_mode", "wal")?;
    expect(db, "synchronous", "2")?;
    expect(db, "foreign_keys", "1")
}

fn expect(db: &Connection, setting: &'static str, wanted: &str) -> Result<(), OpenError> {
    let answer =
        db.pragma_query_value(None, setting, |row| row.get::<_, rusqlite::types::Value>(0))?;
    let answer = match answer {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other @ (rusqlite::types::Value::Null
        | rusqlite::types::Value::Real(_)
        | rusqlite::types::Value::Blob(_)) => format!("{other:?}"),
    };
    if answer == wanted {
        Ok(())
    } else {
        Err(OpenError::Setting { setting, answer })
    }
}

fn closed_in_order(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT value FROM meta WHERE name = 'clean'", [], |row| {
        row.get(0)
    })
}

fn check(db: &Connection) -> Result<(), OpenError> {
    let answer: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if answer == "ok" {
        Ok(())
    } else {
        Err(OpenError::Damaged(answer))
    }
}

/// The file systems on which a lock or an fsync may not reach the disk, by the numbers of `statfs(2)`.
fn network_file_system(magic: u32) -> Option<&'static str> {
    match magic {
        0x0000_6969 => Some("NFS"),
        0x0000_517b => Some("SMB"),
        0xff53_4d42 | 0xfe53_4d42 => Some("CIFS"),
        0x6573_5546 => Some("FUSE"),
        0x0102_1997 => Some("9P"),
        0x00c3_6400 => Some("Ceph"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x7375_7245 => Some("Coda"),
        0x0000_564c => Some("NCP"),
        0x0116_1970 => Some("GFS2"),
        0x7461_636f => Some("OCFS2"),
        0x4750_4653 => Some("GPFS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0x6573_5546), Some("FUSE"));
        let local = [
            ("ext4", 0xef53),
            ("xfs", 0x5846_5342),
            ("tmpfs", 0x0102_1994),
        ];
        for (name, magic) in local {
            assert_eq!(network_file_system(magic), None, "{name}");
        }
    }
}
