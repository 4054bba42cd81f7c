//! The hash-chained audit table.

use policies::lock::Next;
use policies::lock::history::Totals;

use super::*;

/// Two writers, one after the other, and a root of each.
pub async fn two_writers(state: &dyn State) -> World {
    let mut world = World::vacant(state, "logs").await;
    for (epoch, holder) in [(0, "prod"), (1, "other")] {
        let next = Next::Hold(Cluster::new(holder));
        if let Lock::Held { epoch, holder } = world.row.lock.lock.clone() {
            let next = next.clone();
            let draining = Lock::Draining {
                epoch,
                holder,
                next,
            };
            world.move_to(state, draining).await.unwrap();
        }
        let fenced = Lock::Fenced {
            epoch: Epoch(epoch),
            next,
            handover: Handover::new(format!("h-{epoch}")),
        };
        world.move_to(state, fenced).await.unwrap();
        world.hold(state, epoch + 1, holder).await;
        world.cluster = Cluster::new(holder);
        world.commit_root(state, epoch + 5).await;
    }
    world
}

pub async fn the_history_of_writers_is_replayed_from_its_records(state: &dyn State) {
    assert_eq!(state.replay_audit().await.unwrap(), Ok(Totals::default()));
    two_writers(state).await;
    World::vacant(state, "never written").await;
    let totals = Totals {
        moves: 5,
        roots: 2,
        epochs: 2,
    };
    assert_eq!(state.replay_audit().await.unwrap(), Ok(totals));
    assert_eq!(state.verify_audit().await.unwrap(), None);
}

pub async fn a_grant_while_another_holds_is_told_from_its_records(state: &dyn State) {
    let mut world = two_writers(state).await;
    world.hold(state, 3, "prod").await;
    let violation = state.replay_audit().await.unwrap().unwrap_err();
    assert_eq!(
        violation.to_string(),
        "Audit record 8 of repository 'logs': the lock is given to 'prod' while 'other' holds it"
    );
}

pub async fn the_audit_chain_links_each_record_to_the_one_before(state: &dyn State) {
    let mut world = World::vacant(state, "logs").await;
    world.hold(state, 1, "prod").await;
    let mut bare = entry("freeze");
    (bare.repository, bare.epoch) = (None, None);
    state.append_audit(bare.clone()).await.unwrap();
    state.append_audit(entry("thaw")).await.unwrap();
    let newest_first = state.audit(None, 10).await.unwrap();
    let told: Vec<_> = newest_first
        .iter()
        .map(|r| (r.sequence, r.entry.action.as_str()))
        .collect();
    assert_eq!(told, [(3, "thaw"), (2, "freeze"), (1, "lock")]);
    assert_eq!(newest_first[1].entry, bare);
    for pair in newest_first.windows(2) {
        assert_eq!(pair[0].previous, pair[1].hash);
    }
    assert_eq!(newest_first[2].previous, "0".repeat(64));
    let older = state.audit(Some(3), 1).await.unwrap();
    assert_eq!(older, newest_first[1..2]);
    assert_eq!(state.verify_audit().await.unwrap(), None);
}

pub async fn a_lock_that_does_not_move_leaves_no_record(state: &dyn State) {
    let mut world = World::vacant(state, "logs").await;
    world.row.lock.version += 1;
    let refused = world.move_to(state, Lock::Vacant { epoch: Epoch(0) }).await;
    assert!(
        matches!(refused, Err(WriteError::LockMoved(_))),
        "{refused:?}"
    );
    assert_eq!(state.audit(None, 10).await.unwrap(), []);
}
