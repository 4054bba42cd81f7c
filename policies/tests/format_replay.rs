//! What real clusters did between two states of a fixture is admitted, and what they removed may go.

#![allow(clippy::unwrap_used, reason = "a test")]

mod repositories;

use policies::format::build::Request;
use policies::guard::Reason;
use policies::key::{Class, ObjectKey};
use repositories::world::World;
use repositories::{Fixture, class_of};

/// (archive, state before, state after)
const STEPS: &[(&str, &str, &str)] = &[
    ("elasticsearch-5.6.16", "before-delete", "after-delete"),
    ("elasticsearch-7.17.29", "before-delete", "after-delete"),
    ("elasticsearch-8.19.21", "before-delete", "after-delete"),
    (
        "mixed-elasticsearch-2.4-6.8",
        "before-delete",
        "after-delete",
    ),
    (
        "mixed-elasticsearch-6.8-8.19",
        "before-delete",
        "after-delete",
    ),
    (
        "mixed-elasticsearch-6.8-8.19",
        "after-delete",
        "after-snapshot",
    ),
    (
        "mixed-life-elasticsearch-7.10.2",
        "before-delete",
        "after-delete",
    ),
    ("mixed-opensearch-1.3-3.8", "before-delete", "after-delete"),
];

fn fixture<'a>(all: &'a [Fixture], archive: &str, state: &str) -> &'a Fixture {
    all.iter()
        .find(|fixture| fixture.name == format!("{archive}/{state}"))
        .unwrap()
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

#[test]
fn a_step_of_a_real_cluster_is_admitted_and_its_deletes_are_allowed() {
    let all = repositories::all();
    for (archive, before, after) in STEPS {
        let (before, after) = (
            fixture(&all, archive, before),
            fixture(&all, archive, after),
        );
        let mut world = World::adopted(before.objects.clone(), before.base_path);
        let changed = after
            .objects
            .iter()
            .filter(|(name, bytes)| before.objects.get(*name) != Some(bytes));
        let mut requests: Vec<_> = changed
            .map(|(name, bytes)| {
                let class = class_of(after.base_path, name);
                Request::Put {
                    key: key(name),
                    class,
                    bytes: bytes.clone(),
                }
            })
            .collect();
        // Everything else, then roots, then the pointer.
        requests.sort_by_key(|request| match request {
            Request::Put {
                class: Class::Root(generation),
                ..
            } => 1 + generation,
            Request::Put {
                class: Class::Pointer,
                ..
            } => u64::MAX,
            Request::Put { .. } | Request::Delete { .. } => 0,
        });
        let gone = before
            .objects
            .keys()
            .filter(|name| !after.objects.contains_key(*name));
        requests.extend(gone.map(|name| Request::Delete {
            key: key(name),
            class: class_of(before.base_path, name),
        }));
        for request in requests {
            let shown = format!("{request:?}");
            if let Err(refusal) = world.request(request) {
                panic!("{archive}: {refusal}\n{}", &shown[..shown.len().min(200)]);
            }
        }
        world.check();
        assert_eq!(world.store.objects, after.objects, "{archive}");
    }
}

#[test]
fn what_was_removed_later_may_not_go_before() {
    let all = repositories::all();
    for (archive, before, after) in STEPS {
        let (before, after) = (
            fixture(&all, archive, before),
            fixture(&all, archive, after),
        );
        let world = World::adopted(before.objects.clone(), before.base_path);
        let mut refused = 0;
        for name in before
            .objects
            .keys()
            .filter(|name| !after.objects.contains_key(*name))
        {
            let class = class_of(before.base_path, name);
            match world.guard.delete(&key(name), &class) {
                Err(refusal) => {
                    refused += 1;
                    assert!(matches!(
                        refusal.reason,
                        Reason::Needed { .. } | Reason::Indexed { .. } | Reason::NewestRoot { .. }
                    ));
                }
                Ok(_) => assert!(
                    matches!(class, Class::Root(_) | Class::ShardIndex { .. }),
                    "{archive} {name} is of the old root"
                ),
            }
        }
        assert!(refused > 0, "{archive}");
    }
}

#[test]
fn the_key_of_every_member_is_told_back_to_its_class() {
    for fixture in repositories::all() {
        let world = World::adopted(fixture.objects.clone(), fixture.base_path);
        for member in world.guard.knowledge().members() {
            assert_eq!(
                class_of(fixture.base_path, member.key.as_str()),
                member.class,
                "{}",
                fixture.name
            );
        }
    }
}
