//! Positions of long work.

use super::*;

pub async fn a_position_is_kept_per_repository_and_work_until_it_is_forgotten(state: &dyn State) {
    let (logs, metrics) = (
        World::vacant(state, "logs").await.row.id,
        World::vacant(state, "metrics").await.row.id,
    );
    assert_eq!(state.position(logs, "adopt").await.unwrap(), None);
    let keep = |id, work, text: &str| state.keep_position(id, work, Some(text.to_owned()));
    keep(logs, "adopt", "a").await.unwrap();
    keep(logs, "verify", "b").await.unwrap();
    keep(metrics, "adopt", "c").await.unwrap();
    keep(logs, "adopt", "d").await.unwrap();
    assert_eq!(
        state.position(logs, "adopt").await.unwrap().as_deref(),
        Some("d")
    );
    state.keep_position(logs, "adopt", None).await.unwrap();
    assert_eq!(state.position(logs, "adopt").await.unwrap(), None);
    assert_eq!(
        state.position(logs, "verify").await.unwrap().as_deref(),
        Some("b")
    );
    assert_eq!(
        state.position(metrics, "adopt").await.unwrap().as_deref(),
        Some("c")
    );
}
