//! The guard's refusals and permissions, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test")]

mod repositories;

use std::collections::BTreeMap;

use policies::format::build::{Cluster, Form, Request, Style, Take};
use policies::format::closure::ProblemKind;
use policies::format::digest;
use policies::format::frame::Limits;
use policies::guard::{Deletion, Incoming, Overwrite, Reason, Refusal, Report, Rules};
use policies::key::{Class, ObjectKey};
use repositories::class_of;
use repositories::world::World;

const BOOKS: Take<'_> = Take {
    index: "books",
    shards: 2,
    new_files: 3,
    merged_away: 1,
    failed_shard: None,
};
const FILMS: Take<'_> = Take {
    index: "films",
    shards: 1,
    ..BOOKS
};

fn style(form: Form) -> Style {
    Style {
        form,
        ..Style::default()
    }
}

/// A world in which `cluster` took snapshots of books, one of films too.
fn lived(form: Form, names: &[&str]) -> (World, Cluster) {
    let mut cluster = Cluster::new(1, "", style(form));
    let mut world = World::empty("");
    for name in names {
        cluster.create(name, &[BOOKS, FILMS]);
    }
    replay(&mut world, &mut cluster);
    (world, cluster)
}

const MODERN: Form = Form::Uuid { identified: true };
const LEGACY: Form = Form::Legacy { sequential: false };

fn replay(world: &mut World, cluster: &mut Cluster) {
    for request in cluster.requests() {
        world.request(request).unwrap();
    }
}

