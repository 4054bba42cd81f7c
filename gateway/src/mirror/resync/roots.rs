//! The roots of a reconciliation: is the target's ours, what of its roots is not, the newest one and those beside it.
//!
//! Invariants: the newest root comes when all that it needs is there; whatever root goes, `index.latest` names one that
//! is there; a root that the source does not know is never lost: it stops the reconciliation, or is kept aside first.

use std::collections::BTreeMap;

use policies::format::root::Root;
use policies::key::{Class, ObjectKey, RESERVED};
use policies::mirror_order::{Known, Pointer, Put, Stuck};

use super::super::Trouble;
use super::super::applier::Applier;
use super::super::transfer::Landed;
use super::put_of;
use crate::state::Object;
use crate::state::mirrors::{MirrorChange, Phase, Resync};
use crate::stores::own;

const LARGEST_ROOT: usize = 256 << 20;

impl Applier {
    pub(super) async fn newest_root(
        &mut self,
        mut resync: Resync,
        upto: u64,
    ) -> Result<MirrorChange, Trouble> {
        let mut roots = self.source_roots().await?;
        // A newer one came: the one as of `upto` may be gone, or not the newest any more.
        if roots.values().any(|object| object.sequence > upto) {
            resync.phase = Phase::Follow { position: upto };
            return Ok(MirrorChange::Resync(resync));
        }
        let newest = roots.pop_last();
        self.settle_target_roots(&resync, newest.as_ref()).await?;
        if let Some((generation, object)) = newest {
            let put = put_of(&object, Class::Root(generation));
            self.root_unless_known(&put, generation).await?;
            if self.facts.keys.get(&put.key) == Some(&Known::Other) {
                let (key, why) = (put.key, Stuck::OtherRoot);
                return Err(Trouble::Stuck { key, why });
            }
            self.older_roots(&roots).await?;
            let pointer = self.link.source.key("index.latest");
            let bucket = self.link.source.bucket_id;
            let shown = self
                .link
                .source
                .state
                .object(bucket, &pointer)
                .await?
                .object;
            if shown.is_some() && self.facts.pointer != Pointer::Names(generation) {
                self.point(&pointer, generation).await?;
            }
        }
        resync.ours = true;
        resync.phase = Phase::Remove { upto, after: None };
        Ok(MirrorChange::Resync(resync))
    }

    /// One that was confirmed before something else failed is not asked for again.
    async fn root_unless_known(&mut self, put: &Put, generation: u64) -> Result<(), Trouble> {
        if self.facts.keys.get(&put.key) == Some(&Known::Content(put.sequence)) {
            return Ok(());
        }
        self.root(put, generation).await
    }

