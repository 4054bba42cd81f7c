//! Writes a repository of about so many objects into a directory, as a cluster in miniature would have: something to adopt.
//!
//! `cargo run --release --ignore-rust-version -p policies --features testing --example make_repository -- DIRECTORY OBJECTS`

use std::error::Error;
use std::path::Path;

use policies::format::build::{Cluster, Request, Style, Take};

const SNAPSHOTS: u32 = 20;
const SHARDS: u32 = 5;
const INDICES: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(objects)) = (arguments.next(), arguments.next()) else {
        return Err("say a directory and a number of objects".into());
    };
    let objects: u32 = objects.parse()?;
    let new_files = (objects / SNAPSHOTS / SHARDS / INDICES).max(1);
    let mut cluster = Cluster::new(1, "", Style::default());
    let mut written = 0;
    for snapshot in 0..SNAPSHOTS {
        let names: Vec<String> = (0..INDICES).map(|index| format!("logs-{index}")).collect();
        let takes: Vec<Take<'_>> = names
            .iter()
            .map(|index| Take {
                index,
                shards: SHARDS,
                new_files,
                merged_away: 0,
                failed_shard: None,
            })
            .collect();
        cluster.create(&format!("nightly-{snapshot}"), &takes);
        for request in cluster.requests() {
            match request {
                Request::Put { key, bytes, .. } => {
                    let path = Path::new(&directory).join(key.as_str());
                    if let Some(folder) = path.parent() {
                        std::fs::create_dir_all(folder)?;
                    }
                    std::fs::write(path, bytes)?;
                    written += 1;
                }
                Request::Delete { key, .. } => {
                    std::fs::remove_file(Path::new(&directory).join(key.as_str()))?;
                    written -= 1;
                }
            }
        }
    }
    println!("{written} objects");
    Ok(())
}