/// The first refusal among the requests of the cluster.
fn refused(world: &mut World, cluster: &mut Cluster) -> Refusal {
    cluster
        .requests()
        .into_iter()
        .find_map(|request| world.request(request).err())
        .expect("something is refused")
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

fn verdict(world: &World, name: &str) -> Result<Deletion, Refusal> {
    world.guard.delete(&key(name), &class_of("", name))
}

fn find(world: &World, wanted: impl Fn(&Class) -> bool) -> (ObjectKey, Class) {
    let member = world
        .guard
        .knowledge()
        .members()
        .find(|member| wanted(&member.class))
        .unwrap();
    (member.key, member.class)
}

fn is_data(class: &Class) -> bool {
    matches!(class, Class::Data { .. })
}

#[test]
fn a_needed_blob_may_not_go_and_the_sentence_names_the_snapshots() {
    let (world, _) = lived(MODERN, &["nightly-07"]);
    let (blob, class) = find(&world, is_data);
    assert_eq!(
        world.guard.delete(&blob, &class).unwrap_err().to_string(),
        format!(
            "'{blob}' is needed by snapshot 'nightly-07' of repository 'prod'; delete the snapshot through the cluster instead."
        )
    );
    let mut cluster = lived(MODERN, &["nightly-07"]).1;
    let mut world = lived(MODERN, &["nightly-07"]).0;
    cluster.clone_snapshot("nightly-07", "nightly-08");
    cluster.clone_snapshot("nightly-07", "nightly-09");
    replay(&mut world, &mut cluster);
    assert_eq!(
        world.guard.delete(&blob, &class).unwrap_err().to_string(),
        format!(
            "'{blob}' is needed by snapshot 'nightly-07' and 2 more of repository 'prod'; delete the snapshots through the cluster instead."
        )
    );
}

#[test]
fn the_newest_root_never_goes_and_older_ones_do() {
    let (world, _) = lived(MODERN, &["a", "b"]);
    assert!(matches!(
        verdict(&world, "index-1").unwrap_err().reason,
        Reason::NewestRoot {
            generation: 1,
            snapshots: 2
        }
    ));
    assert_eq!(
        verdict(&world, "index-0"),
        Ok(Deletion::Soft { held_by: None })
    );
}

#[test]
fn what_the_clusters_protocols_need_is_allowed() {
    let (world, _) = lived(MODERN, &["a"]);
    assert_eq!(verdict(&world, "tests-x/master.dat"), Ok(Deletion::Free));
    assert_eq!(verdict(&world, "temp-analysis-x/y"), Ok(Deletion::Free));
    assert_eq!(
        verdict(&world, "index.latest"),
        Ok(Deletion::KeepServing),
        "X1"
    );
    assert_eq!(verdict(&world, "index"), Ok(Deletion::KeepServing), "X2");
    let soft = Ok(Deletion::Soft { held_by: None });
    assert_eq!(verdict(&world, "pending-index-3"), soft, "X1");
    assert_eq!(
        verdict(&world, "snapshot_shard_paths/snapshot_path_a.b.1.1.1"),
        soft,
        "X7"
    );
    assert_eq!(verdict(&world, "indices/never-seen/0/__x"), soft, "X10");
    let (index, class) = find(&world, |class| matches!(class, Class::ShardIndex { .. }));
    assert!(matches!(
        world.guard.delete(&index, &class).unwrap_err().reason,
        Reason::Indexed { .. }
    ));
    let (legacy, _) = lived(LEGACY, &["a"]);
    let (index, class) = find(&legacy, |class| matches!(class, Class::ShardIndex { .. }));
    assert_eq!(legacy.guard.delete(&index, &class), soft, "X4, X5");
}

#[test]
fn a_root_that_is_not_newer_is_refused() {
    let (mut world, mut cluster) = lived(MODERN, &["a"]);
    let mut stale = cluster.clone();
    cluster.create("b", &[BOOKS]);
    replay(&mut world, &mut cluster);
    stale.create("c", &[FILMS]);
    let root = stale
        .requests()
        .into_iter()
        .find_map(|request| match request {
            Request::Put {
                class: Class::Root(generation),
                bytes,
                ..
            } => Some((generation, bytes)),
            Request::Put { .. } | Request::Delete { .. } => None,
        });
    let (generation, bytes) = root.unwrap();
    let refusal = world.admit(generation, &bytes).unwrap_err();
    assert!(matches!(
        refusal.reason,
        Reason::NotNewer {
            generation: 1,
            highest: 1
        }
    ));
}

#[test]
fn a_stale_master_cannot_bring_back_shard_generations() {
    let (mut world, mut cluster) = lived(MODERN, &["a"]);
    let mut stale = cluster.clone();
    cluster.create("b", &[BOOKS]);
    replay(&mut world, &mut cluster);
    stale.relist(&cluster);
    stale.create("c", &[FILMS]);
    let reason = refused(&mut world, &mut stale).reason;
    assert!(
        matches!(
            reason,
            Reason::Superseded { .. } | Reason::Incomplete { .. }
        ),
        "{reason:?}"
    );
}

#[test]
fn a_root_whose_closure_is_incomplete_is_refused_and_old_damage_is_not() {
    let (mut world, mut cluster) = lived(MODERN, &["a"]);
    cluster.create("b", &[BOOKS]);
    let mut requests = cluster.requests();
    let lost = requests
        .iter()
        .position(|request| matches!(request, Request::Put { class, .. } if is_data(class)))
        .unwrap();
    requests.remove(lost);
    let refusal = requests
        .into_iter()
        .find_map(|request| world.request(request).err())
        .unwrap();
    let Reason::Incomplete {
        problems: 1,
        first,
        snapshots,
        ..
    } = &refusal.reason
    else {
        panic!("{refusal}")
    };
    assert_eq!(first.kind, ProblemKind::Missing);
    assert_eq!(snapshots.to_string(), "snapshot 'b'");

    // The same loss before adoption is reported and tolerated.
    let (world, mut cluster) = lived(MODERN, &["a"]);
    let mut objects = world.store.objects;
    let lost = objects
        .keys()
        .find(|name| is_data(&class_of("", name)))
        .unwrap()
        .clone();
    objects.remove(&lost);
    let mut world = World::adopted(objects, "");
    cluster.clone_snapshot("a", "b");
    replay(&mut world, &mut cluster);
    let problems: Vec<_> = world.guard.knowledge().problems().collect();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key.as_str(), lost);
    assert_eq!(problems[0].snapshots.len(), 2, "the clone is hit too");
}

