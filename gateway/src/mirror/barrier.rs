//! `barrier` mode: a root is acknowledged when the target has it.

use std::time::Duration;

use async_trait::async_trait;
use policies::identity::Repository;
use policies::mirror_order::Mode;

use super::Mirrors;
use crate::repository::witness::Witness;

/// How long an answer is held: less than the shortest read timeout of the clients (50 s).
const PATIENCE: Duration = Duration::from_secs(40);

#[async_trait]
impl Witness for Mirrors {
    async fn has(&self, repository: &Repository, sequence: u64) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for mirror in self.of(repository) {
            if mirror.link.plan.read().mode != Mode::Barrier {
                continue;
            }
            // Paused by an operator who said that commits are to go on without it.
            if matches!(mirror.row().await, Ok(Some(row)) if row.paused) {
                continue;
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if !mirror.has(sequence, left).await {
                let store = &mirror.link.target_name;
                return Err(format!(
                    "mirror '{store}' of repository '{repository}' is a barrier and does not have it. Repeat the request, or ask an operator for: snapgate mirror pause {repository} {store} --degrade"
                ));
            }
        }
        Ok(())
    }
}
