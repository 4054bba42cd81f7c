//! What every store promises, as one suite that runs against each implementation.
//!
//! Call [`suite`] with a fresh, empty store. Each check works below its own prefix, so that checks do
//! not depend on each other, and names the promise it holds the store to.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use policies::identity::{Cluster, Epoch, Repository};
use policies::key::ObjectKey;
use policies::lock::{Permit, settle};

use super::{Error, Identity, Plan, Publish, Published, Store, StoredPart, UploadId};

/// Smallest part S3 services take, except as the last one.
const PART: usize = 5 << 20;
/// More than any store buffers whole.
const LARGE: usize = 1_300_000;

/// Every promise, one after the other.
pub async fn suite(store: Arc<dyn Store>) {
    let store = &*store;
    what_was_published_is_read_back_whole_and_in_ranges(store).await;
    nothing_is_visible_before_publish(store).await;
    create_only_never_replaces(store).await;
    of_racing_creators_exactly_one_wins(store).await;
    replace_replaces_whole(store).await;
    a_changed_object_is_not_served_as_the_recorded_one(store).await;
    an_aborted_upload_never_becomes_visible(store).await;
    a_fenced_upload_is_aborted_from_outside(store).await;
    leftovers_are_listed_until_aborted(store).await;
    parts_become_one_object(store).await;
    parts_out_of_order_repeated_or_left_out(store).await;
    an_aborted_multipart_upload_is_gone(store).await;
    listings_are_complete_and_sorted_by_bytes(store).await;
    the_reserved_prefix_is_listed_only_when_asked_for(store).await;
    deleting_a_missing_object_succeeds(store).await;
    set_aside_gives_a_second_name(store).await;
    odd_keys_are_kept_apart_or_refused(store).await;
}

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).expect("a test's key is valid")
}

pub fn permit() -> Permit {
    settle(&Repository::new("r"), &Cluster::new("c"), Epoch(1))
}

/// Bytes that differ at every position and for every seed, so that a misplaced range shows.
pub fn pattern(seed: u32, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 4);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

const FENCED: Plan = Plan {
    size: None,
    fenced: true,
};

pub async fn put(
    store: &dyn Store,
    name: &str,
    content: &Bytes,
    mode: Publish,
) -> Result<Published, Error> {
    let plan = Plan {
        size: Some(content.len() as u64),
        fenced: mode == Publish::Replace,
    };
    let mut upload = store.begin(&permit(), &key(name), plan).await?;
    for piece in content.chunks(60_000) {
        upload.write(content.slice_ref(piece)).await?;
    }
    upload.publish(mode).await
}

async fn create(store: &dyn Store, name: &str, content: &Bytes) -> Identity {
    put(store, name, content, Publish::CreateOnly)
        .await
        .unwrap_or_else(|e| panic!("{name} cannot be created: {e}"))
        .identity
}

pub async fn get(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    get_range(store, name, None).await
}

async fn get_range(store: &dyn Store, name: &str, range: Option<Range<u64>>) -> Option<Vec<u8>> {
    let content = store
        .read(&key(name), range, None)
        .await
        .unwrap_or_else(|e| panic!("{name} cannot be read: {e}"))?;
    let pieces: Vec<Bytes> = content.bytes.try_collect().await.expect("the body arrives");
    Some(pieces.concat())
}

async fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    let listed = store
        .list(prefix, None, 10_000)
        .await
        .expect("a listing succeeds");
    listed
        .into_iter()
        .map(|l| l.name.as_str().to_owned())
        .collect()
}

