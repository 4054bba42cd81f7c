//! `check-config`: reads the configuration, opens every store, and says what each can do.

use comfy_table::{Table, presets};

use super::{Failure, Global};
use crate::serve;

pub async fn run(global: &Global) -> Result<(), Failure> {
    let plan = super::plan(global)?;
    let stores = serve::open_stores(&plan)
        .await
        .map_err(|e| Failure::Refused(e.to_string()))?;
    let missing: Vec<_> = plan
        .stores
        .keys()
        .filter(|name| !stores.contains_key(*name))
        .map(ToString::to_string)
        .collect();
    if global.json {
        let found: serde_json::Map<_, _> = stores
            .iter()
            .map(|(name, store)| (name.to_string(), serde_json::json!(store.capabilities())))
            .collect();
        println!(
            "{:#}",
            serde_json::json!({ "stores": found, "unreachable": missing })
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
        for (name, store) in &stores {
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
        println!("{table}");
        println!(
            "{} repositories, {} keys: the configuration is good",
            plan.repositories.len(),
            plan.keys.len()
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "these stores cannot be reached: {}",
        missing.join(", ")
    )))
}
