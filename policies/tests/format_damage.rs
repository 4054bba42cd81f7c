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
            "is" if kind.ends_with('\'') => "of another index",
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

/// All members, class by class.
fn members_of(fixture: &Fixture) -> Vec<Member> {
    let store = Store {
        objects: fixture.objects.clone(),
        listing: None,
    };
    let (knowledge, _) = store.adopt(fixture.base_path);
    let mut members: Vec<_> = knowledge.members().collect();
    members.sort_by_key(|member| member.class.label());
    members
}

/// A verification later on tells what the adoption told.
#[test]
fn what_is_wrong_with_what_is_adopted_stays_known() {
    let mut lists = 0;
    for fixture in repositories::all() {
        for member in members_of(&fixture) {
            if matches!(member.class, Class::Root(_)) {
                continue;
            }
            let mut objects = fixture.objects.clone();
            objects.remove(member.key.as_str());
            let store = Store {
                objects,
                listing: None,
            };
            let (knowledge, problems) = store.adopt(fixture.base_path);
            for problem in problems {
                let known = knowledge.problem(&problem.key);
                assert_eq!(known, Some(&problem), "{}", fixture.name);
                lists += usize::from(matches!(problem.class, Class::ShardSnapshot { .. }));
            }
        }
    }
    assert!(lists > 0);
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

/// The table's cell: class x damage.
#[derive(Default)]
struct Cell {
    tried: usize,
    /// As what it was found; empty where the format cannot tell.
    found: BTreeMap<&'static str, usize>,
}

type Table = BTreeMap<(&'static str, &'static str), Cell>;

const SWAPPED: &str = "swapped";
const SINCE: &str = "swapped since its adoption";

/// Damages every object of every fixture: its finding names the object and exactly the snapshots that need it.
fn damage_all(table: &mut Table, tried: &mut BTreeMap<String, BTreeMap<&'static str, usize>>) {
    for fixture in repositories::all() {
        for member in members_of(&fixture) {
            let class = member.class.label();
            let of_fixture = tried.entry(fixture.name.clone()).or_default();
            *of_fixture.entry(class).or_default() += 1;
            for (name, damage) in DAMAGES {
                let mut objects = fixture.objects.clone();
                damage(&mut objects, member.key.as_str());
                let findings = verify(&fixture, objects);
                let (kind, snapshots) = finding(&findings, &member).unwrap_or_else(|| {
                    panic!("{} {name} {}: {findings:?}", fixture.name, member.key)
                });
                assert_eq!(
                    *snapshots, member.snapshots,
                    "{} {name} {}",
                    fixture.name, member.key
                );
                let cell = table.entry((class, name)).or_default();
                cell.tried += 1;
                *cell.found.entry(kind).or_default() += 1;
            }
        }
    }
}

fn finding<'a>(
    findings: &'a Findings,
    member: &Member,
) -> Option<&'a (&'static str, Vec<Arc<str>>)> {
    let named = findings.get(member.key.as_str());
    named.or_else(|| findings.get(&first_part(member.key.as_str())))
}

/// Two objects of one class change places: their bytes are intact, so it shows where the two disagree with the rest.
fn swap_all(table: &mut Table) {
    for fixture in repositories::all() {
        let members = members_of(&fixture);
        for (first, second) in members.iter().zip(&members[1..]) {
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
            since_adoption(table, first, second, &findings);
            let cell = table.entry((first.class.label(), SWAPPED)).or_default();
            cell.tried += 1;
            let Some((kind, _)) = findings.values().next() else {
                continue;
            };
            *cell.found.entry(kind).or_default() += 1;
            let hit: BTreeSet<_> = findings
                .values()
                .flat_map(|(_, snapshots)| snapshots.clone())
                .collect();
            let either = first.snapshots.iter().chain(&second.snapshots).cloned();
            if matches!(first.class, Class::Data { .. } | Class::SnapshotInfo(_)) {
                assert_eq!(
                    hit,
                    either.collect(),
                    "{} {} {}",
                    fixture.name,
                    first.key,
                    second.key
                );
            }
        }
    }
}

