//! A repository that only Elasticsearch 2.x wrote: it has no root, its snapshots are those whose description is there.
//!
//! Decides nothing that `policies::guard` does not; it fetches the descriptions, and makes the write of one what the commit of
//! a root is elsewhere. Invariant: as long as no `index-N` is visible, the guard's list is that of the visible descriptions, because
//! they are written with no delete and no other commit in between. A description that cannot be read stands for no
//! snapshot: 2.x itself can neither restore nor list what is in it.

use std::sync::Arc;

use policies::format::closure::{Needs, Observed};
use policies::format::digest;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::format::snapshot::SnapshotInfo;
use policies::guard::{Guard, Scope};
use policies::key::{Class, ObjectKey};
use policies::lock::Permit;

use super::door::{Found, OpenRepository};
use super::guarding::AdmittedRoot;
use super::list::next_page;
use super::write::{Prepared, give_up};
use super::{Address, Caller, Door, Error};
use crate::state::{AnswerKey, Object};
use crate::watch::Kind;

#[cfg(test)]
mod tests;

impl Door {
    /// Makes the guard anew where there is no root: of an empty repository, or of what the descriptions say.
    pub(super) async fn read_listed(
        &self,
        open: &OpenRepository,
        layout: Layout,
    ) -> Result<(), Error> {
        let infos = self.descriptions(open).await?;
        if infos.is_empty() {
            let guard = Guard::new(open.name.clone(), layout, Scope::Complete);
            open.guarding.starts_as(guard);
            return Ok(());
        }
        let list = match Root::of_snapshots(&infos) {
            Ok(list) => Arc::new(list),
            Err(e) => {
                tracing::error!(repository = %open.name, cause = %e, "its list of snapshots cannot be read: no delete is allowed until it can");
                let guard = Guard::new(open.name.clone(), layout, Scope::Observing);
                open.guarding.starts_as(guard);
                return Ok(());
            }
        };
        let knowledge = self.know(open, layout, &list).await?;
        open.guarding
            .starts_as(Guard::adopted(open.name.clone(), knowledge));
        Ok(())
    }

    /// What the visible `snap-<name>.dat` of 2.x say, by name.
    async fn descriptions(&self, open: &OpenRepository) -> Result<Vec<SnapshotInfo>, Error> {
        let base = open.plan.prefix();
        let mut wanted = Vec::new();
        let mut walk = self.walk(open).beside(format!("{base}snap-"));
        while let Some(page) = next_page(&mut walk).await? {
            for object in page {
                let class = object.key.as_str().strip_prefix(&base).map(Class::parse);
                if let Some(class @ Class::SnapshotInfo(_)) = class {
                    wanted.push((object.key, class));
                }
            }
        }
        let mut facts = Observed::default();
        let needs = Needs {
            digests: wanted.clone(),
            ..Needs::default()
        };
        self.fetch(open, needs, &mut facts).await?;
        let described = wanted.iter().filter_map(|(key, class)| {
            let Class::SnapshotInfo(uuid) = class else {
                return None;
            };
            let digest = facts.digests.get(key)?.as_ref().ok()?;
            let info = digest.snapshot_info()?;
            (info.uuid == *uuid && info.stands_for_itself()).then(|| info.clone())
        });
        Ok(described.collect())
    }

    /// Writes a description that commits its snapshot: admitted, committed and made known to the guard while no root, no
    /// other description and no delete gets in between.
    #[expect(clippy::too_many_arguments, reason = "one write, all of it")]
    pub(super) async fn commit_listed(
        &self,
        caller: &Caller,
        found: &Found,
        permit: &Permit,
        to: &Address,
        mut prepared: Prepared,
        current: Option<Object>,
        answer: Option<AnswerKey>,
        digest: digest::Read,
    ) -> Result<(Arc<str>, i64), Error> {
        let open = &found.open;
        let alone = open.guarding.commits.write().await;
        let (size, hash) = (prepared.size, prepared.hash);
        let admitted = match self.follow_alone(open).await {
            Ok(judged) => {
                prepared.judged = judged;
                self.admit_listed(open, permit, found, &to.key, size, &digest)
                    .await
            }
            Err(e) => Err(e),
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(e) => {
                give_up(prepared.upload).await;
                drop(alone);
                self.look_again(open).await;
                return Err(e);
            }
        };
        prepared.listed = admitted.is_some();
        let done = self
            .commit(caller, found, permit, to, prepared, current, answer, None)
            .await;
        match done {
            Ok(_) => {
                self.keep_digest(open, &to.key, hash.to_vec(), hash, Some(&digest));
                if let Some(admitted) = admitted {
                    tracing::info!(repository = %open.name, key = %to.key, cluster = %caller.cluster, request_id = %caller.request_id, "a snapshot without a root was committed");
                    open.guarding.committed(admitted);
                }
                self.write_digests(open);
                open.settled(&to.key);
                let closed = [Kind::RootRefused];
                self.watch.clear_if_open(open.id, &open.name, &closed).await;
            }
            Err(_) => {
                drop(alone);
                self.look_again(open).await;
            }
        }
        done
    }

    /// None: a root was committed meanwhile, and the description waits for one that names it.
    async fn admit_listed(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        found: &Found,
        key: &ObjectKey,
        size: u64,
        digest: &digest::Read,
    ) -> Result<Option<AdmittedRoot>, Error> {
        // What the guard reads of it from now on is what is being written; whoever fails makes the guard anew.
        open.guarding
            .written(key, &found.class, Some(digest.clone()));
        let announced = open.guarding.announced(key, &found.class, Some(digest));
        let Some(candidate) = announced else {
            return Ok(None);
        };
        let mut facts = Observed::default();
        facts.sizes.insert(key.clone(), Some(size));
        facts.digests.insert(key.clone(), digest.clone());
        self.admit(open, permit, &candidate, facts).await.map(Some)
    }
}