#[test]
fn unchanged_snapshots_keep_their_metadata() {
    let (world, _) = lived(MODERN, &["a", "b"]);
    let root = String::from_utf8(world.store.objects["index-1"].clone()).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(root.contains(from));
        world
            .admit(2, root.replacen(from, to, 1).as_bytes())
            .unwrap_err()
            .reason
    };
    assert!(matches!(
        refused("\"state\":1", "\"state\":3"),
        Reason::Changed { .. }
    ));
    assert!(matches!(
        refused("\"version\":\"8.11.0\"", "\"version\":\"8.6.2\""),
        Reason::Changed { .. }
    ));
    assert!(matches!(
        refused("\"uuid\":", "\"uuid\":\"x\",\"was\":"),
        Reason::OtherRepository { .. }
    ));
    assert!(matches!(
        refused("\"snapshots\":", "\"snapshot\":"),
        Reason::NotARoot { .. }
    ));
    assert!(
        world.admit(2, root.as_bytes()).is_ok(),
        "a clean-up writes the same content again"
    );
}

#[test]
fn another_cluster_and_the_loss_of_a_pinned_snapshot_are_refused() {
    let (mut world, mut cluster) = lived(MODERN, &["a", "b"]);
    let candidate = world
        .guard
        .candidate(2, &world.store.objects["index-1"].clone())
        .unwrap();
    let rules = Rules {
        bound_cluster: Some("another"),
        pinned: &[],
    };
    let verdict = world
        .store
        .ask(|facts| world.guard.admit(&candidate, rules, facts));
    assert!(matches!(
        verdict.unwrap_err().reason,
        Reason::OtherCluster { .. }
    ));
    let admitted = world
        .store
        .ask(|facts| world.guard.admit(&candidate, Rules::default(), facts))
        .unwrap();
    assert!(
        admitted
            .reports()
            .iter()
            .any(|report| matches!(report, Report::BindCluster(_)))
    );

    let newest = world.guard.knowledge().newest().unwrap().root.clone();
    world.pinned = vec![
        newest
            .snapshots
            .iter()
            .find(|snapshot| &*snapshot.name == "a")
            .unwrap()
            .uuid
            .clone(),
    ];
    cluster.delete(&["a"], false);
    let refusal = refused(&mut world, &mut cluster);
    assert!(
        matches!(&refusal.reason, Reason::Pinned { .. }),
        "{refusal}"
    );
    assert!(refusal.to_string().contains("snapshot 'a'"));
}

#[test]
fn names_are_written_once_and_content_that_is_needed_stays() {
    let (world, _) = lived(MODERN, &["a", "b"]);
    let over = |name: &ObjectKey, class: &Class, same_bytes| {
        world.guard.overwrite(
            name,
            class,
            Incoming {
                same_bytes,
                digest: None,
            },
        )
    };
    let (blob, class) = find(&world, is_data);
    assert_eq!(
        over(&blob, &class, true),
        Ok(Overwrite::Same),
        "a PUT whose answer was lost"
    );
    assert!(matches!(
        over(&blob, &class, false).unwrap_err().reason,
        Reason::Needed { .. }
    ));
    let free = key("indices/i/0/__abcdefghijklmnopqrstuv");
    assert!(matches!(
        over(&free, &class_of("", free.as_str()), false)
            .unwrap_err()
            .reason,
        Reason::WriteOnce { .. }
    ));
    assert!(matches!(
        over(&key("index-1"), &Class::Root(1), false)
            .unwrap_err()
            .reason,
        Reason::RootExists { .. }
    ));
    assert_eq!(
        over(&key("tests-a/master.dat"), &Class::Registration, false),
        Ok(Overwrite::Replace)
    );
    assert_eq!(
        over(&key("unheard-of"), &Class::Unknown, false),
        Ok(Overwrite::Replace)
    );
}

