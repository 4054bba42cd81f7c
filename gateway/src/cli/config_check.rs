//! `check-config`: reads the configuration, opens every store, and says what each can do.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use comfy_table::{Table, presets};
use policies::identity::StoreName;

use super::{Failure, Global};
use crate::repository::promotion;
use crate::serve;
use crate::stores::{self, Store};

pub async fn run(global: &Global) -> Result<(), Failure> {
    let plan = super::plan(global)?;
    let serve::Stores { open: stores, away } = serve::open_stores(&plan)
        .await
        .map_err(|e| Failure::Refused(e.to_string()))?;
    let moved = moved(&plan, &stores).await;
    if global.json {
        let found: serde_json::Map<_, _> = stores
            .iter()
            .map(|(name, store)| (name.to_string(), serde_json::json!(store.capabilities())))
            .collect();
        say!(
            "{:#}",
            serde_json::json!({ "stores": found, "unreachable": told(&away), "promoted": moved })
        );
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "STORE",
            "KIND",
            "CREATE-ONLY",
            "COMPARE-AND-SET",
            "ABORT BEATS COMPLETE",
            "CHECKSUMS",
        ]);
        for (name, store) in &stores.iter().collect::<BTreeMap<_, _>>() {
            let can = store.capabilities();
            let yes = |can: bool| if can { "yes" } else { "no" };
            table.add_row([
                name.as_str(),
                can.kind,
                yes(can.create_only),
                yes(can.compare_and_set),
                yes(can.abort_beats_complete),
                yes(can.checksums),
            ]);
        }
        say!("{table}");
        for (repository, primary) in &moved {
            say!(
                "repository {repository}: {}; its primary is there, whatever the configuration names",
                primary["found"].as_str().unwrap_or_default()
            );
        }
        say!(
            "{} repositories, {} keys: the configuration is good",
            plan.repositories.len(),
            plan.keys.len()
        );
    }
    if away.is_empty() {
        return Ok(());
    }
    let causes: Vec<_> = away
        .iter()
        .map(|(name, e)| format!("{name} ({e})"))
        .collect();
    Err(Failure::Refused(format!(
        "these stores cannot be used now: {}",
        causes.join(", ")
    )))
}

/// Store -> why it cannot be used now.
fn told(away: &BTreeMap<StoreName, stores::Error>) -> BTreeMap<&str, String> {
    away.iter()
        .map(|(name, e)| (name.as_str(), e.to_string()))
        .collect()
}

/// Repositories whose highest epoch is in another store than the configuration names: they were promoted.
async fn moved(
    plan: &crate::config::Plan,
    stores: &HashMap<StoreName, Arc<dyn Store>>,
) -> serde_json::Map<String, serde_json::Value> {
    let mut moved = serde_json::Map::new();
    for (name, repository) in &plan.repositories {
        let all = stores.iter().map(|(name, store)| (name, store.as_ref()));
        let writers = promotion::writers_in(name, all).await;
        let newest = writers.iter().max_by_key(|(_, anchor)| anchor.epoch);
        let Some((store, anchor)) = newest.filter(|(store, _)| **store != repository.store) else {
            continue;
        };
        let holder = anchor.holder.as_ref().map_or("a recovery", |h| h.as_str());
        moved.insert(
            name.to_string(),
            serde_json::json!({
                "store": store.as_str(),
                "epoch": anchor.epoch.0,
                "found": format!("store '{store}' has its highest epoch ({} of '{holder}')", anchor.epoch),
            }),
        );
    }
    moved
}