    /// Roots that the source keeps beside its newest one. Fenced as that one is: a late one would come back after it was
    /// removed.
    async fn older_roots(&mut self, roots: &BTreeMap<u64, Object>) -> Result<(), Trouble> {
        for (generation, object) in roots.iter().rev() {
            let put = put_of(object, Class::Root(*generation));
            match self.root_unless_known(&put, *generation).await {
                Ok(()) if self.facts.keys.get(&put.key) == Some(&Known::Other) => {
                    self.replace_one(&put).await?;
                }
                Ok(()) | Err(Trouble::Superseded | Trouble::Gone) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// Roots on the target that the source does not have: kept aside if that was ordered, else they stop it.
    async fn settle_target_roots(
        &mut self,
        resync: &Resync,
        newest: Option<&(u64, Object)>,
    ) -> Result<(), Trouble> {
        let there = self.link.roots().await?;
        let mut foreign = Vec::new();
        for (generation, key) in there.into_iter().rev() {
            let known = match newest {
                None => false,
                Some((ours, object)) if *ours == generation => {
                    let found = self.link.source.find(&object.key, object.sequence).await?;
                    self.link.compare(&found).await? == Landed::Same
                }
                Some((ours, _)) => generation < *ours,
            };
            if known {
                break;
            }
            foreign.push((generation, key));
        }
        for (generation, key) in foreign {
            if !resync.aside {
                self.control.works_on(Some(&key));
                let why = Stuck::AheadOfSource { newest: generation };
                return Err(Trouble::Stuck { key, why });
            }
            self.check_fence().await?;
            let aside = format!(
                "{RESERVED}kept/{}/divergent-{:020}-index-{generation}",
                self.link.source.name, self.tenure.epoch.0
            );
            let aside = own::key(&aside).map_err(Trouble::target)?;
            let permit = self.link.permit(self.tenure.epoch);
            let moved = self.link.target.set_aside(&permit, &key, &aside).await;
            moved.map_err(Trouble::target)?;
            self.point_below(generation).await?;
            tracing::warn!(repository = %self.link.source.name, store = %self.link.target_name, root = %key, kept = %aside, "a root that the source does not know was kept aside");
            self.remove(vec![key]).await?;
        }
        self.facts.root = self.link.look().await?.root;
        Ok(())
    }

    /// Before a root goes the pointer names the next older one, or goes itself.
    async fn point_below(&mut self, gone: u64) -> Result<(), Trouble> {
        if self.facts.pointer != Pointer::Names(gone) {
            return Ok(());
        }
        let pointer = self.link.source.key("index.latest");
        let there = self.link.roots().await?;
        let older = there.iter().rfind(|(generation, _)| *generation < gone);
        match older.map(|(generation, _)| *generation) {
            Some(generation) => self.point(&pointer, generation).await,
            None => self.remove(vec![pointer]).await,
        }
    }

    /// A target that was not reconciled before may hold another repository: that is never overwritten. Of one that was
    /// nothing is asked, for a mirror that is far behind may share no snapshot with its source any more.
    pub(super) async fn same_repository(&self) -> Result<(), Trouble> {
        let Some((generation, key)) = self.link.roots().await?.pop() else {
            return Ok(());
        };
        let there = read_root(&*self.link.target, generation, &key).await;
        let there = there.map_err(Trouble::target)?;
        let ours = match self.source_roots().await?.pop_last() {
            None => None,
            Some((generation, object)) => {
                let read = read_root(&*self.link.source.store, generation, &object.key).await;
                let read = read.map_err(Trouble::source)?;
                let now = self.source_roots().await?.pop_last();
                if read.is_none() && now.is_none_or(|(newest, _)| newest != generation) {
                    return Err(Trouble::Superseded);
                }
                read
            }
        };
        let same = match (&there, &ours) {
            (Some(there), Some(ours)) => {
                let shared = |uuid: &str| ours.snapshots.iter().any(|s| &*s.uuid == uuid);
                (there.uuid.is_some() && there.uuid == ours.uuid)
                    || there.snapshots.is_empty()
                    || there.snapshots.iter().any(|s| shared(&s.uuid))
            }
            (Some(_) | None, _) => false,
        };
        if same {
            return Ok(());
        }
        Err(Trouble::Fenced(format!(
            "the target holds another repository ('{key}' shares no snapshot with the source); empty it first"
        )))
    }

    async fn source_roots(&self) -> Result<BTreeMap<u64, Object>, Trouble> {
        let mut roots = BTreeMap::new();
        let prefix = format!("{}index-", self.link.source.prefix);
        let mut walk = self.link.source.catalog().beside(prefix);
        while let Some(objects) = walk.page().await? {
            for object in objects {
                if let Some(Class::Root(generation)) = self.link.source.class(&object.key) {
                    roots.insert(generation, object);
                }
            }
        }
        Ok(roots)
    }
}

async fn read_root(
    store: &dyn crate::stores::Store,
    generation: u64,
    key: &ObjectKey,
) -> crate::stores::Result<Option<Root>> {
    use futures::TryStreamExt;
    let Some(mut content) = store.read(key, None, None).await? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = content.bytes.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST_ROOT {
            return Ok(None);
        }
    }
    Ok(Root::parse(generation, &bytes).ok())
}
