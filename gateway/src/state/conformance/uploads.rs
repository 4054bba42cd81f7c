//! Clients' multipart uploads.

use bytes::Bytes;

use super::*;
use crate::stores::StoredPart;

pub fn new(world: &World, id: &str, name: &str) -> NewUpload {
    NewUpload {
        id: id.into(),
        repository: world.row.id,
        bucket: world.row.bucket,
        key: key(name),
        store_upload: UploadId(format!("store-{id}").into()),
        details: Some(rich_details()),
        checksum: Some(("crc32c".into(), true)),
        now_ms: 11,
    }
}

pub fn part(number: u16, size: u64) -> PartRow {
    PartRow {
        stored: StoredPart {
            number,
            size,
            locator: format!("part-{number}-{size}").into(),
        },
        etag: "5d41402abc4b2a76b9719d911017c592".into(),
        checksums: rich_details().checksums.clone(),
        hash: Some([number as u8; 32]),
        modified_ms: 12,
    }
}

async fn create(state: &dyn State, world: &World, id: &str, name: &str) {
    let upload = new(world, id, name);
    state.create_upload(&world.permit(), upload).await.unwrap();
}

pub async fn an_upload_is_known_until_it_is_dropped(state: &dyn State) {
    let world = World::held(state, "logs").await;
    create(state, &world, "u1", "a").await;
    let given = new(&world, "u1", "a");
    let expected = MultipartUpload {
        id: given.id,
        repository: given.repository,
        bucket: given.bucket,
        key: given.key,
        store_upload: given.store_upload,
        epoch: Some(Epoch(1)),
        cluster: world.cluster.clone(),
        details: given.details,
        checksum: given.checksum,
        initiated_ms: given.now_ms,
    };
    let find = || state.upload(world.row.bucket, "u1");
    assert_eq!(find().await.unwrap(), Some(expected));
    assert_eq!(state.upload(BucketId(99), "u1").await.unwrap(), None);
    assert!(state.drop_upload(&world.permit(), "u1").await.unwrap());
    assert!(!state.drop_upload(&world.permit(), "u1").await.unwrap());
    assert_eq!(find().await.unwrap(), None);
}

pub async fn a_part_replaces_an_earlier_one_of_its_number(state: &dyn State) {
    let world = World::held(state, "logs").await;
    create(state, &world, "u1", "a").await;
    let permit = world.permit();
    for row in [part(2, 5), part(10_000, 5), part(1, 5)] {
        assert_eq!(state.put_part(&permit, "u1", row).await.unwrap(), None);
    }
    let replaced = state.put_part(&permit, "u1", part(2, 6)).await;
    assert_eq!(replaced.unwrap(), Some(part(2, 5)));
    let parts = state.parts("u1", 0, 100).await.unwrap();
    assert_eq!(parts, [part(1, 5), part(2, 6), part(10_000, 5)]);
    assert_eq!(state.parts("u1", 1, 1).await.unwrap(), [part(2, 6)]);
}

pub async fn an_unknown_upload_takes_no_part(state: &dyn State) {
    let world = World::held(state, "logs").await;
    create(state, &world, "u1", "a").await;
    let permit = world.permit();
    state.put_part(&permit, "u1", part(1, 5)).await.unwrap();
    state.drop_upload(&permit, "u1").await.unwrap();
    let late = state.put_part(&permit, "u1", part(2, 5)).await;
    assert!(matches!(late, Err(WriteError::UploadGone)), "{late:?}");
    assert_eq!(state.parts("u1", 0, 10).await.unwrap(), []);
}

pub async fn a_completed_upload_is_forgotten_and_its_answer_kept(state: &dyn State) {
    let world = World::held(state, "logs").await;
    create(state, &world, "u1", "a").await;
    let permit = world.permit();
    state.put_part(&permit, "u1", part(1, 5)).await.unwrap();
    let mut put = world.put("a");
    put.completes = Some("u1".into());
    put.details = Some(rich_details());
    state.record(&permit, put.clone()).await.unwrap();
    let object = world.object(state, "a").await;
    let completed = || state.completed_upload(world.row.bucket, "u1");
    assert_eq!(completed().await.unwrap(), object);
    assert_eq!(state.upload(world.row.bucket, "u1").await.unwrap(), None);
    assert_eq!(state.parts("u1", 0, 10).await.unwrap(), []);
    let removals = vec![world.removal("a", None)];
    state.remove(&permit, removals).await.unwrap();
    assert_eq!(completed().await.unwrap(), object, "as it was answered");
    let again = state.record(&permit, put).await;
    assert!(matches!(again, Err(WriteError::UploadGone)), "{again:?}");
}

