//! An epoch is minted once: its anchor says for whom, and the anchors of a store form one chain.
#![allow(clippy::unwrap_used)] // a test that fails may panic

use policies::identity::{Cluster, Epoch, Handover, Repository};
use policies::lock::anchor::{self, Anchor, BrokenChain, Stored, verify_chain};

fn prod() -> Repository {
    Repository::new("prod")
}

/// Anchors of epochs 1.. for these holders (None = a recovery), each with its name and bytes.
fn chain(holders: &[Option<&str>]) -> Vec<(String, Vec<u8>)> {
    let mut made: Vec<(String, Vec<u8>)> = vec![];
    for (holder, epoch) in holders.iter().zip(1..) {
        let anchor = Anchor {
            repository: prod(),
            epoch: Epoch(epoch),
            holder: holder.map(Cluster::new),
            handover: Handover::new(format!("h{epoch}")),
            previous: made.last().map(|(_, bytes)| anchor::hash(bytes)),
        };
        made.push((anchor::name(&prod(), Epoch(epoch)), anchor::encode(&anchor)));
    }
    made
}

fn verify(made: &[(String, Vec<u8>)]) -> Result<Option<Anchor>, BrokenChain> {
    verify_chain(
        &prod(),
        made.iter().map(|(name, bytes)| Stored { name, bytes }),
    )
}

#[test]
fn an_anchor_is_text_that_a_person_can_read() {
    let made = chain(&[Some("prod-eu"), Some("dr-us")]);
    let text: String = made
        .iter()
        .map(|(name, bytes)| format!("{name}\n{}", std::str::from_utf8(bytes).unwrap()))
        .collect();
    insta::assert_snapshot!(text);
}

#[test]
fn the_highest_anchor_of_a_whole_chain_counts() {
    assert_eq!(verify(&[]).unwrap(), None);
    let highest = verify(&chain(&[Some("p"), Some("q"), Some("p")]))
        .unwrap()
        .unwrap();
    assert_eq!(highest.epoch, Epoch(3));
    assert_eq!(highest.holder, Some(Cluster::new("p")));
    assert_eq!(highest.handover, Handover::new("h3"));
}

#[test]
fn a_changed_missing_or_misplaced_anchor_breaks_the_chain() {
    let whole = chain(&[Some("p"), Some("q"), Some("p")]);

    let mut changed = whole.clone();
    let text = String::from_utf8(changed[1].1.clone()).unwrap();
    changed[1].1 = text.replace("\"q\"", "\"x\"").into_bytes();

    let mut missing = whole.clone();
    missing.remove(1);

    let mut headless = whole.clone();
    headless.remove(0);

    let mut misplaced = whole.clone();
    misplaced[2].0 = anchor::name(&prod(), Epoch(4));

    let mut foreign = whole.clone();
    foreign[0].0 = anchor::name(&Repository::new("other"), Epoch(1));

    let mut torn = whole.clone();
    torn[2].1.truncate(20);

    let mut newer = whole;
    let text = String::from_utf8(newer[2].1.clone()).unwrap();
    newer[2].1 = text.replace("\"version\":1", "\"version\":2").into_bytes();

    let told: Vec<String> = [changed, missing, headless, misplaced, foreign, torn, newer]
        .iter()
        .map(|made| verify(made).unwrap_err().to_string())
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_recovery_begins_the_chain_anew() {
    let mut made = chain(&[Some("p"), Some("q"), None, Some("p")]);
    made[0].1 = b"not an anchor".to_vec();
    assert_eq!(verify(&made).unwrap().unwrap().epoch, Epoch(4));
    made[3].1 = b"not an anchor".to_vec();
    assert!(verify(&made).is_err());
}

#[test]
fn names_sort_as_epochs_do() {
    let name = |epoch| anchor::name(&prod(), Epoch(epoch));
    assert_eq!(name(7), ".snapgate/anchors/prod/00000000000000000007");
    assert!(name(9) < name(10) && name(10) < name(u64::MAX));
    assert!(name(1).starts_with(&anchor::prefix(&prod())));
}