#[test]
fn metadata_of_a_root_that_is_not_final_may_be_written_anew_for_the_same_snapshot_only() {
    let (world, mut cluster) = lived(MODERN, &["a"]);
    let (info, class) = find(&world, |class| matches!(class, Class::SnapshotInfo(_)));
    let own = digest::read(
        &class,
        &world.store.objects[info.as_str()],
        Limits::default(),
    )
    .unwrap();
    let over = |world: &World, digest| {
        world.guard.overwrite(
            &info,
            &class,
            Incoming {
                same_bytes: false,
                digest,
            },
        )
    };
    assert_eq!(
        over(&world, Some(&own)),
        Ok(Overwrite::Replace),
        "index-0 is not known to be final"
    );
    assert!(matches!(
        over(&world, None).unwrap_err().reason,
        Reason::NotTheSame { .. }
    ));
    let mut world = world;
    cluster.create("b", &[BOOKS]);
    replay(&mut world, &mut cluster);
    cluster.create("c", &[BOOKS]);
    replay(&mut world, &mut cluster);
    assert!(
        matches!(
            over(&world, Some(&own)).unwrap_err().reason,
            Reason::Needed { .. }
        ),
        "it is final now"
    );
}

#[test]
fn the_pointer_names_the_newest_root() {
    let (world, _) = lived(MODERN, &["a", "b"]);
    assert!(world.guard.pointer(&1_u64.to_be_bytes()).is_ok());
    assert!(matches!(
        world
            .guard
            .pointer(&0_u64.to_be_bytes())
            .unwrap_err()
            .reason,
        Reason::PointerValue {
            value: 0,
            highest: Some(1)
        }
    ));
    assert!(matches!(
        world.guard.pointer(b"1").unwrap_err().reason,
        Reason::PointerForm { length: 1 }
    ));
}

#[test]
fn what_an_older_live_root_needs_goes_softly_and_comes_back_with_a_root_that_needs_it() {
    let (mut world, mut cluster) = lived(MODERN, &["a", "b"]);
    let before = cluster.clone();
    cluster.delete_uncommitted(&["a"]);
    replay(&mut world, &mut cluster);
    let info = world.guard.knowledge().live()[0]
        .root
        .snapshots
        .iter()
        .find(|s| &*s.name == "a")
        .unwrap()
        .uuid
        .clone();
    let name = key(&format!("snap-{info}.dat"));
    let class = Class::SnapshotInfo(info);
    assert_eq!(
        world.delete(&name, &class),
        Ok(Deletion::Soft { held_by: Some(1) })
    );
    let mut next = before;
    next.relist(&cluster);
    next.create("c", &[BOOKS]);
    replay(&mut world, &mut next);
    assert!(
        world.store.objects.contains_key(name.as_str()),
        "shown again by the root that needs it"
    );
    world.check();
}

#[test]
fn an_unreadable_file_list_protects_the_whole_shard() {
    let (world, _) = lived(MODERN, &["a"]);
    let mut objects: BTreeMap<_, _> = world.store.objects;
    let list = objects
        .keys()
        .find(|name| matches!(class_of("", name), Class::ShardSnapshot { .. }))
        .unwrap()
        .clone();
    objects.get_mut(&list).unwrap()[30] ^= 1;
    let world = World::adopted(objects, "");
    let directory = list.rsplit_once('/').unwrap().0;
    let stranger = format!("{directory}/__never-listed-anywhere0");
    let refusal = verdict(&world, &stranger).unwrap_err();
    assert!(
        matches!(refusal.reason, Reason::MayBeNeeded { .. }),
        "{refusal}"
    );
}

#[test]
fn an_explanation_says_what_an_object_is_and_who_needs_it() {
    let (world, _) = lived(MODERN, &["a", "b"]);
    let (blob, class) = find(&world, is_data);
    let explanation = world.guard.explain(&blob, &class);
    assert_eq!(explanation.class, "data");
    assert_eq!(
        explanation.size,
        Some(world.store.objects[blob.as_str()].len() as u64)
    );
    assert!(
        !explanation.holders.is_empty() && explanation.holders.iter().all(|holder| holder.current)
    );
    assert!(explanation.delete.is_err());
}

fn snapshot_of(uuid: &str) -> impl Fn(&Class) -> bool {
    move |class| matches!(class, Class::SnapshotInfo(found) if **found == *uuid)
}

