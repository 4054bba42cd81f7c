//! The hash-chained audit table.

use super::*;

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
