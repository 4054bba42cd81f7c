//! What real clusters wrote is read completely and could have been written by us.

#![allow(clippy::unwrap_used, reason = "a test")]

mod repositories;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use policies::format::closure::{Knowledge, Observed};
use policies::format::digest::{self, kept};
use policies::format::footer::LuceneFooter;
use policies::format::frame::{self, Limits, Packing};
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::format::smile;
use policies::key::Class;
use repositories::Store;

#[test]
fn every_frame_of_every_fixture_opens_and_its_body_is_written_byte_for_byte() {
    let mut frames = 0;
    let mut plain = 0;
    for fixture in repositories::all() {
        for (key, bytes) in &fixture.objects {
            let name = key.rsplit('/').next().unwrap();
            let framed =
                name.ends_with(".dat") || key.contains("indices/") && name.starts_with("index-");
            if !framed {
                continue;
            }
            let frame = frame::open(bytes)
                .unwrap_or_else(|error| panic!("{} {key}: {error}", fixture.name));
            let document = frame.document(Limits::default()).unwrap();
            let value = smile::decode(&document)
                .unwrap_or_else(|error| panic!("{} {key}: {error}", fixture.name));
            assert_eq!(
                smile::encode(&value, smile::Flags::CLUSTER),
                *document,
                "{} {key}",
                fixture.name
            );
            frames += 1;
            if frame.packing == Packing::Plain {
                plain += 1;
                assert_eq!(
                    frame::seal(frame.codec, &document, false),
                    *bytes,
                    "{} {key}",
                    fixture.name
                );
            }
        }
    }
    assert!(
        frames > 400 && plain > 200,
        "{frames} frames, {plain} plain"
    );
}

/// What has no frame is JSON, or the eight bytes of the pointer. A root that is put together anew (`format::merge`) keeps every
/// byte of what it does not change because of this.
#[test]
fn every_object_without_a_frame_is_written_byte_for_byte_too() {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for fixture in repositories::all() {
        for (key, bytes) in &fixture.objects {
            let class = repositories::class_of(fixture.base_path, key);
            let written = match &class {
                Class::Root(_) | Class::ShardPaths | Class::LegacyList | Class::Incompatible => {
                    let read: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                    serde_json::to_vec(&read).unwrap()
                }
                Class::Pointer => {
                    let generation = u64::from_be_bytes(bytes[..].try_into().unwrap());
                    assert!(generation <= 1_000, "{} {key}", fixture.name);
                    generation.to_be_bytes().to_vec()
                }
                Class::Data { .. } => continue,
                framed => {
                    assert!(frame::open(bytes).is_ok(), "{} {framed:?}", fixture.name);
                    continue;
                }
            };
            assert_eq!(written, *bytes, "{} {key}", fixture.name);
            *kinds.entry(class.label()).or_default() += 1;
        }
    }
    assert!(kinds.len() == 5 && kinds["root"] >= 17, "{kinds:?}");
}

#[test]
fn the_closure_of_every_fixture_is_complete_and_its_bytes_are_good() {
    for fixture in repositories::all() {
        let store = Store {
            objects: fixture.objects.clone(),
            listing: None,
        };
        let (knowledge, problems) = store.adopt(fixture.base_path);
        assert_eq!(problems, [], "{}", fixture.name);
        let mut files: BTreeMap<String, (LuceneFooter, Option<u32>)> = BTreeMap::new();
        for member in knowledge.members() {
            let bytes = &fixture.objects[member.key.as_str()];
            if let Class::Data { .. } = member.class {
                assert_eq!(
                    member.size,
                    Some(bytes.len() as u64),
                    "{} {}",
                    fixture.name,
                    member.key
                );
                let file = member
                    .key
                    .as_str()
                    .split(".part")
                    .next()
                    .unwrap()
                    .to_owned();
                let (footer, _) = files
                    .entry(file)
                    .or_insert_with(|| (LuceneFooter::default(), member.checksum));
                footer.update(bytes);
            }
        }
        for (file, (footer, listed)) in files {
            assert!(listed.is_some(), "{} {file}", fixture.name);
            assert_eq!(
                footer.finish_listed(listed),
                Ok(()),
                "{} {file}",
                fixture.name
            );
        }
    }
}

