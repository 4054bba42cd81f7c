//! The newest snapshot of a target's newest root, for people.
//!
//! Decides where its time comes from: this database, if it knows that root; else the target's own descriptions of its
//! snapshots, which are small. Nothing depends on it: what cannot be read is not told.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use policies::format::closure::NewestSnapshot;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::key::{Class, ObjectKey};

use super::super::Door;
use super::super::door::OpenRepository;
use super::super::guarding::read_digest;
use super::look::read_whole;
use crate::stores::Store;

const PARALLEL: usize = 16;
const LARGEST: u64 = 16 << 20;

impl Door {
    pub(super) async fn newest_snapshot(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        root: &Root,
    ) -> Option<NewestSnapshot> {
        let point = self.state.restore_point(open.id, root.generation).await;
        let known = point.ok().flatten().filter(|point| {
            let ours = point.root.snapshots.iter().map(|s| &s.uuid);
            ours.eq(root.snapshots.iter().map(|s| &s.uuid))
        });
        if let Some(newest) = known.and_then(|point| point.root.newest) {
            return Some(newest);
        }
        let layout = Layout::new(&open.plan.base_path).ok()?;
        let lacking = root
            .snapshots
            .iter()
            .filter(|s| s.end_time_millis.is_none());
        let lacking: Vec<_> = lacking
            .map(|s| (s.uuid.clone(), layout.snapshot_info(&s.uuid)))
            .collect();
        let asked = lacking
            .into_iter()
            .map(|(uuid, key)| described_end(target, uuid, key));
        let mut answers = stream::iter(asked).buffer_unordered(PARALLEL);
        let mut described = HashMap::new();
        while let Some((uuid, ended)) = answers.next().await {
            described.insert(uuid, ended);
        }
        let ended = root.snapshots.iter().map(|s| {
            let described = described.get(&s.uuid).copied().flatten();
            s.end_time_millis.or(described)
        });
        NewestSnapshot::of(root, ended)
    }
}

async fn described_end(
    target: &dyn Store,
    uuid: Arc<str>,
    key: ObjectKey,
) -> (Arc<str>, Option<i64>) {
    let body = read_whole(target, &key, LARGEST).await.ok().flatten();
    let class = Class::SnapshotInfo(uuid.clone());
    let digest = read_digest(&class, body.unwrap_or_default().into()).await;
    let info = digest.and_then(Result::ok);
    let ended = info.and_then(|digest| digest.snapshot_info()?.end_time);
    (uuid, ended)
}
