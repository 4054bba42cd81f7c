//! An old primary's store is brought back.

use super::*;

/// What an applier does to the store that is brought back, by hand.
pub(super) async fn reconcile(gateway: &Gateway, disks: &Disks) {
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

async fn thaw(gateway: &Gateway) -> Result<(), String> {
    let recover = crate::repository::handover::Ask::Thaw { recover: true };
    let thawed = gateway.door.hand_over(&gateway.open(), recover, None).await;
    thawed.map(drop).map_err(|e| e.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_is_not_opened_while_its_mirror_is_the_primary() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    a.gone().await;
    let b = disks.gateway("b", "us").await;
    b.promote("us", "b").await.unwrap();
    let a = disks.gateway("a", "eu").await;
    let way_back = "snapgate failback prod --store eu";
    for refused in [thaw(&a).await, a.promote("eu", "a").await.map(drop)] {
        let sentence = refused.unwrap_err();
        assert!(
            sentence.contains(way_back) && sentence.contains("'us' was promoted"),
            "{sentence}"
        );
    }
    assert!(a.open().gate.is_frozen());
    b.gone().await;
    a.promote("us", "a").await.unwrap();
    assert!(
        held_by(&a.lock(), "a"),
        "that gateway is gone: {:?}",
        a.lock()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_whose_store_was_brought_back_serves_again_and_goes_on() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    a.gone().await;
    let b = disks.gateway("b", "us").await;
    b.promote("us", "b").await.unwrap();
    let eu = StoreName::new("eu");
    b.door
        .make_mirror(&b.open(), &eu, mirror_order::Mode::Async)
        .await
        .unwrap();
    reconcile(&b, &disks).await;
    b.promote("eu", "b").await.unwrap();
    let contents = b.contents().await;
    b.gone().await;
    let a = disks.gateway("a", "eu").await;
    assert!(a.open().gate.is_frozen());
    a.promote("eu", "a").await.unwrap();
    a.door.look_elsewhere(&a.open()).await.unwrap();
    assert!(
        held_by(&a.lock(), "a"),
        "what 'us' says was before: {:?}",
        a.lock()
    );
    assert_eq!(bytes(a.contents().await), bytes(contents));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_all_is_kept_aside_nobody_mirrors_to_an_old_primarys_store() {
    let disks = Disks::new();
    let (a, mut writer) = region_a(&disks).await;
    writer.create("s2", &[take()]);
    a.perform("a", writer.requests()).await;
    a.gone().await;
    let broken = Arc::new(Faulty::new(disks.store("eu").await));
    let us = disks.store("us").await;
    let stores: [(&str, Arc<dyn Store>); 2] = [("eu", broken.clone()), ("us", us)];
    let b = disks.gateway_with("b", "us", stores).await;
    b.promote("us", "b").await.unwrap();
    let eu = StoreName::new("eu");
    let fails = Fault::FailBefore(crate::stores::Error::Busy);
    broken.plan(Operation::SetAside, fails);
    let making = || async {
        let open = b.open();
        b.door
            .make_mirror(&open, &eu, mirror_order::Mode::Async)
            .await
    };
    making().await.unwrap_err();
    let row = b.state.mirror(b.open().id, &eu).await.unwrap().unwrap();
    assert!(row.paused, "{row:?}");
    assert!(!b.door.is_mirror(&b.open(), &eu).await.unwrap());
    let aside = making().await.unwrap();
    assert!(aside.objects > 0, "{aside:?}");
    let row = b.state.mirror(b.open().id, &eu).await.unwrap().unwrap();
    assert!(!row.paused && row.resync.unwrap().aside);
    assert!(b.door.is_mirror(&b.open(), &eu).await.unwrap());
}
