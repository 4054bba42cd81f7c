//! A start compares its journal with the checkpoint of the store: those of mirrors and of who was there before are not its own.

use policies::lock::Freeze;

use super::*;

/// Started again at once, as after a crash: nobody wrote a checkpoint since.
async fn again(disks: &Disks, gateway: Gateway, db: &str) -> Gateway {
    gateway.gone().await;
    disks.gateway(db, "us").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirrors_checkpoint_stops_nobody_who_takes_the_mirror_over() {
    let disks = Disks::new();
    let (a, _) = region_a(&disks).await;
    a.gone().await;
    let mut b = disks.gateway("b", "us").await;
    for _ in 0..2 {
        let Lock::Frozen { reason, .. } = b.lock() else {
            panic!("{:?}", b.lock());
        };
        assert_eq!(reason, Freeze::UnadoptedMirror("us".into()));
        b = again(&disks, b, "b").await;
    }
    b.promote("us", "b").await.unwrap();
    let b = again(&disks, b, "b").await;
    assert!(held_by(&b.lock(), "b"), "{:?}", b.lock());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_there_nor_back_a_promotion_meets_a_checkpoint_that_stops_it() {
    let disks = Disks::new();
    let (a, mut writer) = region_a(&disks).await;
    crate::repository::keeper::finish(&a.door).await;
    writer.create("s2", &[take()]);
    let more = writer.requests();
    a.promote("us", "b").await.unwrap();
    let a = again(&disks, a, "a").await;
    assert!(held_by(&a.lock(), "b"), "{:?}", a.lock());
    a.perform("b", more).await;
    let eu = StoreName::new("eu");
    let mode = mirror_order::Mode::Async;
    a.door.make_mirror(&a.open(), &eu, mode).await.unwrap();
    returns::reconcile(&a, &disks).await;
    a.promote("eu", "a").await.unwrap();
    let a = again(&disks, a, "a").await;
    assert!(held_by(&a.lock(), "a"), "{:?}", a.lock());
    assert_eq!(a.open().plan.store, eu);
}
