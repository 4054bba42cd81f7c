//! Groups of new objects and nothing else, which is what snapshots are made of: one call of a function in the
//! database, so one trip to the server.
//!
//! Invariant: the function does what a group does the long way, in the same order (the turn, the lock row, then the rows,
//! then the group's number), or nothing. It goes through if the lock row is still the one by which all of the group were
//! let in, nothing was removed or replaced since they were published, no key is taken or has an open intent, and the
//! journal has numbers left. Else it fails as a whole and the group goes the long way, where each request gets its own
//! verdict. Each of its statements sees what was committed before the turn came.

use std::collections::HashSet;

use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::error::SqlState;

use super::lock::Known;
use super::rows::{Sql, first, int};
use super::writer::{Job, Record};
use crate::state::{Put, Recorded, stored};

/// Raised by the function when something stands in the way.
const IN_THE_WAY: &str = "SG001";

pub(super) const FUNCTION: &str = "
CREATE FUNCTION record_group(
    at_turn BIGINT, by_node BIGINT, group_number BIGINT, lock_version BIGINT, in_bucket BIGINT, since BIGINT, total BIGINT,
    keys BYTEA[], sizes BIGINT[], etags TEXT[], hashes BYTEA[], identities TEXT[], times BIGINT[], all_details TEXT[]
) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    before BIGINT;
BEGIN
    UPDATE turns SET sequence = sequence + cardinality(keys), objects = objects + cardinality(keys), bytes = bytes + total
        WHERE id = at_turn AND last_change <= since AND (reserved IS NULL OR reserved - sequence >= cardinality(keys))
        RETURNING sequence - cardinality(keys) INTO before;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'something was removed, or the numbers are used up' USING ERRCODE = 'SG001';
    END IF;
    PERFORM 1 FROM locks WHERE repository = at_turn AND version = lock_version FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lock moved' USING ERRCODE = 'SG001';
    END IF;
    PERFORM 1 FROM intents i WHERE i.bucket = in_bucket AND i.key = ANY (keys);
    IF FOUND THEN
        RAISE EXCEPTION 'another write of a key is under way' USING ERRCODE = 'SG001';
    END IF;
    WITH put AS MATERIALIZED (
        SELECT * FROM unnest(keys, sizes, etags, hashes, identities, times, all_details)
            WITH ORDINALITY AS p (key, size, etag, hash, identity, at_ms, details, nth)
    ), journal_entries AS (
        INSERT INTO journal (repository, sequence, key, size, etag, hash, at_ms)
        SELECT at_turn, before + nth, key, size, etag, hash, at_ms FROM put
    )
    INSERT INTO objects (bucket, key, repository, size, etag, hash, identity, modified_ms, sequence, details)
    SELECT in_bucket, key, at_turn, size, etag, hash, identity, at_ms, before + nth, details FROM put;
    INSERT INTO groups AS g (turn, node, number) VALUES (at_turn, by_node, group_number)
        ON CONFLICT (turn, node) DO UPDATE SET number = excluded.number;
    RETURN before;
END $$;
";

pub(super) const RECORD: &str =
    "SELECT record_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

/// The group's new objects, if there is nothing else in it and the lock, as it was last seen, lets all of them in.
pub(super) fn all_new<'a>(known: &Known, group: &'a mut [Job]) -> Option<Vec<&'a mut Record>> {
    let mut keys = HashSet::with_capacity(group.len());
    let mut batch = Vec::with_capacity(group.len());
    for job in group.iter_mut() {
        let Job::Record(record) = job else {
            return None;
        };
        let put = &record.put;
        let here = put.repository == known.id && put.bucket == known.bucket;
        let plain = here && put.journalled && !known.is_root(&put.key);
        let admitted = record.leave.check(&known.identity.name, &known.lock);
        if !plain || admitted.is_err() || !keys.insert(put.key.clone()) {
            return None;
        }
        batch.push(&mut **record);
    }
    Some(batch)
}

/// False = something stands in the way, and nothing was changed. `number`: the group's, of this node.
pub(super) async fn record(
    db: &ClientWrapper,
    known: &Known,
    (node, number): (i64, i64),
    mut batch: Vec<&mut Record>,
) -> Result<bool, Sql> {
    let puts = || batch.iter().map(|record| &record.put);
    let since = batch.iter().map(|record| record.since).min();
    let total = puts().map(|put| put.size).sum();
    let keys: Vec<&[u8]> = puts().map(|p| p.key.as_str().as_bytes()).collect();
    let sizes: Vec<i64> = puts().map(|p| int(p.size)).collect();
    let etags: Vec<&str> = puts().map(|p| &*p.etag).collect();
    let hashes: Vec<Option<&[u8]>> = puts().map(hash).collect();
    let identities: Vec<&str> = puts().map(|p| &*p.identity.0).collect();
    let times: Vec<i64> = puts().map(|p| p.now_ms).collect();
    let details: Vec<Option<String>> = puts()
        .map(|p| stored::details_text(p.details.as_deref()))
        .collect();
    let recorded = first(
        db,
        RECORD,
        &[
            &known.id.0,
            &node,
            &number,
            &int(known.lock.version),
            &known.bucket.0,
            &int(since.unwrap_or(0)),
            &int(total),
            &keys,
            &sizes,
            &etags,
            &hashes,
            &identities,
            &times,
            &details,
        ],
    )
    .await;
    let before: i64 = match recorded {
        Ok(Some(row)) => row.try_get(0)?,
        Ok(None) => return Ok(false),
        Err(e) if stands_in_the_way(&e) => return Ok(false),
        Err(e) => return Err(e),
    };
    let before = u64::try_from(before).unwrap_or_default();
    for (record, sequence) in batch.iter_mut().zip(before + 1..) {
        record.result = Some(Ok(Recorded { sequence }));
    }
    Ok(true)
}

fn hash(put: &Put) -> Option<&[u8]> {
    put.hash.as_ref().map(<[u8; 32]>::as_slice)
}

/// The server took all of it back.
fn stands_in_the_way(e: &Sql) -> bool {
    e.code()
        .is_some_and(|code| code.code() == IN_THE_WAY || *code == SqlState::UNIQUE_VIOLATION)
}
