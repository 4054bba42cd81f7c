//! What a mirror does about a target, or a source, that fails now and then: it tries again, and it ends.

use std::sync::atomic::Ordering;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::stores::Error;
use crate::stores::faults::{Fault, Faulty, Gate};
use crate::stores::metrics::Operation;

const SNAPSHOTS: u64 = 8;

/// A mirror that has some snapshots, and whose target fails so from now on.
async fn with_many(seed: u64, share: f64) -> Mirrored {
    println!("seed {seed}");
    let mut m = Mirrored::onto(World::new().await, Memory::new(seed)).await;
    for n in 0..SNAPSHOTS {
        m.snapshot(&format!("s{n}")).await;
    }
    m.until(State::InSync).await;
    m.target.fail(share);
    m
}

/// More than any way of looking at one object, and at its root, asks of a target.
fn of_each_object(m: &Mirrored, operations: u64) -> u64 {
    (m.target.objects().len() as u64 + 20) * operations
}

#[tokio::test]
async fn a_reconciliation_ends_on_a_target_that_goes_on_failing() {
    let mut m = with_many(rand::random(), 0.1).await;
    let before = m.target.asked();
    m.mirror.resync("a test", false).await.unwrap();
    m.until(State::InSync).await;
    let asked = m.target.asked() - before;
    // Of the hundreds of operations that it takes no try does all in a row; what was done is not done again.
    let most = of_each_object(&m, 20);
    assert!(asked < most, "{asked} operations, {most} at most");
    m.target.fail(0.0);
    m.snapshot("after").await;
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn once_faults_end_a_reconciliation_ends_after_as_many_operations_as_there_is_to_look_at() {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let mut m = with_many(seed, 0.0).await;
    for round in 0..6 {
        m.target.fail(random.random_range(0.3..1.0));
        m.mirror.resync("a test", false).await.unwrap();
        m.snapshot(&format!("while-it-fails-{round}")).await;
        if random.random_bool(0.3) {
            m.kill().await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        m.target.fail(0.0);
        let before = m.target.asked();
        m.until(State::InSync).await;
        let asked = m.target.asked() - before;
        let most = of_each_object(&m, 8);
        assert!(asked < most, "{asked} operations, {most} at most");
        m.equal().await;
    }
}

#[tokio::test]
async fn a_target_that_is_away_is_asked_for_its_roots_and_for_nothing_else() {
    let mut m = Mirrored::with_one().await;
    let failed = |m: &Mirrored| m.mirror.control.counts.failed.load(Ordering::Relaxed);
    let before = failed(&m);
    m.target.cut(true);
    m.snapshot("two").await;
    // All that was on its way has failed, and the try as a whole has.
    while m.mirror.control.last_trouble().is_none() || failed(&m) == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (begun, since) = (m.target.begun(), failed(&m));
    while failed(&m) < since + 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(m.target.begun(), begun);
    m.target.cut(false);
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn a_transfer_that_fails_or_whose_answer_is_lost_is_tried_again_and_counted() {
    let mut m = Mirrored::new().await;
    m.until(State::InSync).await;
    m.mirror.stop().await;
    let faulty = Arc::new(Faulty::new(Arc::new(m.target.clone())));
    m.mirror = start_from(source(&m.world), Arc::clone(&faulty) as Arc<dyn Store>).await;
    for (operation, fault) in [
        (Operation::Begin, Fault::FailBefore(Error::Busy)),
        (Operation::Write, Fault::FailBefore(Error::Unknown)),
        (Operation::Publish, Fault::FailBefore(Error::Unknown)),
        (Operation::Publish, Fault::FailAfter(Error::Unknown)),
    ] {
        let before = m.row().await;
        faulty.plan(operation, fault.clone());
        m.snapshot(&format!("{operation:?}-{}", before.transferred).to_lowercase())
            .await;
        m.until(State::InSync).await;
        let after = m.row().await;
        assert!(after.failed > before.failed, "{operation:?} {fault:?}");
        assert!(after.transferred > before.transferred);
        m.equal().await;
    }
}

#[tokio::test]
async fn a_source_that_fails_for_a_moment_does_not_stall_the_mirror() {
    let mut m = Mirrored::with_one().await;
    m.mirror.stop().await;
    let mut from = source(&m.world);
    let faulty = Arc::new(Faulty::new(Arc::clone(&from.store)));
    from.store = Arc::clone(&faulty) as Arc<dyn Store>;
    m.mirror = start_from(from, Arc::new(m.target.clone())).await;
    for error in [Error::Busy, Error::Unknown] {
        faulty.plan(Operation::Read, Fault::FailBefore(error));
    }
    m.snapshot("two").await;
    m.never_stalls_until_in_sync().await;
    assert!(m.row().await.failed > 0);
    m.equal().await;
}

#[tokio::test]
async fn a_root_that_is_replaced_while_it_is_read_is_no_foreign_repository() {
    let mut m = Mirrored::with_one().await;
    // Nothing is known any more of the mirror that made what lies on the target.
    m.mirror.stop().await;
    let (state, id) = (Arc::clone(m.world.door.state()), m.world.open.id);
    state.keep_mirrors(id, &[]).await.unwrap();
    let mut from = source(&m.world);
    let faulty = Arc::new(Faulty::new(Arc::clone(&from.store)));
    from.store = Arc::clone(&faulty) as Arc<dyn Store>;
    let gate = Gate::closed();
    faulty.plan(Operation::Read, Fault::Hold(Arc::clone(&gate)));
    m.mirror = start_from(from, Arc::new(m.target.clone())).await;
    gate.reached().await;
    for name in ["two", "three"] {
        m.snapshot(name).await;
    }
    let gone = m.world.at("base/index-0").key;
    let shown = state.object(m.world.open.bucket_id, &gone).await.unwrap();
    assert!(shown.object.is_none(), "the cluster keeps its newest roots");
    std::fs::remove_file(m.world.path("base/index-0")).unwrap();
    gate.open();
    m.never_stalls_until_in_sync().await;
    m.equal().await;
}

impl Mirrored {
    /// What a mirror stalls on stands in its row until the next try, which comes 50 ms later at the soonest.
    async fn never_stalls_until_in_sync(&self) {
        while self.state().await != State::InSync {
            assert_eq!(self.stalled().await, None);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
