//! Damage is named: the object and exactly the snapshots it hits.

#![allow(clippy::unwrap_used, reason = "a test")]

mod repositories;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use policies::format::closure::{Knowledge, Member};
use policies::format::footer::LuceneFooter;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::key::Class;
use repositories::{Fixture, Store};

/// What is wrong with an object, and the snapshots it hits.
type Findings = BTreeMap<String, (&'static str, Vec<Arc<str>>)>;

/// A deep verification: `fixture` is what the catalog knows, `objects` what the store has.
fn verify(fixture: &Fixture, objects: BTreeMap<String, Vec<u8>>) -> Findings {
    let mut findings = Findings::new();
    let root = repositories::newest_root(&fixture.objects, fixture.base_path);
    let layout = Layout::new(fixture.base_path).unwrap();
    let root_key = layout.root(root.generation).to_string();
    let mut everything: Vec<_> = root
        .snapshots
        .iter()
        .map(|snapshot| snapshot.name.clone())
        .collect();
    everything.sort();
    let Some(bytes) = objects.get(&root_key) else {
        return [(root_key, ("missing", everything))].into();
    };
    let Ok(root) = Root::parse(root.generation, bytes) else {
        return [(root_key, ("unreadable", everything))].into();
    };
    let mut knowledge = Knowledge::new(layout);
    let store = Store {
        objects,
        listing: Some(fixture.objects.keys().cloned().collect()),
    };
    let root = Arc::new(root);
    let proposal = store.ask(|facts| knowledge.propose(root.clone(), facts));
    for problem in &proposal.problems {
        let kind = problem.kind.to_string();
        let kind = match kind.split(' ').next().unwrap() {
            "is" => "missing",
            "has" => "size",
            "cannot" => "unreadable",
            _ => "of another snapshot",
        };
        findings.insert(problem.key.to_string(), (kind, problem.snapshots.clone()));
    }
    knowledge.commit(proposal);
    for (first, (footer, member)) in footers(&knowledge, &store) {
        if footer.finish_listed(member.checksum).is_err() {
            findings
                .entry(first)
                .or_insert(("checksum", member.snapshots));
        }
    }
    findings
}

/// The footers of all files that are there, by the key of their first object.
fn footers(knowledge: &Knowledge, store: &Store) -> BTreeMap<String, (LuceneFooter, Member)> {
    let mut files: BTreeMap<String, (LuceneFooter, Member)> = BTreeMap::new();
    for member in knowledge
        .members()
        .filter(|member| matches!(member.class, Class::Data { .. }))
    {
        let Some(bytes) = store.objects.get(member.key.as_str()) else {
            continue;
        };
        let name = member
            .key
            .as_str()
            .split(".part")
            .next()
            .unwrap()
            .to_owned();
        files
            .entry(name)
            .or_insert_with(|| (LuceneFooter::default(), member))
            .0
            .update(bytes);
    }
    files
        .into_values()
        .map(|(footer, member)| (member.key.to_string(), (footer, member)))
        .collect()
}

/// A few members of every class, so that every kind of directory is hit.
fn samples(fixture: &Fixture) -> Vec<Member> {
    let store = Store {
        objects: fixture.objects.clone(),
        listing: None,
    };
    let (knowledge, _) = store.adopt(fixture.base_path);
    let mut by_class: BTreeMap<&str, Vec<Member>> = BTreeMap::new();
    for member in knowledge.members() {
        by_class
            .entry(member.class.label())
            .or_default()
            .push(member);
    }
    by_class
        .into_values()
        .flat_map(|members| members.into_iter().step_by(7).take(4))
        .collect()
}

fn first_part(key: &str) -> String {
    key.split_once(".part")
        .map_or(key.to_owned(), |(file, _)| format!("{file}.part0"))
}

type Damage = fn(&mut BTreeMap<String, Vec<u8>>, &str);

const DAMAGES: &[(&str, Damage)] = &[
    ("removed", |objects, key| {
        objects.remove(key);
    }),
    ("renamed", |objects, key| {
        let bytes = objects.remove(key).unwrap();
        objects.insert(format!("{key}~"), bytes);
    }),
    ("truncated", |objects, key| {
        objects.get_mut(key).unwrap().pop();
    }),
    ("one bit flipped", |objects, key| {
        let bytes = objects.get_mut(key).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x80;
    }),
];

/// The table of docs and issue: class x damage -> how it is found. Every cell names the object and exactly the snapshots hit.
#[test]
fn damage_names_the_object_and_exactly_the_snapshots_hit() {
    let mut table: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for fixture in repositories::all() {
        for member in samples(&fixture) {
            for (name, damage) in DAMAGES {
                let mut objects = fixture.objects.clone();
                damage(&mut objects, member.key.as_str());
                let findings = verify(&fixture, objects);
                let named = findings
                    .get(member.key.as_str())
                    .or_else(|| findings.get(&first_part(member.key.as_str())));
                let (kind, snapshots) = named.unwrap_or_else(|| {
                    panic!("{} {name} {}: {findings:?}", fixture.name, member.key)
                });
                assert_eq!(
                    *snapshots, member.snapshots,
                    "{} {name} {}",
                    fixture.name, member.key
                );
                table
                    .entry((member.class.label(), name))
                    .or_default()
                    .insert(kind);
            }
        }
    }
    let mut report = String::new();
    for ((class, damage), kinds) in table {
        writeln!(
            report,
            "{class:15} {damage:16} {}",
            kinds.into_iter().collect::<Vec<_>>().join(", ")
        )
        .unwrap();
    }
    insta::assert_snapshot!(report);
}

/// Two objects of one class that changed places: their bytes are intact, so it shows where the two disagree with the rest.
#[test]
fn swapped_objects_are_noticed_wherever_the_format_can_tell() {
    let mut table: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for fixture in repositories::all() {
        let samples = samples(&fixture);
        for (first, second) in samples.iter().zip(&samples[1..]) {
            let (a, b) = (
                &fixture.objects[first.key.as_str()],
                &fixture.objects[second.key.as_str()],
            );
            if first.class.label() != second.class.label() || a == b {
                continue;
            }
            let mut objects = fixture.objects.clone();
            objects.insert(first.key.to_string(), b.clone());
            objects.insert(second.key.to_string(), a.clone());
            let findings = verify(&fixture, objects);
            let hit: BTreeSet<_> = findings
                .values()
                .flat_map(|(_, snapshots)| snapshots.clone())
                .collect();
            let expected: BTreeSet<_> = first
                .snapshots
                .iter()
                .chain(&second.snapshots)
                .cloned()
                .collect();
            let (noticed, all) = table.entry(first.class.label()).or_default();
            *all += 1;
            *noticed += usize::from(!findings.is_empty());
            if matches!(first.class, Class::Data { .. } | Class::SnapshotInfo(_)) {
                assert_eq!(
                    hit, expected,
                    "{} {} {}",
                    fixture.name, first.key, second.key
                );
            }
        }
    }
    let report: Vec<_> = table
        .iter()
        .map(|(class, (noticed, all))| format!("{class}: {noticed} of {all}"))
        .collect();
    insta::assert_snapshot!(report.join("\n"));
}