/// What the gateway says of the same swap: it kept the hash of all that it read when it adopted the repository, which is everything
/// but data, and of data the format itself tells.
fn since_adoption(table: &mut Table, first: &Member, second: &Member, findings: &Findings) {
    let cell = table.entry((first.class.label(), SINCE)).or_default();
    cell.tried += 1;
    let kind = match &first.class {
        Class::Data { .. } => {
            let both = finding(findings, first).zip(finding(findings, second));
            both.map(|((kind, _), _)| *kind)
        }
        _metadata => Some("other bytes"),
    };
    if let Some(kind) = kind {
        *cell.found.entry(kind).or_default() += 1;
    }
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/CORRUPTION.md");

const HEAD: &str = "# What verification finds

`format_damage::damage_names_the_object_and_exactly_the_snapshots_hit` makes this page and fails where it differs;
`SNAPGATE_WRITE_PAGE=1 cargo test --ignore-rust-version -p policies --test format_damage` writes it anew.

Every object that a snapshot needs, in every repository of `fixtures/`, is damaged in every way, one at a time. Each finding names
the object and exactly the snapshots that need it. `verify` without `--deep` lists the store and finds what is *missing* or has another
*size* than the metadata says. `verify --deep` reads the bytes too: *unreadable* is a frame, checksum or body that cannot be read,
*checksum* a Lucene footer that does not fit the bytes or is not the listed one, *of another snapshot* or *of another index* a description under a
name that is not its own, *other bytes* a hash that is not the one of when the gateway read it first. Numbers: how often it was found so, of how often
it was tried. *Swapped*: two objects of one class had changed places before the gateway saw the repository; the last column: after it adopted it.

";

const FOOT: &str = "
Metadata in another's place shows by what it then names: files that are *missing* or of another *size*, or a snapshot that is not its own.

What the format alone cannot tell, because there is nothing to compare with:

- A root has no checksum. The flipped bit here breaks its text; one in a uuid, a version or a time that leaves text is JSON like any other.
- The global metadata of a snapshot does not say whose it is; another snapshot's in its place is intact.
- Two descriptions that list the same are interchangeable: metadata of one index with as many shards, shard indexes of the same files.

Of what was written through the gateway the catalog has the hash, and `verify --deep` compares it: there every one of these is found
(`repository::verify::tests::what_the_format_cannot_tell_the_hash_does`). Of an adopted repository the gateway keeps the hash of its root and of
all metadata as it read them then, so every swap and every flipped bit after the adoption is found as well
(`...of_an_adopted_repository_what_was_read_then_is_compared`). What changed places before it was adopted cannot be known in the cells above
that say \"not by the format\", or that found fewer than were tried: nothing but the cluster that took the snapshot ever said which was which.
";

/// Shallow findings need no bytes of the damaged object.
fn depth(class: &str, damage: &str, kind: &str) -> &'static str {
    match kind {
        "missing" | "size" if class == "data" || !damage.starts_with(SWAPPED) => "shallow",
        _ => "deep",
    }
}

fn page(table: &Table, tried: &BTreeMap<String, BTreeMap<&str, usize>>) -> String {
    let mut page = HEAD.to_owned();
    let damages = DAMAGES.iter().map(|(name, _)| *name);
    let damages = damages.chain([SWAPPED, SINCE]);
    let damages: Vec<_> = damages.collect();
    let classes: BTreeSet<_> = table.keys().map(|(class, _)| *class).collect();
    row(
        &mut page,
        "class",
        damages.iter().map(|name| (*name).to_owned()),
    );
    row(&mut page, "---", damages.iter().map(|_| "---".to_owned()));
    for class in &classes {
        let cells = damages.iter().map(|damage| {
            table.get(&(class, damage)).map_or_else(
                || "no two to swap".to_owned(),
                |cell| {
                    let kinds = cell.found.iter().map(|(kind, found)| {
                        format!(
                            "{kind} ({}): {found} of {}",
                            depth(class, damage, kind),
                            cell.tried
                        )
                    });
                    let kinds = kinds.collect::<Vec<_>>().join("; ");
                    match kinds.as_str() {
                        "" => format!("not by the format: 0 of {}", cell.tried),
                        _ => kinds,
                    }
                },
            )
        });
        row(&mut page, class, cells);
    }
    page.push_str("\nObjects tried of each class:\n\n");
    row(
        &mut page,
        "repository",
        classes.iter().map(|class| (*class).to_owned()),
    );
    row(&mut page, "---", classes.iter().map(|_| "--:".to_owned()));
    for (fixture, by_class) in tried {
        let counts = classes
            .iter()
            .map(|class| by_class.get(class).map_or(0, |n| *n).to_string());
        row(&mut page, fixture, counts);
    }
    page + FOOT
}

fn row(page: &mut String, first: &str, rest: impl Iterator<Item = String>) {
    let cells: Vec<_> = [first.to_owned()].into_iter().chain(rest).collect();
    writeln!(page, "| {} |", cells.join(" | ")).unwrap();
}

#[test]
fn damage_names_the_object_and_exactly_the_snapshots_hit() {
    let (mut table, mut tried) = (Table::new(), BTreeMap::new());
    damage_all(&mut table, &mut tried);
    swap_all(&mut table);
    for fixture in tried.values() {
        assert!(fixture.len() == 7, "every class: {fixture:?}");
    }
    let page = page(&table, &tried);
    if std::env::var_os("SNAPGATE_WRITE_PAGE").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(written == page, "{PAGE} is not what was found:\n{page}");
}
