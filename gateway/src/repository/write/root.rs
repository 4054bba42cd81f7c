//! How a root is committed: alone, admitted by the guard, and only while no other gateway works on the store.

use std::sync::Arc;

use policies::lock::{Freeze, Permit};

use super::{Prepared, epoch_of, give_up};
use crate::repository::door::{Found, OpenRepository};
use crate::repository::ingest::store_failed;
use crate::repository::{Address, Caller, Door, Error, incarnation};
use crate::state::AnswerKey;
use crate::watch::{Event, Kind};

impl Door {
    /// A root is admitted, committed and made known to the guard while no other root and no delete gets in between.
    #[expect(clippy::too_many_arguments, reason = "one write, all of it")]
    pub(super) async fn commit_root(
        &self,
        caller: &Caller,
        found: &Found,
        permit: &Permit,
        to: &Address,
        mut prepared: Prepared,
        generation: u64,
        answer: Option<AnswerKey>,
    ) -> Result<(Arc<str>, i64), Error> {
        let open = &found.open;
        let alone = open.guarding.commits.write().await;
        prepared.judged = match self.follow_alone(open).await {
            Ok(judged) => judged,
            Err(e) => {
                give_up(prepared.upload).await;
                return Err(e);
            }
        };
        let body = prepared.captured.take();
        let admitted = match &body {
            Some(body) => self.admit_root(open, permit, generation, body).await,
            None => Err(Error::SlowDown("The gateway restarted while this root was uploaded, or the root is too large; try again.".into())),
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(e) => {
                give_up(prepared.upload).await;
                return Err(e);
            }
        };
        prepared.root = Some(admitted.restore_point(Some(&caller.cluster), epoch_of(permit)));
        let done = match self
            .commit(
                caller,
                found,
                permit,
                to,
                prepared,
                None,
                answer,
                admitted.bind.clone(),
            )
            .await
        {
            Ok(done) => done,
            Err(e) => {
                drop(alone);
                self.look_again(open).await;
                return Err(e);
            }
        };
        tracing::info!(repository = %open.name, generation, cluster = %caller.cluster, request_id = %caller.request_id, "a root was committed");
        self.watch.tell(Event::RootCommitted {
            repository: open.name.clone(),
            generation,
            cluster: caller.cluster.to_string(),
            snapshots: admitted.snapshots(),
        });
        open.guarding.committed(admitted);
        self.write_digests(open);
        let closed = [Kind::RootRefused];
        self.watch.clear_if_open(open.id, &open.name, &closed).await;
        Ok(done)
    }

    /// A root's commit failed, and whether it took effect was resolved meanwhile: the guard reads what is there now.
    pub(in crate::repository) async fn look_again(&self, open: &OpenRepository) {
        if let Err(e) = self.load_guard(open).await {
            tracing::error!(repository = %open.name, cause = %e, "after a failed commit the repository cannot be read");
            open.gate.doubt(Freeze::StoreUnreachable);
        }
    }

    /// Before snapshots are committed: no other gateway has started on this repository's store since this one did; else
    /// it freezes.
    pub(super) async fn alone_on_store(&self, open: &OpenRepository) -> Result<(), Error> {
        let Some(ours) = *open.incarnation.lock() else {
            return Err(Error::SlowDown(format!(
                "Repository '{}' has no number in its store: another gateway could not be noticed; try again.",
                open.name
            )));
        };
        let standing = incarnation::standing(
            self.state.as_ref(),
            &open.plan.store,
            open.store.as_ref(),
            ours,
        )
        .await;
        if let Some(now) = standing.map_err(|e| store_failed("look for another gateway", &e))? {
            open.stand_as(now);
            return Ok(());
        }
        self.doubt(open, Freeze::OtherGateway).await;
        Err(Error::SlowDown(format!(
            "Repository '{}' is frozen: another gateway works on its store.",
            open.name
        )))
    }
}
