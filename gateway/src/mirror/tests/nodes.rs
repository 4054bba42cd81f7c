//! Two gateways on one PostgreSQL database and one target: one of them applies.

use policies::identity::Epoch;
use policies::mirror_order::Mode;

use super::*;
use crate::mirror::fence::Tenure;
use crate::mirror::{Mirrors, Trouble};
use crate::state::postgres::tests::nodes;
use crate::stores::{self, Plan, Publish};

const PATIENCE: Duration = Duration::from_secs(30);

/// The first node serves the cluster; both have the mirror.
struct Pair {
    one: Mirrored,
    other: World,
    mirror: Arc<Mirror>,
}

impl Pair {
    async fn new() -> Self {
        let [one, other] = World::nodes(nodes().await).await;
        let one = Mirrored::onto(one, Memory::new(1)).await;
        let mirror = start(&other, &one.target).await;
        Self { one, other, mirror }
    }

    fn mirrors(&self) -> [&Arc<Mirror>; 2] {
        [&self.one.mirror, &self.mirror]
    }

    /// The one that applies, when there is one.
    async fn applying(&self) -> (&Arc<Mirror>, Tenure) {
        for _ in 0..3000 {
            for mirror in self.mirrors() {
                if let Some(tenure) = mirror.control.tenure() {
                    return (mirror, tenure);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody applies");
    }

    /// Dies where it is; the other one takes over, and a new process waits for its turn.
    async fn kill_the_applying(&mut self) -> Tenure {
        let (dying, tenure) = self.applying().await;
        if Arc::ptr_eq(dying, &self.one.mirror) {
            self.one.kill().await;
        } else {
            self.mirror.kill().await;
            self.mirror = start(&self.other, &self.one.target).await;
        }
        tenure
    }

    async fn in_sync_on_both(&self) {
        self.one.until(State::InSync).await;
        let [here, there] = self.mirrors().map(|mirror| mirror.status());
        let (here, there) = (here.await.unwrap().unwrap(), there.await.unwrap().unwrap());
        assert_eq!(here.lag, there.lag);
        assert_eq!(here.row.applied, there.row.applied);
        assert_eq!(here.newest, there.newest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_applies_and_the_other_takes_over_whenever_it_dies() {
    let mut pair = Pair::new().await;
    let mut epochs = Vec::new();
    for n in 0..6 {
        pair.one.snapshot(&format!("snapshot-{n}")).await;
        let both = pair.mirrors().map(|mirror| mirror.control.tenure());
        assert!(both.iter().flatten().count() <= 1, "{both:?}");
        // In the midst of its work, mostly.
        epochs.push(pair.kill_the_applying().await.epoch);
    }
    pair.one.delete_snapshot("snapshot-3").await;
    pair.in_sync_on_both().await;
    pair.one.equal().await;
    epochs.push(pair.applying().await.1.epoch);
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    let row = pair.mirror.row().await.unwrap().unwrap();
    assert_eq!(Some(&row.epoch), epochs.last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_relieved_and_does_not_know_changes_nothing() {
    let mut pair = Pair::new().await;
    pair.one.snapshot("one").await;
    pair.in_sync_on_both().await;
    let (paused, before) = pair.applying().await;
    let (paused, target) = (Arc::clone(paused), pair.one.target.clone());
    // It stands still between the beginning of an upload and its publish.
    let link = Arc::clone(&paused.link);
    let pointer = link.source.key("index.latest");
    let plan = Plan {
        size: Some(8),
        fenced: true,
    };
    let permit = link.permit(before.epoch);
    let mut begun = target.begin(&permit, &pointer, plan).await.unwrap();
    begun.write(vec![0; 8].into()).await.unwrap();
    pair.kill_the_applying().await;
    pair.one.snapshot("two").await;
    pair.in_sync_on_both().await;
    let there = target.objects();

    let late = begun.publish(Publish::Replace).await;
    assert!(matches!(late, Err(stores::Error::UploadGone)), "{late:?}");
    // What it begins when it wakes up meets the newer epoch.
    let late = link.overwrite(&before, &pointer, vec![0; 8]).await;
    assert!(matches!(late, Err(Trouble::Relieved)), "{late:?}");
    let fence = link.check_fence(&before).await;
    assert!(matches!(fence, Err(Trouble::Relieved)), "{fence:?}");
    // And what it says is not written down.
    let known = paused.row().await.unwrap();
    let changes = vec![crate::state::mirrors::MirrorChange::Applied(u64::MAX >> 2)];
    let said = crate::mirror::applier::change(&link, Some(before.epoch), changes).await;
    assert_eq!(said.unwrap(), None);
    assert_eq!(paused.row().await.unwrap(), known);
    let base = |objects: Objects| {
        let ours = |key: &ObjectKey| key.as_str().starts_with("base/");
        objects
            .into_iter()
            .filter(|(key, _)| ours(key))
            .collect::<Vec<_>>()
    };
    assert_eq!(base(target.objects()), base(there));
    pair.one.equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_reaches_the_applier_through_any_node() {
    let mut pair = Pair::new().await;
    pair.one.snapshot("one").await;
    pair.in_sync_on_both().await;
    let (applying, _) = pair.applying().await;
    let applying = Arc::clone(applying);
    let [one, two] = pair.mirrors().map(Arc::clone);
    let elsewhere = if Arc::ptr_eq(&applying, &one) {
        two
    } else {
        one
    };
    elsewhere.pause().await.unwrap();
    while applying.control.tenure().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    pair.one.snapshot("two").await;
    for mirror in [&applying, &elsewhere] {
        let status = mirror.status().await.unwrap().unwrap();
        assert_eq!(
            (status.state, status.lag.restore_points),
            (State::Paused, 1)
        );
    }
    elsewhere.resume().await.unwrap();
    pair.in_sync_on_both().await;
    elsewhere
        .resync("an operator asked for it", false)
        .await
        .unwrap();
    let status = applying.status().await.unwrap().unwrap();
    assert!(
        status.state == State::Resync && status.lag.operations > 0,
        "{status:?}"
    );
    pair.in_sync_on_both().await;
    assert!(
        elsewhere
            .verify(true, &|_, _| {})
            .await
            .unwrap()
            .problems
            .is_empty()
    );
    pair.one.equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_on_one_node_waits_for_the_applier_on_the_other() {
    let mut pair = Pair::new().await;
    pair.one.snapshot("one").await;
    pair.in_sync_on_both().await;
    // The cluster writes through the first node, the second one applies.
    while Arc::ptr_eq(pair.applying().await.0, &pair.one.mirror) {
        pair.kill_the_applying().await;
    }
    let witness = Mirrors::default();
    witness.add(Arc::clone(&pair.one.mirror));
    pair.one.mirror.link.plan.write().mode = Mode::Barrier;
    pair.one.world.door.await_witness(Arc::new(witness));
    pair.one.snapshot("two").await;
    let status = pair.one.mirror.status().await.unwrap().unwrap();
    assert_eq!(
        status.lag.restore_points, 0,
        "acknowledged means that the mirror has it"
    );
    assert_eq!(newest(&pair.one.target.objects(), "base"), Some(1));

    pair.one.target.cut(true);
    let (root, after) = super::barrier::up_to_the_root(&mut pair.one, "three").await;
    {
        let mut waiting = std::pin::pin!(pair.one.world.send(root));
        tokio::select! {
            answered = &mut waiting => panic!("{answered:?}"),
            () = super::barrier::committed(&pair.one) => {}
        }
        pair.one.target.cut(false);
        let answered = tokio::time::timeout(PATIENCE, waiting).await;
        answered.unwrap().unwrap();
    }
    assert_eq!(newest(&pair.one.target.objects(), "base"), Some(2));
    for request in after {
        pair.one.send(request).await;
    }
    pair.in_sync_on_both().await;
    pair.one.equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_mints_an_epoch_and_one_that_kept_its_own_goes_on_with_it() {
    let mut pair = Pair::new().await;
    pair.one.snapshot("one").await;
    pair.in_sync_on_both().await;
    let (applying, first) = pair.applying().await;
    applying.control.tell();
    pair.one.snapshot("two").await;
    pair.in_sync_on_both().await;
    assert_eq!(pair.applying().await.1, first, "nobody applied in between");
    pair.kill_the_applying().await;
    let (_, second) = pair.applying().await;
    assert!(second.epoch > first.epoch && first.epoch > Epoch(0));
}