async fn what_was_published_is_read_back_whole_and_in_ranges(store: &dyn Store) {
    for size in [0, 1, 4096, 131_072, 131_073, LARGE] {
        let name = format!("read/{size}");
        let content = pattern(size as u32, size);
        let identity = create(store, &name, &content).await;
        assert_eq!(get(store, &name).await.expect("present"), content, "{name}");
        let stat = store
            .stat(&key(&name))
            .await
            .expect("stat")
            .expect("present");
        assert_eq!(
            (stat.size, &stat.identity),
            (size as u64, &identity),
            "{name}"
        );
        let opened = store
            .read(&key(&name), None, Some(&identity))
            .await
            .expect("read")
            .expect("present");
        assert_eq!((opened.size, &opened.identity), (size as u64, &identity));
        let end = size as u64;
        for range in [0..end.min(1), end / 3..end / 2, end.saturating_sub(7)..end] {
            if range.is_empty() {
                continue;
            }
            let part = get_range(store, &name, Some(range.clone())).await;
            let expected = &content[range.start as usize..range.end as usize];
            assert_eq!(part.expect("present"), expected, "{name} {range:?}");
        }
    }
    assert!(get(store, "read/absent").await.is_none());
    assert!(
        store
            .stat(&key("read/absent/below"))
            .await
            .expect("stat")
            .is_none()
    );
}

async fn nothing_is_visible_before_publish(store: &dyn Store) {
    for size in [4096, LARGE] {
        let name = format!("hidden/{size}");
        let plan = Plan {
            size: Some(size as u64),
            fenced: true,
        };
        let mut upload = store
            .begin(&permit(), &key(&name), plan)
            .await
            .expect("begin");
        upload.write(pattern(1, size)).await.expect("write");
        assert!(get(store, &name).await.is_none());
        assert!(names(store, "hidden/").await.is_empty());
        upload.abort().await.expect("abort");
        assert!(get(store, &name).await.is_none());
    }
}

async fn create_only_never_replaces(store: &dyn Store) {
    for size in [5, LARGE] {
        let name = format!("once/{size}");
        let first = pattern(1, size);
        create(store, &name, &first).await;
        let refused = put(store, &name, &pattern(2, size), Publish::CreateOnly).await;
        assert!(matches!(refused, Err(Error::Exists)), "{refused:?}");
        assert_eq!(get(store, &name).await.expect("present"), first);
    }
}