/// What 2.4.6 wrote into the repository that 5.6 and 6.8 went on with, as it was without their roots.
#[test]
fn a_repository_of_2_x_is_known_by_its_descriptions() {
    let mut seen = BTreeSet::new();
    for fixture in repositories::all() {
        if !fixture.name.starts_with("mixed-elasticsearch-2.4") {
            continue;
        }
        let rooted = Store {
            objects: fixture.objects.clone(),
            listing: None,
        };
        let (rooted, _) = rooted.adopt("");
        let mut objects = fixture.objects.clone();
        objects.retain(|key, _| !matches!(repositories::class_of("", key), Class::Root(_)));
        let store = Store {
            objects,
            listing: None,
        };
        let (listed, problems) = store.adopt("");
        assert_eq!(problems, [], "{}", fixture.name);
        let of_2_x = |knowledge: &Knowledge| {
            let members = knowledge.members().filter_map(|member| {
                let two = member.snapshots.iter().find(|s| s.starts_with("two-"))?;
                let root = matches!(member.class, Class::Root(_));
                (!root).then(|| (two.clone(), member.key.to_string(), member.size))
            });
            members.collect::<BTreeSet<_>>()
        };
        assert_eq!(of_2_x(&listed), of_2_x(&rooted), "{}", fixture.name);
        let list = listed.newest().unwrap();
        seen.extend(list.root.snapshots.iter().map(|s| s.name.to_string()));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["two-b", "two-c"]);
}

/// Before 7.6 the root before the newest stays. After a create all of it is there; after a delete it is not.
#[test]
fn an_older_root_is_complete_unless_a_snapshot_of_it_was_deleted() {
    let mut found = Vec::new();
    for fixture in repositories::all() {
        let newest = repositories::newest_root(&fixture.objects, fixture.base_path);
        for (key, bytes) in &fixture.objects {
            let Class::Root(generation) = repositories::class_of(fixture.base_path, key) else {
                continue;
            };
            if generation == newest.generation {
                continue;
            }
            let root = Arc::new(Root::parse(generation, bytes).unwrap());
            let store = Store {
                objects: fixture.objects.clone(),
                listing: None,
            };
            let knowledge = Knowledge::new(Layout::new(fixture.base_path).unwrap());
            let proposal = store.ask(|facts| knowledge.propose(root.clone(), facts));
            let complete = proposal.problems.is_empty();
            found.push((fixture.name.clone(), generation, complete));
        }
    }
    let found: Vec<_> = found.iter().map(|(f, g, c)| (f.as_str(), *g, *c)).collect();
    assert_eq!(
        found,
        [
            ("elasticsearch-5.6.16/before-delete", 1, true),
            ("elasticsearch-5.6.16/after-delete", 2, false),
            ("mixed-elasticsearch-2.4-6.8/before-delete", 4, false),
            ("mixed-elasticsearch-2.4-6.8/after-delete", 5, false),
        ]
    );
}

/// What lies in a repository beside the closure of its newest root, by the reasons the format gives for each.
#[test]
fn nothing_lies_outside_the_closure_but_what_the_format_leaves_there() {
    let mut report = String::new();
    for fixture in repositories::all() {
        let (knowledge, _) = Store {
            objects: fixture.objects.clone(),
            listing: None,
        }
        .adopt(fixture.base_path);
        let members: BTreeSet<String> = knowledge
            .members()
            .map(|member| member.key.to_string())
            .collect();
        assert!(
            members.iter().all(|key| fixture.objects.contains_key(key)),
            "{}",
            fixture.name
        );
        writeln!(report, "{}: {} members", fixture.name, members.len()).unwrap();
        for key in fixture.objects.keys().filter(|key| !members.contains(*key)) {
            writeln!(report, "  {key}").unwrap();
        }
    }
    insta::assert_snapshot!(report);
}

#[test]
fn the_cluster_and_we_count_the_same_objects_and_snapshots() {
    for fixture in repositories::all() {
        let state = fixture.name.split_once('/').unwrap().1;
        let said = fixture.expected["states"]
            .get(state)
            .unwrap_or(&fixture.expected);
        if let Some(objects) = said["objects"].as_object() {
            let sizes: BTreeMap<_, _> = objects
                .iter()
                .map(|(key, size)| (key.clone(), size.as_u64().unwrap() as usize))
                .collect();
            let found: BTreeMap<_, _> = fixture
                .objects
                .iter()
                .map(|(key, bytes)| (key.clone(), bytes.len()))
                .collect();
            assert_eq!(found, sizes, "{}", fixture.name);
        }
        let root = repositories::newest_root(&fixture.objects, fixture.base_path);
        if let Some(snapshots) = fixture.expected["states"]
            .get(state)
            .and_then(|state| state["snapshots"].as_object())
        {
            let uuids: BTreeMap<_, _> = snapshots
                .iter()
                .map(|(name, said)| (name.as_str(), said["uuid"].as_str().unwrap()))
                .collect();
            let found: BTreeMap<_, _> = root
                .snapshots
                .iter()
                .map(|s| (&*s.name, &*s.uuid))
                .collect();
            assert_eq!(found, uuids, "{}", fixture.name);
        }
        assert_eq!(root.unknown_fields, [""; 0], "{}", fixture.name);
    }
}

#[test]
fn every_digest_of_every_fixture_is_kept_without_loss_and_smaller_than_its_object() {
    for fixture in repositories::all() {
        for (key, bytes) in &fixture.objects {
            let class = repositories::class_of(fixture.base_path, key);
            let Some(Ok(digest)) = digest::read(&class, bytes, Limits::default()) else {
                continue;
            };
            let kept = kept::encode(&digest);
            assert_eq!(
                kept::decode(&kept).as_ref(),
                Some(&*digest),
                "{}: {key}",
                fixture.name
            );
            assert!(
                kept.len() <= bytes.len(),
                "{}: {key}: {} of {}",
                fixture.name,
                kept.len(),
                bytes.len()
            );
        }
    }
}

