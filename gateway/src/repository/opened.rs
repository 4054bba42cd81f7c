//! For tests: repositories opened as a start opens them, whatever their stores and their state database are.

use std::sync::Arc;
use std::time::Duration;

use policies::identity::{Bucket, Cluster, Repository, StoreName};
use policies::key::Layout;
use policies::lock::Mode;

use super::plan::{Readers, RepositoryPlan};
use super::{Door, OpenRepository};
use crate::state::State;
use crate::stores::Store;

/// In bucket `backups` below `base`, written by these clusters and read by everyone; what is deleted is kept for an hour.
pub fn plan<const N: usize>(writers: [&str; N]) -> RepositoryPlan {
    RepositoryPlan {
        bucket: Bucket::new("backups"),
        base_path: "base".into(),
        store: StoreName::new("local"),
        writers: writers.map(Cluster::new).into(),
        readers: Readers::Everyone,
        mode: Mode::Auto,
        retention: Duration::from_secs(3600),
        uploads_end_after: None,
    }
}

/// A door to these repositories; what a start settles before it listens is not settled yet.
pub async fn door<const N: usize>(
    state: Arc<dyn State>,
    repositories: [(&str, RepositoryPlan, Arc<dyn Store>); N],
) -> Arc<Door> {
    let mut places = Vec::new();
    let mut opened = Vec::new();
    for (name, plan, store) in repositories {
        let name = Repository::new(name);
        let row = state.open_repository(&plan.identity(&name)).await.unwrap();
        places.push(plan.place(&name));
        let keeps_time = opened.is_empty();
        opened.push(Arc::new(OpenRepository::new(
            name, &row, plan, store, keeps_time,
        )));
    }
    let layout = Layout::new(places).unwrap();
    Arc::new(Door::new(layout, state, opened))
}

/// A door to one repository, and that repository.
pub async fn one(
    state: Arc<dyn State>,
    name: &str,
    plan: RepositoryPlan,
    store: Arc<dyn Store>,
) -> (Arc<Door>, Arc<OpenRepository>) {
    let door = door(state, [(name, plan, store)]).await;
    let open = door.repository(&Repository::new(name)).unwrap();
    (door, open)
}
