//! An operator who brings back what was, in a process that may die while it works.

use tokio::runtime::Runtime;

use super::super::Ask;
use super::model::Model;
use crate::repository::miniature::cut;

/// Asks for it on a frozen repository, cut off if it is to be; then the cluster registers again.
pub fn bring_back(runtime: &mut Runtime, model: &mut Model, ask: &Ask, polls: Option<usize>) {
    let Some(before) = model.life.newest() else {
        return;
    };
    runtime.block_on(model.life.freeze());
    let mut made = None;
    if let Some(polls) = polls {
        let done = runtime.block_on(cut(polls, model.life.bring_back(ask)));
        dies(runtime);
        runtime.block_on(model.life.restart());
        let world = model.life.world();
        let newest = runtime.block_on(world.door.newest_root(&world.open));
        let newest = newest.unwrap().map(|(generation, _)| generation);
        made = newest.filter(|newest| *newest != before);
        assert!(
            made.is_some() || !matches!(done, Some(Ok(_))),
            "what was told is there"
        );
        if made.is_none() {
            runtime.block_on(model.life.check());
        }
    }
    let made = match made {
        Some(generation) => Ok(generation),
        None => runtime.block_on(model.life.bring_back(ask)),
    };
    match made {
        Ok(generation) => runtime.block_on(brought_back(model, ask, before, generation)),
        Err(e) => assert!(may_refuse(model, ask, &e.to_string()), "{ask:?}: {e}"),
    }
    runtime.block_on(model.life.thaw());
}

async fn brought_back(model: &mut Model, ask: &Ask, before: u64, generation: u64) {
    let (life, seed) = (&mut model.life, generation.wrapping_mul(0x9E37_79B9));
    match ask {
        Ask::Rollback(to) => {
            let cluster = life.points[to].cluster.clone();
            life.brought_back(generation, cluster, seed).await;
            life.check_same_as(*to, generation);
        }
        Ask::Undelete(name) => {
            let donors = life.points.iter().rev().filter(|(_, then)| {
                let names = then.names();
                names.contains(name)
            });
            let held = donors.map(|(donor, _)| *donor);
            let donor = held.clone().find(|donor| life.is_held(*donor));
            let donor = donor.or(held.clone().next()).expect("some root held it");
            let mut cluster = life.cluster().clone();
            cluster.regain(&life.points[&donor].cluster, name);
            life.brought_back(generation, cluster, seed).await;
            life.check_undeleted(name, donor, before, generation);
        }
    }
}

/// Whether what an operator asked for may be refused with these words.
fn may_refuse(model: &mut Model, ask: &Ask, told: &str) -> bool {
    let newest = model.life.newest().expect("there is a root");
    match ask {
        Ask::Rollback(to) => {
            let names = model.life.points[to].names();
            told.contains("pin") && !model.life.pinned.is_subset(&names)
        }
        Ask::Undelete(name) => {
            let donors = model.life.points.iter().rev();
            let donor = donors.map(|(_, then)| then).find(|then| {
                let names = then.names();
                names.contains(name)
            });
            let (donor, newest) = (
                donor.expect("some root held it"),
                &model.life.points[&newest],
            );
            let anew = donor.root.indices.iter().any(|then| {
                let now = &newest.root.indices;
                now.iter()
                    .any(|now| now.name == then.name && now.id != then.id)
            });
            let form = donor.root.is_legacy_form() != newest.root.is_legacy_form();
            (anew && told.contains("written anew into another directory"))
                || (form && told.contains("changed its form"))
                || (donor.root.is_legacy_form() && told.contains("both contents are needed"))
        }
    }
}

/// What is left of a process that died: what it handed to other threads ends, nothing else does.
pub fn dies(runtime: &mut Runtime) {
    *runtime = new_runtime();
}

pub fn new_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