async fn of_racing_creators_exactly_one_wins(store: &dyn Store) {
    for round in 0..5 {
        let name = format!("race/{round}/x");
        let contents: Vec<Bytes> = (0..8).map(|seed| pattern(seed, 3000)).collect();
        let outcomes = futures::future::join_all(
            contents
                .iter()
                .map(|content| put(store, &name, content, Publish::CreateOnly)),
        )
        .await;
        let winners: Vec<usize> = (0..8).filter(|i| outcomes[*i].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        for lost in outcomes.iter().filter_map(|o| o.as_ref().err()) {
            assert!(matches!(lost, Error::Exists), "{lost:?}");
        }
        assert_eq!(
            get(store, &name).await.expect("present"),
            contents[winners[0]]
        );
    }
}

async fn replace_replaces_whole(store: &dyn Store) {
    let long = pattern(1, 9000);
    let short = pattern(2, 10);
    let first = put(store, "replace/x", &long, Publish::Replace)
        .await
        .expect("first");
    let second = put(store, "replace/x", &short, Publish::Replace)
        .await
        .expect("second");
    assert_ne!(first.identity, second.identity);
    assert_eq!(get(store, "replace/x").await.expect("present"), short);
}

async fn a_changed_object_is_not_served_as_the_recorded_one(store: &dyn Store) {
    let content = pattern(1, 100);
    let old = put(store, "changed/x", &content, Publish::Replace)
        .await
        .expect("first");
    put(store, "changed/x", &pattern(2, 100), Publish::Replace)
        .await
        .expect("second");
    let read = store
        .read(&key("changed/x"), None, Some(&old.identity))
        .await;
    assert!(matches!(read.err(), Some(Error::Changed)));
}

async fn an_aborted_upload_never_becomes_visible(store: &dyn Store) {
    for size in [10, LARGE] {
        let mut upload = store
            .begin(&permit(), &key("aborted/x"), FENCED)
            .await
            .expect("begin");
        let id = upload.id().clone();
        upload.write(pattern(1, size)).await.expect("write");
        upload.abort().await.expect("abort");
        assert!(get(store, "aborted/x").await.is_none());
        store
            .abort(&permit(), &key("aborted/x"), &id)
            .await
            .expect("aborting twice is no error");
    }
}

async fn a_fenced_upload_is_aborted_from_outside(store: &dyn Store) {
    for (size, mode) in [
        (10, Publish::CreateOnly),
        (10, Publish::Replace),
        (LARGE, Publish::CreateOnly),
        (LARGE, Publish::Replace),
    ] {
        let name = format!("fenced/{size}/{mode:?}");
        let mut upload = store
            .begin(&permit(), &key(&name), FENCED)
            .await
            .expect("begin");
        upload.write(pattern(1, size)).await.expect("write");
        let id = upload.id().clone();
        store
            .abort(&permit(), &key(&name), &id)
            .await
            .expect("abort");
        let late = upload.publish(mode).await;
        assert!(
            matches!(late, Err(Error::UploadGone)),
            "a late publish took effect: {late:?}"
        );
        assert!(get(store, &name).await.is_none());
        store
            .abort(&permit(), &key(&name), &id)
            .await
            .expect("abort again");
    }
    let published = put(store, "fenced/done", &pattern(1, 10), Publish::Replace)
        .await
        .expect("put");
    let stat = store
        .stat(&key("fenced/done"))
        .await
        .expect("stat")
        .expect("present");
    assert_eq!(stat.identity, published.identity);
}

async fn leftovers_are_listed_until_aborted(store: &dyn Store) {
    let multipart = store
        .begin_multipart(&permit(), &key("left/parts"))
        .await
        .expect("begin");
    let upload = store
        .begin(&permit(), &key("left/x"), FENCED)
        .await
        .expect("begin");
    let fenced = upload.id().clone();
    for id in [&multipart, &fenced] {
        let left = store.uploads().await.expect("uploads");
        let (name, _) = left
            .iter()
            .find(|(_, listed)| listed == id)
            .expect("a hidden upload is listed");
        store.abort(&permit(), name, id).await.expect("abort");
        let left = store.uploads().await.expect("uploads");
        assert!(!left.iter().any(|(_, listed)| listed == id));
    }
    drop(upload);
}

async fn part(
    store: &dyn Store,
    name: &str,
    id: &UploadId,
    number: u16,
    bytes: &Bytes,
) -> StoredPart {
    let plan = Plan {
        size: Some(bytes.len() as u64),
        fenced: false,
    };
    let mut part = store
        .begin_part(&permit(), &key(name), id, number, plan)
        .await
        .expect("begin a part");
    for piece in bytes.chunks(1 << 20) {
        part.write(bytes.slice_ref(piece)).await.expect("write");
    }
    let sealed = part.seal().await.expect("seal");
    assert_eq!((sealed.number, sealed.size), (number, bytes.len() as u64));
    sealed
}

async fn parts_become_one_object(store: &dyn Store) {
    let name = "parts/in-order";
    let id = store
        .begin_multipart(&permit(), &key(name))
        .await
        .expect("begin");
    let contents = [pattern(1, PART), pattern(2, PART), pattern(3, 1234)];
    let mut sealed = Vec::new();
    for (number, bytes) in (1..).zip(&contents) {
        sealed.push(part(store, name, &id, number, bytes).await);
    }
    assert!(get(store, name).await.is_none());
    let whole = store
        .assemble(&permit(), &key(name), &id, &sealed)
        .await
        .expect("assemble");
    assert!(get(store, name).await.is_none());
    let published = whole.publish(Publish::CreateOnly).await.expect("publish");
    assert!(get(store, name).await.expect("present") == contents.concat());
    let stat = store
        .stat(&key(name))
        .await
        .expect("stat")
        .expect("present");
    assert_eq!(stat.identity, published.identity);
    store
        .abort(&permit(), &key(name), &id)
        .await
        .expect("aborting a published upload is no error");
    assert!(get(store, name).await.is_some());
}

async fn parts_out_of_order_repeated_or_left_out(store: &dyn Store) {
    let name = "parts/mixed";
    let id = store
        .begin_multipart(&permit(), &key(name))
        .await
        .expect("begin");
    let contents: Vec<Bytes> = (0..5).map(|seed| pattern(seed + 10, PART)).collect();
    let (third, first) = futures::join!(
        part(store, name, &id, 3, &contents[3]),
        part(store, name, &id, 1, &contents[1])
    );
    let _replaced = part(store, name, &id, 2, &contents[0]).await;
    let _left_out = part(store, name, &id, 4, &contents[4]).await;
    let second = part(store, name, &id, 2, &contents[2]).await;
    let whole = store
        .assemble(&permit(), &key(name), &id, &[first, second, third])
        .await
        .expect("assemble");
    whole.publish(Publish::Replace).await.expect("publish");
    assert!(get(store, name).await.expect("present") == contents[1..4].concat());
}

async fn an_aborted_multipart_upload_is_gone(store: &dyn Store) {
    let name = "parts/aborted";
    let bytes = pattern(1, 100);
    let id = store
        .begin_multipart(&permit(), &key(name))
        .await
        .expect("begin");
    let sealed = part(store, name, &id, 1, &bytes).await;
    let whole = store
        .assemble(&permit(), &key(name), &id, std::slice::from_ref(&sealed))
        .await
        .expect("assemble");
    store
        .abort(&permit(), &key(name), &id)
        .await
        .expect("abort");
    let late = whole.publish(Publish::CreateOnly).await;
    assert!(matches!(late, Err(Error::UploadGone)), "{late:?}");
    let again = store.assemble(&permit(), &key(name), &id, &[sealed]).await;
    let outcome = match again {
        Ok(upload) => upload.publish(Publish::CreateOnly).await.err(),
        Err(e) => Some(e),
    };
    assert!(matches!(outcome, Some(Error::UploadGone)), "{outcome:?}");
    assert!(get(store, name).await.is_none());
    store
        .abort(&permit(), &key(name), &id)
        .await
        .expect("abort again");
}

async fn listings_are_complete_and_sorted_by_bytes(store: &dyn Store) {
    let mut wanted: Vec<String> = [
        "list/a-",
        "list/a/b",
        "list/a/b-",
        "list/a0",
        "list/A",
        "list/a/é",
        "list/a.b",
        "list/ab/c/d",
        "list/ab-c",
        "list/a b",
        "list/a%",
        "list/a/~",
    ]
    .map(str::to_owned)
    .to_vec();
    wanted.extend((0..30).map(|i| format!("list/many/{i}")));
    for name in &wanted {
        create(store, name, &pattern(1, name.len())).await;
    }
    wanted.sort();
    assert_eq!(names(store, "list/").await, wanted);
    assert!(names(store, "list/none").await.is_empty());
    for prefix in [
        "list/a",
        "list/a/",
        "list/ab",
        "list/man",
        "list/many/1",
        "li",
    ] {
        let expected: Vec<&String> = wanted.iter().filter(|n| n.starts_with(prefix)).collect();
        let listed = names(store, prefix).await;
        assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{prefix}");
    }
    for limit in [1, 3, 1000] {
        let mut pages: Vec<String> = Vec::new();
        loop {
            let page = store
                .list("list/", pages.last().map(String::as_str), limit)
                .await
                .expect("a page");
            for listed in &page {
                assert_eq!(listed.stat.size, listed.name.as_str().len() as u64);
            }
            pages.extend(page.iter().map(|l| l.name.as_str().to_owned()));
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(pages, wanted, "pages of {limit}");
    }
    let after_a_name_that_is_absent = store
        .list("list/", Some("list/a/aaa"), 1)
        .await
        .expect("a page");
    assert_eq!(after_a_name_that_is_absent[0].name.as_str(), "list/a/b");
}

async fn the_reserved_prefix_is_listed_only_when_asked_for(store: &dyn Store) {
    create(store, ".snapgate/anchors/r/1", &pattern(1, 10)).await;
    create(store, "zz/visible", &pattern(1, 10)).await;
    let all = names(store, "").await;
    assert!(all.contains(&"zz/visible".to_owned()));
    assert!(!all.iter().any(|n| n.starts_with(".snapgate/")), "{all:?}");
    assert_eq!(
        names(store, ".snapgate/anchors/").await,
        [".snapgate/anchors/r/1"]
    );
}

async fn deleting_a_missing_object_succeeds(store: &dyn Store) {
    create(store, "delete/a/x", &pattern(1, 10)).await;
    create(store, "delete/b", &pattern(1, 10)).await;
    let gone = [
        key("delete/a/x"),
        key("delete/never/was"),
        key("delete/b/below"),
    ];
    let outcomes = store.delete(&permit(), &gone).await;
    assert_eq!(outcomes.len(), 3);
    for outcome in outcomes {
        outcome.expect("deleted or never there");
    }
    assert_eq!(names(store, "delete/").await, ["delete/b"]);
    create(store, "delete/a/x", &pattern(2, 20)).await;
    assert_eq!(
        get(store, "delete/a/x").await.expect("present"),
        pattern(2, 20)
    );
}

async fn set_aside_gives_a_second_name(store: &dyn Store) {
    let content = pattern(1, 5000);
    create(store, "aside/x", &content).await;
    let (from, to) = (key("aside/x"), key(".snapgate/kept/r/1"));
    for _ in 0..2 {
        store
            .set_aside(&permit(), &from, &to)
            .await
            .expect("set aside, and again");
    }
    assert_eq!(get(store, "aside/x").await.expect("present"), content);
    assert_eq!(
        get(store, ".snapgate/kept/r/1").await.expect("present"),
        content
    );
    put(store, "aside/x", &pattern(2, 5000), Publish::Replace)
        .await
        .expect("replace");
    assert_eq!(
        get(store, ".snapgate/kept/r/1").await.expect("present"),
        content,
        "the second name keeps the old content"
    );
    let taken = store.set_aside(&permit(), &from, &to).await;
    assert!(
        matches!(taken, Err(Error::Exists)),
        "a name set aside is never replaced: {taken:?}"
    );
}

/// Keys that a file system cannot hold as they are, or that tempt a store to clean them up.
const ODD: [&str; 18] = [
    "odd/a",
    "odd/a/b",
    "odd/a/b/c",
    "odd//x",
    "odd/x",
    "odd/x/",
    "odd/./x",
    "odd/../x",
    "../x",
    "/odd/x",
    "odd/%2e%2e/x",
    "odd/..",
    "odd/.",
    "odd/\u{1}\n",
    "odd/a\\b",
    "odd/+",
    "x",
    "odd/.snapgate/tmp/x",
];

async fn odd_keys_are_kept_apart_or_refused(store: &dyn Store) {
    let long = format!("odd/{}", "l".repeat(900));
    let mut keys: Vec<&str> = ODD.to_vec();
    keys.push(&long);
    for order in 0..2 {
        let mut kept: Vec<(&str, Bytes)> = Vec::new();
        for (seed, name) in (order * 100..).zip(&keys) {
            let content = pattern(seed, 50 + seed as usize);
            match put(store, name, &content, Publish::CreateOnly).await {
                Ok(_) => kept.push((name, content)),
                Err(Error::Unstorable(_)) => {}
                Err(other) => panic!("{name:?} is neither kept nor refused: {other}"),
            }
        }
        for (name, content) in &kept {
            assert_eq!(
                get(store, name).await.as_ref(),
                Some(&content.to_vec()),
                "{name:?}"
            );
            let again = put(store, name, content, Publish::CreateOnly).await;
            assert!(matches!(again, Err(Error::Exists)), "{name:?}: {again:?}");
        }
        let mut wanted: Vec<&str> = kept.iter().map(|(name, _)| *name).collect();
        wanted.sort_unstable();
        let listed = names(store, "").await;
        let found: Vec<&str> = listed
            .iter()
            .map(String::as_str)
            .filter(|n| keys.contains(n))
            .collect();
        assert_eq!(found, wanted);
        let gone: Vec<ObjectKey> = kept.iter().map(|(name, _)| key(name)).collect();
        for outcome in store.delete(&permit(), &gone).await {
            outcome.expect("deleted");
        }
        for (name, _) in &kept {
            assert!(get(store, name).await.is_none(), "{name:?}");
        }
        keys.reverse();
    }
}
