//! Another region: the mirror's store and an empty state database, nothing else.

use policies::lock::Freeze;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_gateway_takes_a_mirror_over_with_all_that_its_catalog_said() {
    let disks = Disks::new();
    let (a, writer) = region_a(&disks).await;
    let mirrored = a.contents().await;
    a.gone().await;
    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "us", [("us", us)]).await;
    let Lock::Frozen { reason, .. } = b.lock() else {
        panic!("{:?}", b.lock());
    };
    assert_eq!(reason, Freeze::UnadoptedMirror("us".into()));
    let remedy = reason.remedy(&b.name);
    assert!(
        remedy.contains("snapgate promote prod --store us --writer"),
        "{remedy}"
    );

    let promoted = b.promote("us", "b").await.unwrap();
    assert!(matches!(promoted.planned.basis, Basis::Checkpoint { .. }));
    assert_eq!(promoted.planned.missing, None, "nobody can be asked");
    let at = promoted.planned.at.unwrap();
    assert_eq!(&*at.newest.unwrap().name, "s1");
    assert_eq!(b.contents().await, mirrored);
    assert!(held_by(&b.lock(), "b"), "{:?}", b.lock());
    let mut writer = writer;
    writer.create("s2", &[take()]);
    b.perform("b", writer.requests()).await;
    let points = b.state.restore_points(b.open().id, None, 10).await.unwrap();
    let generations: Vec<u64> = points.iter().map(|p| p.root.generation).collect();
    assert_eq!(
        generations.len(),
        2,
        "the restore point before and the new one: {generations:?}"
    );
    assert!(
        points[0].sequence > points[1].sequence + 1_000_000,
        "no sequence is used twice"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_to_be_adopted_is_refused_and_can_still_be_promoted() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    let mirrored = a.contents().await;
    a.gone().await;
    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "us", [("us", us)]).await;
    let adopted = b.door.adopt(&b.open(), &|_, _| {}).await;
    let refused = adopted.unwrap_err().to_string();
    assert!(
        refused.contains("snapgate promote prod --store us --writer"),
        "{refused}"
    );
    let Lock::Frozen { reason, .. } = b.lock() else {
        panic!("{:?}", b.lock());
    };
    assert_eq!(reason, Freeze::UnadoptedMirror("us".into()));
    assert!(!b.door.is_half_adopted(&b.open()).await);
    b.promote("us", "b").await.unwrap();
    assert_eq!(b.contents().await, mirrored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_gateway_whose_configuration_names_the_dead_store_takes_over_too() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    let mirrored = a.contents().await;
    a.gone().await;
    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "eu", [("us", us)]).await;
    assert!(b.get("base/index.latest").await.is_err());
    b.promote("us", "b").await.unwrap();
    assert_eq!(b.contents().await, mirrored);
    assert_eq!(b.open().plan.store, StoreName::new("us"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_old_primary_is_gone_the_mirror_says_what_is_missing_at_least() {
    let disks = Disks::new();
    let (a, mut writer) = region_a(&disks).await;
    let cold = async || {
        let us = disks.store("us").await;
        let b = disks.gateway_with("b", "us", [("us", us)]).await;
        let planned = b.door.plan_promotion(&b.open(), &ask("us", "b")).await;
        planned.unwrap().body()["missing"].clone()
    };
    assert_eq!(
        cold().await["at_least"],
        serde_json::Value::Null,
        "it did not hear of anything"
    );
    writer.create("s2", &[take()]);
    a.perform("a", writer.requests()).await;
    a.mirror_far_behind(&disks).await;
    let missing = cold().await;
    assert_eq!(missing["known"], false, "{missing}");
    let at_least = &missing["at_least"];
    assert_eq!(at_least["restore_points"], 1, "{missing}");
    assert_eq!(
        at_least["snapshots"],
        serde_json::json!(["s2"]),
        "{missing}"
    );
    a.mirror(&disks).await;
    let missing = cold().await;
    assert_eq!(missing["at_least"]["restore_points"], 0, "{missing}");
    assert_eq!(
        missing["at_least"]["snapshots"],
        serde_json::json!([]),
        "{missing}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_primary_is_asked_what_it_had_if_it_answers() {
    let disks = Disks::new();
    let (a, mut writer) = region_a(&disks).await;
    writer.create("s2", &[take()]);
    a.perform("a", writer.requests()).await;
    a.gone().await;
    let b = disks.gateway("b", "eu").await;
    let promoted = b.promote("us", "b").await.unwrap();
    let missing = promoted.planned.missing.unwrap();
    assert_eq!(
        (missing.restore_points, missing.snapshots.clone()),
        (1, vec!["s2".to_owned()])
    );
    assert!(missing.objects > 0, "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_checkpoint_is_not_guessed_over_the_store_itself_is_read() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    let mirrored = a.contents().await;
    a.gone().await;
    let mut folder = disks.path("us/.snapgate/checkpoints/prod");
    while folder.is_dir() {
        folder = std::fs::read_dir(&folder)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
    }
    let mut piece = std::fs::read(&folder).unwrap();
    let middle = piece.len() / 2;
    piece[middle] ^= 1;
    std::fs::write(&folder, piece).unwrap();

    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "us", [("us", us)]).await;
    let promoted = b.promote("us", "b").await.unwrap();
    assert_eq!(promoted.planned.basis, Basis::Listing);
    let said = promoted
        .planned
        .checks
        .iter()
        .find(|c| c.what == "checkpoint")
        .unwrap();
    assert!(said.found.contains("damaged"), "{}", said.found);
    let contents = b.contents().await;
    assert_eq!(
        contents.keys().collect::<Vec<_>>(),
        mirrored.keys().collect::<Vec<_>>()
    );
    for (key, (etag, hash, bytes)) in contents {
        assert_eq!(bytes, mirrored[&key].2, "{key}");
        let known = key == "base/index.latest";
        assert_eq!((!etag.contains('-'), hash), (known, known), "{key}: {etag}");
    }
}

/// The checkpoint on the mirror says all that the catalog says, whatever else is there.
async fn describe(a: &Gateway, disks: &Disks) {
    let open = a.open();
    let mut follower = Follower::new(
        Arc::clone(&a.state),
        disks.store("us").await,
        a.name.clone(),
        (open.id, open.bucket_id),
        Epoch(1),
    );
    follower.advance_to(a.sequence().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_was_cut_in_the_middle_is_taken_as_it_is() {
    let disks = Disks::new();
    let (a, mut writer) = region_a(&disks).await;
    let mirrored = a.contents().await;
    // The checkpoint of the next root is durable before it, some of its data is there; the root is not.
    writer.create("s2", &[take()]);
    a.perform("a", writer.requests()).await;
    describe(&a, &disks).await;
    let ahead = a.contents().await;
    let (key, (_, _, hash)) = ahead
        .iter()
        .find(|(key, _)| key.contains("/__") && !mirrored.contains_key(*key))
        .unwrap();
    std::fs::copy(disks.path("eu").join(key), disks.path("us").join(key)).unwrap();
    a.gone().await;

    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "us", [("us", us)]).await;
    let promoted = b.promote("us", "b").await.unwrap();
    assert_eq!(promoted.planned.at.unwrap().snapshots, ["s1"]);
    let mut contents = b.contents().await;
    assert_eq!(
        contents.remove(key).unwrap().2,
        *hash,
        "what ran ahead is known"
    );
    let names: Vec<_> = mirrored.keys().collect();
    assert_eq!(contents.keys().collect::<Vec<_>>(), names);
    for (key, (_, _, bytes)) in contents {
        assert_eq!(bytes, mirrored[&key].2, "{key}");
    }
}

/// A checkpoint is written before the root that it describes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_the_mirror_never_got_is_no_restore_point_after_a_promotion() {
    let disks = Disks::new();
    let (a, mut writer) = region_a(&disks).await;
    let mirrored = a.contents().await;
    writer.create("s2", &[take()]);
    a.perform("a", writer.requests()).await;
    describe(&a, &disks).await;
    a.gone().await;
    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "us", [("us", us)]).await;
    b.promote("us", "b").await.unwrap();
    assert_eq!(bytes(b.contents().await), bytes(mirrored));
    let points = b.state.restore_points(b.open().id, None, 10).await.unwrap();
    let told: Vec<_> = points
        .iter()
        .flat_map(|point| point.root.snapshots.iter().map(|s| s.name.to_string()))
        .collect();
    assert_eq!(told, ["s1"]);
}

/// A gateway is lost while its repository is frozen; another one takes over the very store that it was in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_to_a_frozen_primary_is_in_its_stores_checkpoint() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    let mut keeper = crate::repository::keeper::Keeper::default();
    keeper.keep(&a.door, &a.open()).await.unwrap();
    a.door
        .hand_over(&a.open(), crate::repository::handover::Ask::Freeze, None)
        .await
        .unwrap();
    a.door
        .pin(&a.open(), "s1", Some("audit".into()), "ops")
        .await
        .unwrap();
    keeper.keep(&a.door, &a.open()).await.unwrap();
    drop(keeper);
    let contents = a.contents().await;
    a.gone().await;
    let eu = disks.store("eu").await;
    let b = disks.gateway_with("b", "eu", [("eu", eu)]).await;
    let promoted = b.promote("eu", "b").await.unwrap();
    assert!(matches!(promoted.planned.basis, Basis::Checkpoint { .. }));
    assert_eq!(b.contents().await, contents);
    let pins = b.door.pins(&b.open()).await.unwrap();
    assert_eq!(pins.len(), 1, "{pins:?}");
    assert_eq!(&*pins[0].snapshot.name, "s1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_without_a_root_is_refused() {
    let disks = Disks::new();
    let b = disks.gateway("b", "eu").await;
    let refused = b.promote("us", "b").await.unwrap_err();
    assert!(refused.contains("holds no root"), "{refused}");
    let unknown = b.promote("us", "c").await.unwrap_err();
    assert!(
        unknown.contains("'c' is not among the writers"),
        "{unknown}"
    );
    assert!(matches!(b.lock(), Lock::Vacant { .. }), "{:?}", b.lock());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, half a minute long: cargo test -- --ignored a_hundred_thousand"]
async fn a_hundred_thousand_objects_are_promoted_within_a_minute() {
    const OBJECTS: usize = 100_000;
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    let open = a.open();
    let folder = disks.path("us/base/indices/many/0");
    std::fs::create_dir_all(&folder).unwrap();
    for batch in 0..OBJECTS / 1000 {
        let puts = (0..1000).map(|n| {
            let name = format!("__{:022}", batch * 1000 + n);
            std::fs::write(folder.join(&name), name.as_bytes()).unwrap();
            crate::state::Put {
                repository: open.id,
                bucket: open.bucket_id,
                key: ObjectKey::parse(&format!("base/indices/many/0/{name}")).unwrap(),
                size: name.len() as u64,
                etag: "5d41402abc4b2a76b9719d911017c592".into(),
                hash: Some(*blake3::hash(name.as_bytes()).as_bytes()),
                identity: crate::stores::Identity("elsewhere".into()),
                now_ms: 5,
                details: None,
                replaces: None,
                kept: None,
                root: None,
                journalled: true,
                completes: None,
                answer: None,
            }
        });
        let permit = open.upkeep();
        let recorded = puts.map(|put| a.state.record(&permit, put));
        futures::future::try_join_all(recorded).await.unwrap();
    }
    describe(&a, &disks).await;
    drop(open);
    a.gone().await;
    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "us", [("us", us)]).await;
    let promoted = b.promote("us", "b").await.unwrap();
    println!("{OBJECTS} objects promoted in {:?}", promoted.took);
    let usage = b.state.usage(b.open().id).await.unwrap();
    assert!(usage.objects > OBJECTS as u64, "{usage:?}");
    assert!(
        promoted.took < Duration::from_secs(60),
        "{:?}",
        promoted.took
    );
}
