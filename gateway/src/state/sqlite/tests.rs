//! What SQLite has to prove beyond the promises of every state database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use policies::identity::{Epoch, Repository};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::state::chain::{End, START};
use crate::state::conformance::{World, conformance, entry, key};

mod crash;
mod full;

async fn fresh() -> (Arc<dyn State>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Arc::new(open_in(directory.path())), directory)
}

/// A process that another test starts just now has this one's open files, the lock's too, until it runs its program.
#[expect(
    clippy::disallowed_methods,
    reason = "the test itself waits, and no task beside it"
)]
fn open_in(directory: &Path) -> Database {
    for _ in 0..10_000 {
        match Database::open(&directory.join("state.db")) {
            Err(OpenError::InUse(_)) => std::thread::sleep(Duration::from_millis(1)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the database is in use");
}

/// The closed file as somebody else's program sees it.
fn by_hand(directory: &Path) -> Connection {
    Connection::open(directory.join("state.db")).unwrap()
}

mod promises {
    use super::{conformance, fresh};

    conformance!(fresh);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let state = open_in(directory.path());
    let world = World::held(&state, "logs").await;
    world.record(&state, "a").await;
    let object = world.object(&state, "a").await;
    let usage = state.usage(world.row.id).await.unwrap();
    state.uptime(500).await.unwrap();
    drop(state);

    let state = open_in(directory.path());
    let again = World::vacant(&state, "logs").await;
    assert_eq!((again.row.new, &again.row.lock), (false, &world.row.lock));
    assert_eq!(again.object(&state, "a").await, object);
    assert_eq!(state.usage(world.row.id).await.unwrap(), usage);
    assert_eq!(state.uptime(1).await.unwrap(), 501);
    assert_eq!(again.record(&state, "b").await, 2);
    state.append_audit(entry("thaw")).await.unwrap();
    assert_eq!(state.verify_audit().await.unwrap(), None);
}

#[tokio::test]
async fn a_database_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = open_in(directory.path());
    let second = Database::open(&directory.path().join("state.db"));
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    drop(first);
    open_in(directory.path());
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open_in(directory.path()));
    let newer = schema::CURRENT + 1;
    by_hand(directory.path())
        .pragma_update(None, "user_version", i64::try_from(newer).unwrap())
        .unwrap();
    let refused = Database::open(&directory.path().join("state.db")).unwrap_err();
    let sentence = refused.to_string();
    assert!(sentence.contains("newer snapgate"), "{sentence}");
    let version: i64 = by_hand(directory.path())
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, i64::try_from(newer).unwrap());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("state.db"), [0x5a; 8192]).unwrap();
    assert!(Database::open(&directory.path().join("state.db")).is_err());
}

#[tokio::test]
async fn a_damaged_database_that_was_not_closed_in_order_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let state = open_in(directory.path());
    let world = World::held(&state, "logs").await;
    for n in 0..2000 {
        world.record(&state, &format!("key-{n}")).await;
    }
    drop(state);
    let db = by_hand(directory.path());
    db.execute("UPDATE meta SET value = 0 WHERE name = 'clean'", [])
        .unwrap();
    let page: i64 = db
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'objects'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    db.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .unwrap();
    drop(db);
    let path = directory.path().join("state.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let start = usize::try_from(page - 1).unwrap() * 4096;
    bytes[start + 8..start + 2048].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let refused = Database::open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(_)), "{refused:?}");
}

#[tokio::test]
async fn the_audit_table_refuses_changes_and_finds_those_made_behind_its_back() {
    let directory = tempfile::tempdir().unwrap();
    let state = open_in(directory.path());
    for action in ["lock", "freeze", "thaw", "unlock"] {
        state.append_audit(entry(action)).await.unwrap();
    }
    drop(state);
    let db = by_hand(directory.path());
    for forbidden in [
        "UPDATE audit SET principal = 'nobody'",
        "DELETE FROM audit WHERE sequence = 4",
    ] {
        let refused = db.execute(forbidden, []).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
    let forgeries = [
        (
            "UPDATE audit SET principal = 'nobody' WHERE sequence = 2",
            2,
        ),
        ("UPDATE audit SET repository = NULL WHERE sequence = 1", 1),
        ("DELETE FROM audit WHERE sequence = 3", 3),
        (
            "UPDATE audit SET previous = zeroblob(32) WHERE sequence = 4",
            4,
        ),
    ];
    for (forgery, first_bad) in forgeries {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(
            directory.path().join("state.db"),
            copy.path().join("state.db"),
        )
        .unwrap();
        let db = by_hand(copy.path());
        db.execute_batch(
            "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_shortened",
        )
        .unwrap();
        assert_eq!(db.execute(forgery, []).unwrap(), 1);
        drop(db);
        let state = open_in(copy.path());
        assert_eq!(
            state.verify_audit().await.unwrap(),
            Some(first_bad),
            "{forgery}"
        );
    }
}

type Forgery = fn(&mut Vec<AuditEntry>);

/// Somebody writes the whole table anew, with hashes that fit.
async fn forged(directory: &Path, forgery: Forgery) -> String {
    let state = open_in(directory);
    let told = state.audit(None, 100).await.unwrap();
    let mut entries: Vec<_> = told.into_iter().rev().map(|r| r.entry).collect();
    drop(state);
    forgery(&mut entries);
    let db = by_hand(directory);
    db.execute_batch("DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_shortened; DELETE FROM audit")
        .unwrap();
    let mut end = START;
    for entry in &entries {
        let row = end.append(entry);
        db.execute(
            "INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            rusqlite::params![
                i64::try_from(row.sequence).unwrap(),
                entry.at_ms,
                entry.principal,
                entry.action,
                entry.repository.as_ref().map(Repository::as_str),
                entry.epoch.map(|e| i64::try_from(e.0).unwrap()),
                row.detail,
                row.previous,
                row.hash
            ],
        )
        .unwrap();
        end = End {
            sequence: row.sequence,
            hash: row.hash,
        };
    }
    drop(db);
    let state = open_in(directory);
    assert_eq!(state.verify_audit().await.unwrap(), None, "the chain fits");
    state.replay_audit().await.unwrap().unwrap_err().to_string()
}