#[test]
fn what_a_snapshot_of_2_x_needs_may_not_go_and_the_sentence_names_it() {
    let (world, _) = lived(Form::List, &["nightly-07"]);
    let (blob, class) = find(&world, is_data);
    assert_eq!(
        world.guard.delete(&blob, &class).unwrap_err().to_string(),
        format!(
            "'{blob}' is needed by snapshot 'nightly-07' of repository 'prod'; delete the snapshot through the cluster instead."
        )
    );
    for needed in [
        "meta-nightly-07.dat",
        "indices/books/meta-nightly-07.dat",
        "indices/books/0/snap-nightly-07.dat",
    ] {
        let refusal = verdict(&world, needed).unwrap_err();
        assert_eq!(refusal.reason.label(), "needed", "{refusal}");
    }
    assert_eq!(verdict(&world, "index"), Ok(Deletion::KeepServing));
}

#[test]
fn a_snapshot_of_2_x_goes_with_its_description_and_what_it_alone_needed_may_go_then() {
    let (mut world, _) = lived(Form::List, &["a", "b"]);
    let of_a = "indices/books/meta-a.dat";
    assert!(verdict(&world, of_a).is_err());
    let (key, class) = find(&world, snapshot_of("a"));
    world.delete(&key, &class).unwrap();
    assert_eq!(verdict(&world, of_a), Ok(Deletion::Soft { held_by: None }));
    let names = world.guard.knowledge().newest().unwrap();
    let names: Vec<_> = names.root.snapshots.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["b"]);
    let of_b = world
        .guard
        .knowledge()
        .members()
        .find(|member| is_data(&member.class) && !member.snapshots.is_empty());
    let of_b = of_b.unwrap();
    let refusal = world.guard.delete(&of_b.key, &of_b.class).unwrap_err();
    assert!(refusal.to_string().contains("needed by snapshot 'b'"));
}

/// The second snapshot of a cluster, of which one data file does not arrive: the file, and the first refusal.
fn a_file_is_lost(form: Form) -> (World, ObjectKey, Refusal) {
    let (mut world, mut cluster) = lived(form, &["a"]);
    cluster.create("b", &[BOOKS]);
    let mut requests = cluster.requests();
    let lost = requests
        .iter()
        .position(|request| matches!(request, Request::Put { class, .. } if is_data(class)));
    let Request::Put { key, .. } = requests.remove(lost.unwrap()) else {
        panic!("a data file is put");
    };
    let refused = requests
        .into_iter()
        .find_map(|request| world.request(request).err());
    (world, key, refused.unwrap())
}

#[test]
fn a_snapshot_of_2_x_that_lacks_a_file_is_not_committed() {
    let (world, key, refusal) = a_file_is_lost(Form::List);
    assert_eq!(
        refusal.to_string(),
        format!(
            "The description of snapshot 'b' is refused in repository 'prod': '{key}' is missing, so that it \
             could not be restored; take the snapshot again."
        )
    );
    let newest = world.guard.knowledge().newest().unwrap();
    assert_eq!(newest.root.snapshots.len(), 1);
}

#[test]
fn a_root_that_lacks_a_file_is_refused_whichever_way_its_shard_indexes_are_named() {
    for form in [MODERN, LEGACY, Form::Legacy { sequential: true }] {
        let (_, key, refusal) = a_file_is_lost(form);
        let Reason::Incomplete {
            first, problems, ..
        } = refusal.reason
        else {
            panic!("{form:?}: {refusal}");
        };
        assert_eq!((first.key, problems), (key, 1), "{form:?}");
    }
}

#[test]
fn the_first_root_takes_over_what_was_listed() {
    let (mut world, mut cluster) = lived(Form::List, &["a", "b"]);
    cluster.take_over();
    replay(&mut world, &mut cluster);
    world.check();
    let (key, class) = find(&world, snapshot_of("a"));
    let refusal = world.guard.delete(&key, &class).unwrap_err();
    assert_eq!(refusal.reason.label(), "needed", "the root names it now");
    cluster.delete(&["a"], false);
    cluster.create("c", &[BOOKS]);
    replay(&mut world, &mut cluster);
    world.check();
}
