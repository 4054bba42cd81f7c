//! The gateway is alive and followed its mirror.

use super::*;
use crate::appliers::Appliers;
use crate::mirror::Mirrors;
use crate::mirror::plan::MirrorsPlan;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_mirror_has_what_it_applied_and_says_what_is_missing() {
    let disks = Disks::new();
    let (gateway, mut writer) = region_a(&disks).await;
    let mirrored = gateway.contents().await;
    let at_s1 = writer.clone();
    writer.create("s2", &[take()]);
    gateway.perform("a", writer.requests()).await;

    let planned = gateway
        .door
        .plan_promotion(&gateway.open(), &ask("us", "b"))
        .await
        .unwrap();
    assert_eq!(planned.refusal(), None);
    let promoted = gateway.promote("us", "b").await.unwrap();
    let missing = promoted.planned.missing.unwrap();
    assert_eq!(
        (missing.restore_points, missing.snapshots.clone()),
        (1, vec!["s2".to_owned()])
    );
    assert!(missing.objects > 0 && missing.bytes > 0, "{missing:?}");
    assert_eq!(promoted.planned.at.unwrap().snapshots, ["s1"]);

    assert!(held_by(&gateway.lock(), "b"), "{:?}", gateway.lock());
    assert_eq!(gateway.open().plan.store, StoreName::new("us"));
    assert_eq!(gateway.contents().await, mirrored);
    let refused = gateway
        .put("a", &at("base/index-99").key, b"{}".to_vec())
        .await;
    assert!(refused.unwrap_err().contains("locked by writer 'b'"));
    let mut other = at_s1;
    other.create("s3", &[take()]);
    gateway.perform("b", other.requests()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_repository_stays_where_it_is_after_a_restart() {
    let disks = Disks::new();
    let (gateway, _) = region_a(&disks).await;
    gateway.promote("us", "b").await.unwrap();
    let contents = gateway.contents().await;
    gateway.gone().await;
    let again = disks.gateway("a", "eu").await;
    assert!(held_by(&again.lock(), "b"), "{:?}", again.lock());
    assert_eq!(again.open().plan.store, StoreName::new("us"));
    assert_eq!(again.open().promoted_from, Some(StoreName::new("eu")));
    assert_eq!(again.contents().await, contents);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_a_promotion_left_is_a_warning_until_it_is_mirrored_again() {
    let disks = Disks::new();
    let (gateway, _) = region_a(&disks).await;
    let (prod, eu) = (gateway.name.clone(), StoreName::new("eu"));
    let mirrors = Arc::new(Mirrors::default());
    let appliers = Appliers::new(
        Arc::clone(&gateway.door),
        Arc::clone(&mirrors),
        BTreeMap::from([(prod.clone(), MirrorsPlan::default())]),
        BTreeMap::from([(prod, eu.clone())]),
    );
    let warnings = async || {
        appliers.look().await;
        let open = gateway.door.watch().open(gateway.open().id).await;
        let of_kind = open.unwrap().into_iter();
        of_kind
            .filter(|row| row.kind == "not_mirrored")
            .map(|row| row.sentence)
            .collect::<Vec<_>>()
    };
    assert_eq!(appliers.left_behind(&gateway.open()).await.unwrap(), None);
    assert!(warnings().await.is_empty());
    gateway.promote("us", "b").await.unwrap();
    let left = appliers.left_behind(&gateway.open()).await.unwrap();
    assert_eq!(left, Some(eu.clone()));
    let told = warnings().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("promoted to store 'us', and nothing is mirrored to 'eu'")
            && told[0].contains("snapgate failback prod --store eu"),
        "{told:?}"
    );
    let id = gateway.open().id;
    let returning = Some(eu.to_string());
    gateway
        .state
        .keep_position(id, RETURNING, returning)
        .await
        .unwrap();
    assert!(warnings().await.is_empty());
    mirrors.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_began_on_the_old_store_ends_there() {
    let disks = Disks::new();
    let (gateway, _) = region_a(&disks).await;
    let old = gateway.open();
    gateway.promote("us", "a").await.unwrap();
    assert!(old.gate.is_frozen());
    old.gate.saw(gateway.state.lock(old.id).await.unwrap());
    assert!(
        old.gate.is_frozen(),
        "a held lock on the new store admits nobody on the old one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_promotion_is_refused_while_the_mirror_is_behind_and_changes_nothing() {
    let disks = Disks::new();
    let (gateway, mut writer) = region_a(&disks).await;
    writer.create("s2", &[take()]);
    gateway.perform("a", writer.requests()).await;
    let before = gateway.contents().await;
    let planned = Ask {
        nothing_behind: Some(Duration::ZERO),
        ..ask("us", "b")
    };
    let refused = gateway
        .door
        .promote(&gateway.open(), planned.clone(), &ByHand)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("operations behind"),
        "{refused}"
    );
    assert!(held_by(&gateway.lock(), "a"), "{:?}", gateway.lock());
    assert_eq!(gateway.contents().await, before);
    gateway.mirror(&disks).await;
    gateway
        .door
        .promote(&gateway.open(), planned, &ByHand)
        .await
        .unwrap();
    assert_eq!(gateway.contents().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_write_on_a_dead_store_is_given_up() {
    let disks = Disks::new();
    let (gateway, mut writer) = region_a(&disks).await;
    let mirrored = gateway.contents().await;
    gateway.gone().await;
    // The store dies while a root is on its way: its bytes may be there, nobody knows.
    let dying = Arc::new(Faulty::new(disks.store("eu").await));
    let us = disks.store("us").await;
    let gateway = disks
        .gateway_with("a", "eu", [("eu", dying.clone()), ("us", us)])
        .await;
    writer.create("s2", &[take()]);
    let lost = || Fault::FailBefore(crate::stores::Error::Unknown);
    for _ in 0..200 {
        for operation in [
            Operation::Publish,
            Operation::Read,
            Operation::Abort,
            Operation::Stat,
        ] {
            dying.plan(operation, lost());
        }
    }
    let root = writer.requests().into_iter().find_map(|r| match r {
        Request::Put { key, bytes, .. } if key.as_str().starts_with("base/snap-") => {
            Some((key, bytes))
        }
        _other => None,
    });
    let (key, bytes) = root.unwrap();
    gateway.put("a", &key, bytes).await.unwrap_err();
    gateway.promote("us", "b").await.unwrap();
    assert_eq!(gateway.contents().await, mirrored);
    assert_eq!(gateway.state.intents(gateway.open().id).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_returns_freezes_itself_and_says_where_the_primary_is() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    a.gone().await;
    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "us", [("us", us)]).await;
    b.promote("us", "b").await.unwrap();

    let again = disks.gateway("a", "eu").await;
    let Lock::Frozen { reason, .. } = again.lock() else {
        panic!("{:?}", again.lock());
    };
    let sentence = reason.to_string();
    assert!(
        sentence.contains("its mirror on store 'us' was promoted"),
        "{sentence}"
    );
    assert!(
        reason
            .remedy(&again.name)
            .contains("snapgate failback prod")
    );
    let refused = again
        .put("a", &at("base/index-99").key, b"{}".to_vec())
        .await;
    assert!(refused.unwrap_err().contains("us"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_old_primary_freezes_at_its_next_look() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    a.door.look_elsewhere(&a.open()).await.unwrap();
    assert!(
        held_by(&a.lock(), "a"),
        "its own mirror is no other primary"
    );
    let us = disks.store("us").await;
    let b = disks.gateway_with("b", "us", [("us", us)]).await;
    b.promote("us", "b").await.unwrap();
    a.door.look_elsewhere(&a.open()).await.unwrap();
    assert!(a.open().gate.is_frozen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_waits_for_a_mirror_leaves_nothing_behind() {
    let disks = Disks::new();
    let (gateway, mut writer) = region_a(&disks).await;
    let waiting = || crate::repository::handover::Ask::Lock {
        writer: Cluster::new("b"),
        force: false,
        wait_mirror: Some(StoreName::new("us")),
    };
    gateway
        .door
        .hand_over(&gateway.open(), waiting(), None)
        .await
        .unwrap();
    assert!(held_by(&gateway.lock(), "b"));
    writer.create("s2", &[take()]);
    gateway.perform("b", writer.requests()).await;
    let back = crate::repository::handover::Ask::Lock {
        writer: Cluster::new("a"),
        force: false,
        wait_mirror: Some(StoreName::new("us")),
    };
    let open = gateway.open();
    let (handed_over, ()) = tokio::join!(gateway.door.hand_over(&open, back, None), async {
        while !matches!(gateway.lock(), Lock::Draining { .. }) {
            tokio::task::yield_now().await;
        }
        gateway.mirror(&disks).await;
    });
    handed_over.unwrap();
    assert!(held_by(&gateway.lock(), "a"));
    let (applied, newest) = gateway
        .door
        .mirror_position(&gateway.open(), &StoreName::new("us"))
        .await
        .unwrap();
    assert_eq!(applied, newest);
}

fn waiting_for_us(writer: &str) -> crate::repository::handover::Ask {
    crate::repository::handover::Ask::Lock {
        writer: Cluster::new(writer),
        force: false,
        wait_mirror: Some(StoreName::new("us")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_whose_mirror_does_not_come_leaves_the_lock_where_it_was() {
    let disks = Disks::new();
    let (gateway, mut writer) = region_a(&disks).await;
    writer.create("s2", &[take()]);
    gateway.perform("a", writer.requests()).await;
    gateway.pause().await;
    let open = gateway.open();
    let refused = gateway
        .door
        .hand_over(&open, waiting_for_us("b"), None)
        .await;
    let sentence = refused.unwrap_err().to_string();
    assert!(
        sentence.contains("is paused, and") && sentence.contains("operations behind"),
        "{sentence}"
    );
    assert!(held_by(&gateway.lock(), "a"), "{:?}", gateway.lock());
    writer.create("s3", &[take()]);
    gateway.perform("a", writer.requests()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_dies_while_it_waits_for_a_mirror_does_not_happen() {
    let disks = Disks::new();
    let (gateway, mut writer) = region_a(&disks).await;
    writer.create("s2", &[take()]);
    gateway.perform("a", writer.requests()).await;
    {
        let open = gateway.open();
        let handing_over = gateway.door.hand_over(&open, waiting_for_us("b"), None);
        let draining = async {
            while !matches!(gateway.lock(), Lock::Draining { .. }) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            handed = handing_over => panic!("{handed:?}"),
            () = draining => {}
        }
    }
    gateway.gone().await;
    let again = disks.gateway("a", "eu").await;
    assert!(held_by(&again.lock(), "a"), "{:?}", again.lock());
    writer.create("s3", &[take()]);
    again.perform("a", writer.requests()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_numbers_are_reserved_in_the_store_where_the_repository_is() {
    let disks = Disks::new();
    let (a, _writer) = region_a(&disks).await;
    let reserved = |store: &str| {
        let there = disks.path(&format!("{store}/.snapgate/sequences/prod"));
        std::fs::read_dir(there).map_or(0, Iterator::count)
    };
    assert_eq!((reserved("eu"), reserved("us")), (1, 0));
    a.promote("us", "b").await.unwrap();
    assert_eq!((reserved("eu"), reserved("us")), (1, 1));
    let numbers = a.state.sequences(a.open().id).await.unwrap();
    assert!(
        numbers.reserved.is_some_and(|most| most > numbers.used),
        "{numbers:?}"
    );
    assert_eq!(numbers.claim, None);
}