pub async fn an_upload_under_completion_is_not_dropped(state: &dyn State) {
    let world = World::held(state, "logs").await;
    create(state, &world, "u1", "a").await;
    create(state, &world, "u2", "a").await;
    let permit = world.permit();
    let mut put = world.put("a");
    put.completes = Some("u1".into());
    let intent = NewIntent {
        upload: UploadId("assembled".into()),
        binds: None,
        put,
    };
    let id = state.open_intent(&permit, intent).await.unwrap();
    let refused = state.drop_upload(&permit, "u1").await;
    assert!(matches!(refused, Err(WriteError::KeyBusy)), "{refused:?}");
    assert!(state.drop_upload(&permit, "u2").await.unwrap());
    state.abort_intent(id).await.unwrap();
    assert!(state.drop_upload(&permit, "u1").await.unwrap());
}

pub async fn uploads_are_listed_by_key_and_id(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let other = World::held(state, "metrics").await;
    for (id, name) in [
        ("4", "b"),
        ("2", "a/1"),
        ("1", "a/2"),
        ("3", "a/1"),
        ("5", "a/1"),
    ] {
        create(state, &world, id, name).await;
    }
    create(state, &other, "6", "a/0").await;
    let query = |prefix: &str, after: Option<(&str, &str)>, limit| UploadQuery {
        bucket: world.row.bucket,
        repositories: [world.row.id].into(),
        prefix: prefix.into(),
        after: after.map(|(key, id)| (key.into(), id.into())),
        limit,
    };
    let cases = [
        (query("", None, 10), vec!["2", "3", "5", "1", "4"], false),
        (query("a/", None, 2), vec!["2", "3"], true),
        (query("a/", Some(("a/1", "3")), 10), vec!["5", "1"], false),
        (query("a/", Some(("a/1", "")), 10), vec!["1"], false),
        (query("b", None, 1), vec!["4"], false),
        (query("c", None, 1), vec![], false),
        (query("", None, 0), vec![], false),
    ];
    for (query, ids, truncated) in cases {
        let listing = state.uploads(&query).await.unwrap();
        let seen: Vec<_> = listing.uploads.iter().map(|u| u.id.as_str()).collect();
        assert_eq!((seen, listing.truncated), (ids, truncated), "{query:?}");
    }
}

pub async fn uploads_are_found_by_the_uptime_at_which_they_were_begun(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let other = World::held(state, "metrics").await;
    create(state, &world, "first", "b").await;
    create(state, &other, "of another", "b").await;
    state.uptime(1000).await.unwrap();
    create(state, &world, "second", "a").await;
    create(state, &world, "third", "a").await;
    let begun = async |uptime, limit| {
        let found = state.uploads_begun_before(world.row.id, uptime, limit);
        let found = found.await.unwrap();
        found.into_iter().map(|u| u.id).collect::<Vec<_>>()
    };
    assert_eq!(begun(0, 10).await, [""; 0]);
    assert_eq!(begun(1000, 10).await, ["first"]);
    assert_eq!(begun(1001, 10).await, ["first", "second", "third"]);
    assert_eq!(begun(1001, 2).await, ["first", "second"]);
    state.drop_upload(&world.permit(), "first").await.unwrap();
    assert_eq!(begun(1001, 10).await, ["second", "third"]);
}

pub async fn the_stores_own_ids_are_those_of_uploads_and_intents(state: &dyn State) {
    let world = World::held(state, "logs").await;
    create(state, &world, "u1", "a").await;
    let intent = NewIntent {
        upload: UploadId("hidden".into()),
        binds: None,
        put: world.put("b"),
    };
    state.open_intent(&world.permit(), intent).await.unwrap();
    let mut ids = state.store_uploads(world.row.id).await.unwrap();
    ids.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(ids, ["hidden", "store-u1"].map(|id| UploadId(id.into())));
}

pub async fn the_bytes_of_metadata_in_parts_are_kept_until_their_upload_ends(state: &dyn State) {
    let world = World::held(state, "logs").await;
    create(state, &world, "u1", "a").await;
    let permit = world.permit();
    let keep = |number, text: &'static str| {
        state.keep_part(&permit, "u1", number, Bytes::from_static(text.as_bytes()))
    };
    keep(2, "second").await.unwrap();
    keep(1, "first").await.unwrap();
    keep(2, "second again").await.unwrap();
    let kept = state.kept_parts("u1").await.unwrap();
    let told: Vec<_> = kept.iter().map(|(number, b)| (*number, &b[..])).collect();
    assert_eq!(told, [(1, &b"first"[..]), (2, b"second again")]);
    state.drop_upload(&permit, "u1").await.unwrap();
    assert_eq!(state.kept_parts("u1").await.unwrap(), []);
    let late = keep(3, "late").await;
    assert!(matches!(late, Err(WriteError::UploadGone)), "{late:?}");
}
