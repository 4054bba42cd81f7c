//! A snapshot is put back into a newer root, or the reason why not is told.

#![allow(clippy::unwrap_used, reason = "a test")]

use policies::format::merge::{self, Conflict};
use policies::format::root::Root;

/// A root with one snapshot of one index.
fn root(snapshot: &str, index: &str, directory: &str) -> String {
    format!(
        r#"{{"snapshots":[{{"name":"{snapshot}","uuid":"{snapshot}","state":1}}],"indices":{{"{index}":{{"id":"{directory}","snapshots":["{snapshot}"]}}}}}}"#
    )
}

fn put_back(newest: &str, donor: &str) -> Result<Vec<u8>, Conflict> {
    let of = |json: &str| Root::parse(1, json.as_bytes()).unwrap();
    merge::parts(&of(newest), &of(donor), "old")?;
    merge::root(
        newest.as_bytes(),
        donor.as_bytes(),
        "old",
        &Default::default(),
    )
}

#[test]
fn a_snapshot_of_an_index_that_is_still_there_is_put_back() {
    let merged = put_back(&root("new", "logs", "X"), &root("old", "logs", "X")).unwrap();
    let merged = Root::parse(2, &merged).unwrap();
    assert_eq!(merged.snapshots.len(), 2);
    assert_eq!(merged.indices[0].snapshots, [0, 1]);
}

/// Found by `fuzz::merged_roots`: the merged root listed one directory twice, which no cluster reads.
#[test]
fn one_name_and_one_directory_belong_together_in_both_roots() {
    for (index, directory) in [("logs", "Y"), ("metrics", "X")] {
        assert_eq!(
            put_back(&root("new", "logs", "X"), &root("old", index, directory)),
            Err(Conflict::IndexAnew(index.into())),
        );
    }
}
