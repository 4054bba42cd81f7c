//! Roots that an adopted repository has beside its newest one.
//!
//! Decides: which of them become restore points, and whether they are complete. Before 7.6 a cluster leaves the root before its
//! newest one, and one that died may leave more. All that lay in the store when it was adopted is kept for the
//! retention as of then, so a root whose closure is there can be gone back to; one whose closure is not is told as
//! incomplete. They share the journal's sequence with the newest, which was noted before them.

use std::cmp::Reverse;
use std::sync::Arc;

use policies::format::root::Root;

use super::super::door::OpenRepository;
use super::super::guarding::LARGEST_ROOT;
use super::super::{Door, Error};

/// The newest of them; a repository with more was left alone for years, and each is read whole.
const MOST: usize = 16;

impl Door {
    /// After the newest root was read.
    pub(in crate::repository) async fn note_older_roots(
        &self,
        open: &OpenRepository,
    ) -> Result<(), Error> {
        let (layout, newest) = open.guarding.with(|guard| {
            let knowledge = guard.knowledge();
            let newest = knowledge.newest().filter(|newest| !newest.root.of_list);
            (
                knowledge.layout().clone(),
                newest.map(|newest| newest.root.generation),
            )
        });
        let mut older = self.roots(open).await?;
        older.retain(|(generation, _)| newest.is_some_and(|newest| *generation < newest));
        older.sort_by_key(|(generation, _)| Reverse(*generation));
        for (generation, object) in older.into_iter().take(MOST) {
            let body = self.body(open, &object.key, LARGEST_ROOT).await?;
            let root = match Root::parse(generation, &body) {
                Ok(root) => Arc::new(root),
                Err(e) => {
                    tracing::warn!(repository = %open.name, key = %object.key, cause = %e, "an older root cannot be read, and is no restore point");
                    continue;
                }
            };
            let closure = self.closure(open, layout.clone(), &root).await?;
            let complete = closure.problems().next().is_none();
            tracing::info!(repository = %open.name, generation, complete, "an older root is a restore point");
            self.note_restore_point(open, &root, &closure, object.modified_ms)
                .await?;
        }
        Ok(())
    }
}