#[tokio::test]
async fn a_history_that_is_forged_with_fitting_hashes_is_still_no_history_of_one_writer() {
    // Records: 1 fenced, 2 held by prod (1), 3 its root, 4 draining, 5 fenced, 6 held by other (2), 7 its root.
    let forgeries: [(Forgery, &str); 7] = [
        (
            |all| all[1].detail["lock"]["after"]["holder"] = "other".into(),
            "Audit record 2 of repository 'logs': a lock that is fenced after epoch 0 does not become held by 'other' at epoch 1",
        ),
        (
            |all| {
                for at in [4, 5] {
                    all[at].detail["lock"]["before"]["epoch"] = 0.into();
                    all[at].detail["lock"]["after"]["epoch"] = u64::from(at == 5).into();
                }
            },
            "Audit record 5 of repository 'logs': it moves a lock that is draining from 'prod' at epoch 0, but the record before left it draining from 'prod' at epoch 1",
        ),
        (
            |all| all[4].detail["lock"]["after"]["epoch"] = 0.into(),
            "Audit record 5 of repository 'logs': the epoch goes back from 1 to 0",
        ),
        (
            |all| drop(all.remove(3)),
            "Audit record 4 of repository 'logs': it is move 5 of the lock, where move 4 comes next",
        ),
        (
            |all| all[6].epoch = Some(Epoch(1)),
            "Audit record 7 of repository 'logs': root 6 was committed under epoch 1 after epoch 2 was held",
        ),
        (
            |all| all[2].detail["cluster"] = "other".into(),
            "Audit record 3 of repository 'logs': root 5 was committed for 'other' under epoch 1, which it did not hold",
        ),
        (
            |all| all.truncate(3),
            "The lock of repository 'logs': the row says held by 'other' at epoch 2 (move 6), which is not where the records lead",
        ),
    ];
    for (forgery, sentence) in forgeries {
        let directory = tempfile::tempdir().unwrap();
        let state = open_in(directory.path());
        crate::state::conformance::audit::two_writers(&state).await;
        drop(state);
        assert_eq!(forged(directory.path(), forgery).await, sentence);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_after_kills_do_not_let_the_log_grow() {
    let (state, directory) = fresh().await;
    let world = World::held(&*state, "logs").await;
    let names = (0..200).map(|n| format!("indices/u/0/__{n}"));
    for name in names {
        let put = world.put(&name);
        state.record(&world.permit(), put).await.unwrap();
    }
    // As it lies there when the process is killed now.
    let killed = tempfile::tempdir().unwrap();
    for file in ["state.db", "state.db-wal"] {
        std::fs::copy(directory.path().join(file), killed.path().join(file)).unwrap();
    }
    let log = || {
        std::fs::metadata(killed.path().join("state.db-wal"))
            .unwrap()
            .len()
    };
    let left = log();
    let next = open_in(killed.path());
    assert!(
        left > 1 << 20 && log() < 1 << 16,
        "{left} bytes, then {}",
        log()
    );
    assert!(world.object(&next, "indices/u/0/__199").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_common_prefix_costs_a_seek_however_much_lies_below() {
    let (state, directory) = fresh().await;
    let world = World::held(&*state, "logs").await;
    let permit = world.permit();
    let names = (0..40_000).map(|n| format!("{}/{:06}", n % 4, n));
    let writes = names.map(|name| state.record(&permit, world.put(&name)));
    for result in futures::future::join_all(writes).await {
        result.unwrap();
    }
    let steps = |delimiter: Option<&str>| {
        let query = ListQuery {
            bucket: world.row.bucket,
            repositories: [world.row.id].into(),
            prefix: String::new(),
            delimiter: delimiter.map(Into::into),
            after: None,
            limit: 100_000,
        };
        let db = by_hand(directory.path());
        let listing = listing::list(&db, &query).unwrap();
        let statement = db.prepare_cached(listing::WALK).unwrap();
        let steps = statement.reset_status(rusqlite::StatementStatus::VmStep);
        drop(statement);
        (listing.entries.len(), steps)
    };
    let (objects, all) = steps(None);
    let (prefixes, few) = steps(Some("/"));
    assert_eq!((objects, prefixes), (40_000, 4));
    assert!(
        few * 1000 < all,
        "{few} steps for 4 prefixes, {all} for all objects"
    );
}
