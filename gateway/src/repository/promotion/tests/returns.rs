//! An old primary's store is brought back.

use super::*;

/// What an applier does to the store that is brought back, by hand.
async fn reconcile(gateway: &Gateway, disks: &Disks) {
    let (open, eu) = (gateway.open(), StoreName::new("eu"));
    copy_tree(&disks.path("us/base"), &disks.path("eu/base"));
    let visible = gateway.contents().await;
    forget_others(&disks.path("eu"), &disks.path("eu/base"), &visible);
    let row = gateway.state.mirror(open.id, &eu).await.unwrap().unwrap();
    let done = MirrorChange::Resynced {
        since_ms: row.resync.unwrap().since_ms,
        upto: gateway.sequence().await,
    };
    gateway
        .state
        .change_mirror(open.id, &eu, None, vec![done])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_is_brought_back_and_what_it_had_alone_is_kept_aside() {
    let disks = Disks::new();
    let (a, mut writer) = region_a(&disks).await;
    let mut other = writer.clone();
    other.reseed(2);
    writer.create("s2", &[take()]);
    a.perform("a", writer.requests()).await;
    let alone = a.contents().await;
    a.gone().await;
    let b = disks.gateway("b", "us").await;
    b.promote("us", "b").await.unwrap();
    other.create("s3", &[take()]);
    b.perform("b", other.requests()).await;
    let contents = b.contents().await;

    let eu = StoreName::new("eu");
    let aside = b
        .door
        .make_mirror(&b.open(), &eu, mirror_order::Mode::Async)
        .await
        .unwrap();
    assert!(aside.objects > 0, "{aside:?}");
    let again = b
        .door
        .make_mirror(&b.open(), &eu, mirror_order::Mode::Async)
        .await
        .unwrap();
    assert_eq!(again.objects, 0, "it is the mirror's store now");
    reconcile(&b, &disks).await;
    let kept: Vec<_> = std::fs::read_dir(disks.path("eu/.snapgate/kept/prod"))
        .unwrap()
        .collect();
    let divergent = kept.iter().map(|entry| entry.as_ref().unwrap().path());
    let mut divergent = divergent.filter(|path| path.to_str().unwrap().contains("/divergent-"));
    let divergent = divergent.next().unwrap();
    for (key, (_, _, content)) in &alone {
        let lost =
            contents.get(key).is_none_or(|there| there.2 != *content) && key != "base/index.latest";
        let Ok(found) = std::fs::read(divergent.join(key)) else {
            assert!(!lost, "{key} was acknowledged and is nowhere");
            continue;
        };
        assert_eq!(blake3::hash(&found).to_hex().to_string(), *content, "{key}");
    }

    let planned = Ask {
        nothing_behind: Some(Duration::from_secs(5)),
        ..ask("eu", "a")
    };
    b.door.promote(&b.open(), planned, &ByHand).await.unwrap();
    assert!(held_by(&b.lock(), "a"), "{:?}", b.lock());
    assert_eq!(b.open().plan.store, eu);
    assert_eq!(b.contents().await, contents);
    b.gone().await;
    let a = disks.gateway("a", "eu").await;
    assert!(
        a.open().gate.is_frozen(),
        "its database is older than the store: {:?}",
        a.lock()
    );
}