#[test]
fn a_root_read_in_steps_is_known_as_one_that_was_read_at_once() {
    for fixture in repositories::all() {
        let mut lost = fixture.objects.clone();
        let blob = lost.keys().find(|key| key.contains("/__")).cloned();
        lost.remove(&blob.unwrap());
        for objects in [fixture.objects.clone(), lost] {
            let store = Store {
                objects,
                listing: None,
            };
            let (whole, _) = store.adopt(fixture.base_path);
            let root = Arc::new(repositories::newest_root(&store.objects, fixture.base_path));
            let mut stepped = Knowledge::new(whole.layout().clone());
            let mut facts = Observed::default();
            for part in root.in_steps(1) {
                let proposal = loop {
                    match stepped.propose(part.clone(), &facts) {
                        Ok(proposal) => break proposal,
                        Err(needs) => store.answer(needs, &mut facts),
                    }
                };
                stepped.grow(proposal);
                facts.keep_descriptions();
            }
            stepped.adopted();
            assert_eq!(stepped.live().len(), 1);
            let members = |knowledge: &Knowledge| {
                let members = knowledge.members().map(|member| format!("{member:?}"));
                members.collect::<BTreeSet<_>>()
            };
            assert_eq!(members(&stepped), members(&whole), "{}", fixture.name);
            assert!(stepped.problems().eq(whole.problems()), "{}", fixture.name);
            assert_eq!(stepped.newest_snapshot(), whole.newest_snapshot());
        }
    }
}

/// By the descriptions, which every version writes; the roots that say it too (Elasticsearch 7.14+) say the same.
#[test]
fn a_snapshot_holds_the_data_files_that_its_restore_reads() {
    let (mut shared, mut parts) = (0, 0);
    for fixture in repositories::all() {
        let store = Store {
            objects: fixture.objects.clone(),
            listing: None,
        };
        let (knowledge, _) = store.adopt(fixture.base_path);
        let root = &knowledge.newest().unwrap().root;
        let contents = knowledge.contents();
        assert_eq!(contents.len(), root.snapshots.len(), "{}", fixture.name);
        for (snapshot, content) in root.snapshots.iter().zip(contents) {
            let (mut objects, mut bytes) = (0, 0);
            for member in knowledge.members() {
                let Class::Data { part, .. } = member.class else {
                    continue;
                };
                if member.snapshots.contains(&snapshot.name) {
                    objects += 1;
                    bytes += fixture.objects[member.key.as_str()].len() as u64;
                    shared += usize::from(member.snapshots.len() > 1);
                    parts += usize::from(part.is_some());
                }
            }
            let told = (content.objects, content.bytes);
            assert_eq!(told, (objects, bytes), "{} {}", fixture.name, snapshot.name);
            assert!(content.ended_millis.is_some(), "{}", fixture.name);
        }
    }
    assert!(shared > 0 && parts > 0, "{shared} {parts}");
}

#[test]
fn the_newest_snapshot_of_a_root_is_the_one_that_ended_last() {
    let (mut in_roots, mut listed_elsewhere) = (0, 0);
    for fixture in repositories::all() {
        let store = Store {
            objects: fixture.objects.clone(),
            listing: None,
        };
        let (knowledge, _) = store.adopt(fixture.base_path);
        let root = &knowledge.newest().unwrap().root;
        let described = |uuid: &str| {
            let key = knowledge.layout().snapshot_info(uuid);
            let class = Class::SnapshotInfo(uuid.into());
            let read = digest::read(&class, &fixture.objects[key.as_str()], Limits::default());
            match &*read.unwrap().unwrap() {
                digest::Digest::SnapshotInfo(info) => info.end_time.unwrap(),
                other => panic!("{key}: {other:?}"),
            }
        };
        let ended = root.snapshots.iter().map(|snapshot| {
            let ended = described(&snapshot.uuid);
            if let Some(by_root) = snapshot.end_time_millis {
                assert_eq!(by_root, ended, "{} {}", fixture.name, snapshot.name);
                in_roots += 1;
            }
            (ended, snapshot.name.to_string())
        });
        let ended: Vec<_> = ended.collect();
        let (last, name) = ended.iter().max().unwrap();
        let newest = knowledge.newest_snapshot().unwrap();
        assert_eq!(
            (newest.ended_ms, &*newest.name),
            (*last, &**name),
            "{}",
            fixture.name
        );
        listed_elsewhere += usize::from(ended.last().map(|(_, name)| name) != Some(name));
    }
    assert!(
        in_roots > 0 && listed_elsewhere > 0,
        "{in_roots} {listed_elsewhere}"
    );
}
