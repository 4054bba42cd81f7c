//! Every way that S3 has to make content vanish, tried by the lock's holder on every object that the newest root needs.

use bytes::Bytes;
use futures::TryStreamExt;
use policies::format::build::{Request, Take};
use policies::key::{Class, ObjectKey};

use crate::repository::miniature::{World, body, caller};
use crate::repository::{Address, CompletedPart, Error, ReadCondition, WriteCondition};
use crate::state::Details;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Delete,
    /// Other bytes of the same length, and under each condition.
    Overwrite,
    OverwriteIfMatch,
    OverwriteIfAbsent,
    /// CompleteMultipartUpload.
    Parts,
    CopyOver,
    /// CopyObject with `x-amz-metadata-directive: REPLACE`.
    CopyOntoItself,
}

const WAYS: [Way; 7] = [
    Way::Delete,
    Way::Overwrite,
    Way::OverwriteIfMatch,
    Way::OverwriteIfAbsent,
    Way::Parts,
    Way::CopyOver,
    Way::CopyOntoItself,
];

async fn read(world: &World, key: &ObjectKey) -> Bytes {
    let at = world.at(key.as_str());
    let found = world
        .door
        .get(&caller(), &at, None, &ReadCondition::default())
        .await
        .unwrap();
    let chunks: Vec<Bytes> = found.bytes.try_collect().await.unwrap();
    chunks.concat().into()
}

/// All that the newest root needs, with its bytes.
async fn needed(world: &World) -> Vec<(ObjectKey, Bytes)> {
    let keys: Vec<ObjectKey> = world.open.guarding.with(|guard| {
        let members = guard.knowledge().members();
        members.map(|member| member.key).collect()
    });
    let mut needed = Vec::new();
    for key in keys {
        let bytes = read(world, &key).await;
        needed.push((key, bytes));
    }
    needed
}

async fn put(
    world: &World,
    at: &Address,
    bytes: Vec<u8>,
    condition: WriteCondition,
) -> Result<(), Error> {
    let written = world
        .door
        .put(&caller(), at, body(bytes), Details::default(), condition)
        .await;
    written.map(drop)
}

async fn in_parts(world: &World, at: &Address, bytes: Vec<u8>) -> Result<(), Error> {
    let (door, caller) = (&world.door, caller());
    let begun = door
        .create_upload(&caller, at, Details::default(), None)
        .await?;
    let part = door
        .put_part(&caller, at, &begun.id, 1, body(bytes))
        .await?;
    let parts = vec![CompletedPart {
        number: 1,
        etag: part.etag.to_string(),
        checksum: None,
    }];
    let always = WriteCondition::Always;
    let done = door
        .complete(&caller, at, &begun.id, parts, None, always)
        .await;
    done.map(drop)
}

async fn copy(
    world: &World,
    from: &Address,
    to: &Address,
    replace: Option<Details>,
) -> Result<(), Error> {
    let (any, always) = (ReadCondition::default(), WriteCondition::Always);
    let copied = world
        .door
        .copy(&caller(), from, &any, to, replace, None, always)
        .await;
    copied.map(drop)
}

async fn attempt(world: &World, way: Way, key: &ObjectKey, bytes: &Bytes) -> Result<(), Error> {
    let at = world.at(key.as_str());
    let mut other = bytes.to_vec();
    other[0] ^= 1;
    match way {
        Way::Delete => {
            let delete = Request::Delete {
                key: key.clone(),
                class: Class::Unknown,
            };
            world.send(delete).await
        }
        Way::Overwrite => put(world, &at, other, WriteCondition::Always).await,
        Way::OverwriteIfAbsent => put(world, &at, other, WriteCondition::IfAbsent).await,
        Way::OverwriteIfMatch => {
            let row = world.door.lookup(&world.open, key).await.unwrap().object;
            let etag = row.unwrap().etag.to_string();
            put(world, &at, other, WriteCondition::IfMatch(etag)).await
        }
        Way::Parts => in_parts(world, &at, other).await,
        Way::CopyOver => copy(world, &world.at("base/notes.txt"), &at, None).await,
        Way::CopyOntoItself => copy(world, &at, &at, Some(Details::default())).await,
    }
}

async fn lived() -> World {
    let mut world = World::new().await;
    world.snapshot("one").await;
    world.snapshot("two").await;
    world
        .put("base/notes.txt", b"other".to_vec())
        .await
        .unwrap();
    world
}

