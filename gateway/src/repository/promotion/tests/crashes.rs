//! A promotion whose process dies on its way.
//!
//! Every step that leaves something else behind has a name, and each is met: the store holds the promotion at the
//! operation that comes after it. What lies between them is cut after every number of polls.

use super::*;
use crate::repository::miniature;

/// What a crash left behind, as the database and the target have it, in the order in which a promotion comes there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    Nothing,
    Begun,
    AnchorCreated,
    AnchorNoted,
    NumberTaken,
    CatalogMade,
    Moved,
}

impl Left {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Begun,
        Self::AnchorCreated,
        Self::AnchorNoted,
        Self::NumberTaken,
        Self::CatalogMade,
        Self::Moved,
    ];

    /// From the anchor on it is carried through.
    fn is_taken_back(self) -> bool {
        match self {
            Self::Nothing | Self::Begun => true,
            Self::AnchorCreated
            | Self::AnchorNoted
            | Self::NumberTaken
            | Self::CatalogMade
            | Self::Moved => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    After(Left),
    /// After so many polls.
    Polls(usize),
}

/// `s1` is mirrored, `s2` is not and will not be.
struct Behind {
    gateway: Gateway,
    us: Arc<Faulty<dyn Store>>,
    all: BTreeMap<String, (String, bool, String)>,
    mirrored: BTreeMap<String, (String, bool, String)>,
}

async fn behind(disks: &Disks) -> Behind {
    let (eu, us) = (disks.store("eu").await, disks.store("us").await);
    let us: Arc<Faulty<dyn Store>> = Arc::new(Faulty::new(us));
    let stores: [(&str, Arc<dyn Store>); 2] = [("eu", eu), ("us", us.clone())];
    let gateway = disks.gateway_with("a", "eu", stores).await;
    let mut writer = s1_mirrored(&gateway, disks).await;
    let mirrored = gateway.contents().await;
    writer.create("s2", &[take()]);
    gateway.perform("a", writer.requests()).await;
    gateway.pause().await;
    let all = gateway.contents().await;
    Behind {
        gateway,
        us,
        all,
        mirrored,
    }
}

impl Behind {
    /// True = the promotion was done before it could be cut.
    async fn promote_until(&self, cut: Cut) -> bool {
        match cut {
            Cut::After(Left::CatalogMade) => {
                self.held(Left::NumberTaken).await;
                let (door, open) = (&self.gateway.door, self.gateway.open());
                let promotion = door.pending(&open).await.unwrap().unwrap();
                door.make_catalog(&open, self.us.as_ref(), &promotion)
                    .await
                    .unwrap();
                false
            }
            Cut::After(left) => {
                self.held(left).await;
                false
            }
            Cut::Polls(polls) => {
                let open = self.gateway.open();
                let promoting = self.gateway.door.promote(&open, ask("us", "b"), &ByHand);
                miniature::cut(polls, promoting).await.is_some()
            }
        }
    }

    /// Runs the promotion up to the operation on the target that comes after this step. The target is published to
    /// three times: the anchor, this process's number, and numbers for the journal.
    async fn held(&self, left: Left) {
        let gate = Gate::closed();
        let (before, hold) = match left {
            Left::Nothing => {
                self.us.plan(Operation::List, Fault::Hold(gate.clone()));
                return self.reaches(&gate).await;
            }
            Left::Begun => (0, Fault::Hold(gate.clone())),
            Left::AnchorCreated => (0, Fault::HoldAfter(gate.clone())),
            Left::AnchorNoted => (1, Fault::Hold(gate.clone())),
            Left::NumberTaken | Left::CatalogMade => (1, Fault::HoldAfter(gate.clone())),
            Left::Moved => (2, Fault::Hold(gate.clone())),
        };
        for _ in 0..before {
            self.us
                .plan(Operation::Publish, Fault::Delay(Duration::ZERO));
        }
        self.us.plan(Operation::Publish, hold);
        self.reaches(&gate).await;
    }

    async fn reaches(&self, gate: &Gate) {
        let open = self.gateway.open();
        tokio::select! {
            done = self.gateway.door.promote(&open, ask("us", "b"), &ByHand) => panic!("{done:?}"),
            () = gate.reached() => {}
        }
    }
}

/// Looks before anything starts again.
async fn left(disks: &Disks, id: RepositoryId, bucket: BucketId) -> Left {
    let state: Arc<dyn State> = Arc::new(Database::open(&disks.path("a.db")).unwrap());
    if state.lock(id).await.unwrap().store == StoreName::new("us") {
        return Left::Moved;
    }
    let Some(promotion) = state.promotion(id).await.unwrap() else {
        return Left::Nothing;
    };
    let us = disks.store("us").await;
    if promotion.step == PromotionStep::Planned {
        let anchor = highest(&Repository::new("prod"), us.as_ref())
            .await
            .unwrap();
        let ours = anchor.is_some_and(|anchor| anchor.handover == promotion.handover);
        return if ours {
            Left::AnchorCreated
        } else {
            Left::Begun
        };
    }
    let numbers = us.list(".snapgate/incarnation-", None, 1).await.unwrap();
    let Basis::Catalog { sequence } = promotion.basis else {
        panic!("{promotion:?}");
    };
    let beyond = state.newer_than(bucket, id, sequence).await.unwrap();
    match (numbers.is_empty(), beyond) {
        (true, _) => Left::AnchorNoted,
        (false, (0, 0)) => Left::CatalogMade,
        (false, _) => Left::NumberTaken,
    }
}

/// True = the promotion was done before it could be cut.
async fn a_crash_leaves_nothing_half_done(cut: Cut) -> bool {
    let disks = Disks::new();
    let behind = behind(&disks).await;
    let done = behind.promote_until(cut).await;
    let Behind {
        gateway,
        us,
        all,
        mirrored,
    } = behind;
    let (id, bucket) = (gateway.open().id, gateway.open().bucket_id);
    gateway.gone().await;
    drop(us);
    let left = left(&disks, id, bucket).await;
    let again = disks.gateway("a", "eu").await;
    let taken_back = held_by(&again.lock(), "a");
    match cut {
        Cut::After(step) => {
            assert_eq!(left, step);
            assert_eq!(taken_back, step.is_taken_back(), "{step:?}");
        }
        // An anchor that was on its way may have come since it was looked for.
        Cut::Polls(_) if left == Left::Begun => {}
        Cut::Polls(_) => assert_eq!(taken_back, left.is_taken_back(), "{cut:?}: {left:?}"),
    }
    if taken_back {
        assert_eq!(again.contents().await, all, "{cut:?}");
        again.promote("us", "b").await.unwrap();
    }
    assert!(
        held_by(&again.lock(), "b"),
        "{cut:?}: {left:?}, {:?}",
        again.lock()
    );
    assert_eq!(again.contents().await, mirrored, "{cut:?}");
    assert_eq!(again.state.promotion(id).await.unwrap(), None);
    assert_eq!(again.state.verify_audit().await.unwrap(), None);
    let replayed = again.state.replay_audit().await.unwrap();
    assert!(replayed.is_ok(), "{cut:?}: {replayed:?}");
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_is_carried_through_or_taken_back() {
    for step in Left::ALL {
        a_crash_leaves_nothing_half_done(Cut::After(step)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_polls_is_carried_through_or_taken_back() {
    for polls in 1.. {
        if a_crash_leaves_nothing_half_done(Cut::Polls(polls)).await {
            break;
        }
    }
}
