//! After the faults: whatever happened before, one gateway works again within a minute, for the holder alone.

use std::sync::Arc;
use std::time::Duration;

use policies::identity::Cluster;
use policies::lock::Lock;

use super::actors;
use super::history::{Asked, Event, Told};
use super::node::{BASE, Node};
use super::world::World;
use crate::repository::handover::Ask;

/// In a healed world a hand-over ends within this.
const HEALED: Duration = Duration::from_secs(60);

/// Faults are over: one gateway stays, and everything works again within a minute.
pub async fn healed(world: &World) {
    let lineage = world.keep_newest();
    world.kill(lineage);
    let Some(node) = world.start(lineage, None).await else {
        return world
            .history
            .add(Event::Broken("W21: no gateway starts".into()));
    };
    let began = tokio::time::Instant::now();
    // what another gateway wrote in its last seconds is not in this one's catalog
    let mut recover = world.had_others();
    loop {
        let ask = match node.lock() {
            Lock::Held { holder, .. } if holder == Cluster::new("p") && !recover => break,
            Lock::Frozen { .. } if recover => {
                recover = false;
                Ask::Thaw { recover: true }
            }
            Lock::Frozen { reason, .. } => actors::remedy(&reason),
            Lock::Vacant { .. } | Lock::Held { .. } if recover => Ask::Freeze,
            Lock::Vacant { .. }
            | Lock::Held { .. }
            | Lock::Draining { .. }
            | Lock::Fenced { .. } => Ask::Lock {
                writer: Cluster::new("p"),
                force: false,
                wait_mirror: None,
            },
        };
        drop(node.operate(ask).await);
        if began.elapsed() > HEALED {
            let why = format!(
                "W21: a minute after the faults the lock is {:?}",
                node.lock()
            );
            return world.history.add(Event::Broken(why));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    works(world, &node).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.rest(&node);
}

/// The holder commits a root, the other is refused, both read it.
async fn works(world: &World, node: &Arc<Node>) {
    let key = format!("{BASE}index-{}", world.newest_root() + 1);
    let content = actors::root("p", 1 << 40);
    let put = Asked::Put {
        key: key.clone(),
        content: content.clone(),
    };
    ask(world, node, "p", put, &Told::Ok).await;
    ask(
        world,
        node,
        "q",
        Asked::Get { key: key.clone() },
        &Told::Content(Some(content)),
    )
    .await;
    let other = Asked::Put {
        key: format!("{BASE}index-{}", world.newest_root() + 1),
        content: actors::root("q", 1 << 41),
    };
    let refused = node.ask("q", "last", &other).await;
    if !matches!(&refused, Told::Refused(why) if why.contains("locked by writer 'p'")) {
        world.history.add(Event::Broken(format!(
            "W3: the other cluster reads {refused:?}"
        )));
    }
}

async fn ask(world: &World, node: &Arc<Node>, cluster: &'static str, asked: Asked, wanted: &Told) {
    let operation = world.next_operation();
    world.history.add(Event::Asked {
        operation,
        cluster,
        life: node.life,
        asked: asked.clone(),
    });
    let told = node.ask(cluster, "works", &asked).await;
    if told != *wanted {
        let what = format!("W21: in a healed world {asked:?} is answered {told:?}");
        world.history.add(Event::Broken(what));
    }
    world.history.add(Event::Told { operation, told });
}