#[tokio::test]
async fn what_the_newest_root_needs_is_there_whatever_a_client_tries() {
    let world = lived().await;
    let needed = needed(&world).await;
    assert!(needed.len() > 10);
    for way in WAYS {
        for (key, bytes) in &needed {
            let tried = attempt(&world, way, key, bytes).await;
            assert!(
                tried.is_err() || way == Way::CopyOntoItself,
                "{way:?} of {key} was not refused"
            );
            assert_eq!(&read(&world, key).await, bytes, "{way:?} of {key}");
        }
    }
    let world = world.restart().await;
    for (key, bytes) in &needed {
        assert_eq!(&read(&world, key).await, bytes, "{key} after a restart");
    }
}

/// Keys are taken literally: another spelling is another name, and where it is none, a refusal.
#[tokio::test]
async fn another_spelling_of_a_needed_name_harms_nothing() {
    let world = lived().await;
    let needed = needed(&world).await;
    for (key, bytes) in &needed {
        let name = key.as_str().strip_prefix("base/").unwrap();
        for spelt in [
            format!("base//{name}"),
            format!("base/./{name}"),
            format!("base/../base/{name}"),
            format!("/base/{name}"),
            format!("base/{name}/"),
            format!("base/{name}%00"),
            format!("%62ase/{name}"),
            format!("BASE/{name}"),
            format!("base@1/{name}"),
        ] {
            let Ok(twin) = ObjectKey::parse(&spelt) else {
                continue;
            };
            for way in [Way::Overwrite, Way::Parts, Way::Delete] {
                // Whether it is refused is not the point here.
                let _tried = attempt(&world, way, &twin, bytes).await;
                assert_eq!(&read(&world, key).await, bytes, "{way:?} of {spelt}");
            }
        }
    }
}

/// An older root under its own number, the newest number again, a number far ahead, and a pointer that goes back.
#[tokio::test]
async fn roots_and_the_pointer_do_not_go_back() {
    let world = lived().await;
    let needed = needed(&world).await;
    let newest = read(&world, &ObjectKey::parse("base/index-1").unwrap()).await;
    let older = br#"{"min_version":"7.12.0","uuid":"x","snapshots":[],"indices":{}}"#.to_vec();
    for (name, bytes) in [
        ("base/index-0", older.clone()),
        ("base/index-1", older.clone()),
        ("base/index-2", older),
        ("base/index-0", newest.to_vec()),
        ("base/index.latest", 0_u64.to_be_bytes().to_vec()),
        ("base/index.latest", 9_u64.to_be_bytes().to_vec()),
        ("base/index.latest", Vec::new()),
    ] {
        let tried = world.put(name, bytes).await;
        assert!(tried.is_err(), "{name} was not refused");
    }
    let delete = |key: &str| Request::Delete {
        key: ObjectKey::parse(key).unwrap(),
        class: Class::Unknown,
    };
    world.send(delete("base/index.latest")).await.unwrap();
    let pointed = read(&world, &ObjectKey::parse("base/index.latest").unwrap()).await;
    assert_eq!(pointed[..], 1_u64.to_be_bytes());
    for (key, bytes) in &needed {
        assert_eq!(&read(&world, key).await, bytes, "{key}");
    }
}

/// A file that nobody needs yet is deleted and written again with other bytes, both under retention.
#[tokio::test]
async fn a_name_that_is_deleted_and_written_again_keeps_what_older_restore_points_need() {
    let mut world = World::new().await;
    for name in ["one", "two"] {
        let take = Take {
            index: "logs",
            shards: 2,
            new_files: 3,
            merged_away: 1,
            failed_shard: None,
        };
        world.cluster.create(name, &[take]);
        world.send_all().await;
    }
    let before = needed(&world).await;
    world.cluster.delete(&["one"], true);
    world.send_all().await;
    let now: Vec<ObjectKey> = needed(&world)
        .await
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    let of_one =
        |(key, _): &&(ObjectKey, Bytes)| !now.contains(key) && key.as_str().contains("/__");
    let (key, bytes) = before.iter().find(of_one).unwrap();
    let mut written = world.put(key.as_str(), b"other".to_vec()).await;
    if let Err(Error::SlowDown(_)) = written {
        // What was deleted is moved aside first.
        written = world.put(key.as_str(), b"other".to_vec()).await;
    }
    written.unwrap();
    let view = key.as_str().replacen("base/", "base@1/", 1);
    assert_eq!(
        &read(&world, &ObjectKey::parse(&view).unwrap()).await,
        bytes
    );
    let world = world.restart().await;
    assert_eq!(
        &read(&world, &ObjectKey::parse(&view).unwrap()).await,
        bytes
    );
}
