//! What must be true of a life at any moment, and after an operator brought something back.

use std::collections::BTreeSet;
use std::sync::Arc;

use policies::format::closure::{Knowledge, Member};
use policies::format::paths::Layout;
use policies::key::{Class, ObjectKey};

use super::life::{Alone, Life, Objects, Then};
use crate::repository::miniature::BASE;

/// A key as the view of a restore point spells it.
fn spelt(key: &ObjectKey, generation: u64) -> String {
    let at = key.as_str().find("base/").expect("all keys lie below it");
    let (before, rest) = key.as_str().split_at(at);
    format!("{before}base@{generation}/{}", &rest["base/".len()..])
}

impl Life {
    /// The promises that hold after every step.
    pub async fn check(&self) {
        if self.newest().is_none() {
            return;
        }
        self.check_newest().await;
        let (door, open) = (&self.world().door, &self.world().open);
        let listed = door.restore_points(open, None, 1000).await.unwrap();
        let complete: BTreeSet<u64> = listed
            .iter()
            .filter(|point| point.root.complete)
            .map(|point| point.root.generation)
            .collect();
        for generation in self.points.keys() {
            assert!(
                complete.contains(generation) || !self.is_held(*generation),
                "restore point {generation} is held and not complete; uptime {}",
                self.uptime
            );
        }
        for generation in complete {
            self.check_view(generation).await;
        }
    }

    /// All that the newest root needs reads as it was.
    pub async fn check_newest(&self) {
        let newest = self.newest().expect("there is a root");
        let then = &self.points[&newest];
        let needed = if then.root.is_legacy_form() {
            &then.restored
        } else {
            &then.closure
        };
        for key in needed {
            let read = self.read(key.as_str()).await;
            assert!(
                read.as_ref().is_ok_and(|bytes| bytes == then.bytes(key)),
                "{key} of the newest root {newest}: {read:?}"
            );
        }
        assert!(
            self.pinned.is_subset(&then.names()),
            "a pinned snapshot is gone"
        );
    }

    /// A view reads what was, and lists it: what the root needs wholly, and nothing that was not there.
    async fn check_view(&self, generation: u64) {
        let then = &self.points[&generation];
        for key in &then.closure {
            let read = self.read(&spelt(key, generation)).await;
            assert!(
                read.as_ref().is_ok_and(|bytes| bytes == then.bytes(key)),
                "{key} in the view of root {generation}: {read:?}"
            );
        }
        let listed = self.list(&format!("{BASE}@{generation}/"), 3).await;
        let mut sorted = listed.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(listed, sorted, "in order, nothing twice");
        let listed: BTreeSet<String> = listed.into_iter().collect();
        let other_root = |class: &Class| matches!(class, Class::Root(n) if *n != generation);
        let pointer = format!("{BASE}@{generation}/index.latest");
        let allowed: BTreeSet<String> = then
            .visible
            .iter()
            .filter(|(_, (class, _))| !other_root(class))
            .map(|(key, _)| spelt(key, generation))
            .chain([pointer.clone()])
            .collect();
        let below = |key: &&ObjectKey| key.as_str().starts_with("base/");
        let needed = then.closure.iter().filter(below);
        let needed: BTreeSet<String> = needed
            .map(|key| spelt(key, generation))
            .chain([pointer.clone()])
            .collect();
        assert!(
            listed.is_subset(&allowed) && needed.is_subset(&listed),
            "view {generation}: too much {:?}, too little {:?}",
            listed.difference(&allowed).collect::<Vec<_>>(),
            needed.difference(&listed).collect::<Vec<_>>()
        );
        let pointed = self.read(&pointer).await.unwrap();
        assert_eq!(pointed[..], generation.to_be_bytes());
    }

    /// What one restore point has that another has not is exactly told.
    pub async fn check_difference(&self, from: u64, to: u64) {
        let (door, open) = (&self.world().door, &self.world().open);
        let told = door.what_changed(open, from, to).await.unwrap();
        let (before, after) = (&self.points[&from], &self.points[&to]);
        let keys = |members: &[Member]| members.iter().map(|m| m.key.clone()).collect::<Vec<_>>();
        let only = |a: &BTreeSet<ObjectKey>, b: &BTreeSet<ObjectKey>| {
            a.difference(b).cloned().collect::<Vec<_>>()
        };
        assert_eq!(
            keys(&told.objects_came),
            only(&after.closure, &before.closure)
        );
        assert_eq!(
            keys(&told.objects_went),
            only(&before.closure, &after.closure)
        );
        for (members, then) in [(&told.objects_came, after), (&told.objects_went, before)] {
            for member in members {
                let size = then.bytes(&member.key).len() as u64;
                assert_eq!(member.size, Some(size), "{}", member.key);
            }
        }
        let names = |all: &[Arc<str>]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let only = |a: &Then, b: &Then| {
            let (a, b) = (a.names(), b.names());
            a.difference(&b).cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(&told.snapshots_came), only(after, before));
        assert_eq!(names(&told.snapshots_went), only(before, after));
    }

    /// The newest root is that of an older restore point, and needs the same bytes.
    pub fn check_same_as(&self, generation: u64, now: u64) {
        let (then, new) = (&self.points[&generation], &self.points[&now]);
        let layout = Layout::new(BASE).unwrap();
        let (old_root, new_root) = (layout.root(generation), layout.root(now));
        assert_eq!(then.bytes(&old_root), new.bytes(&new_root));
        let mut expected = then.closure.clone();
        expected.remove(&old_root);
        let mut found = new.closure.clone();
        found.remove(&new_root);
        assert_eq!(found, expected);
        for key in expected {
            assert_eq!(new.bytes(&key), then.bytes(&key), "{key}");
        }
    }

    /// The newest root holds a snapshot that it had not, with the bytes that it had, and everything that the root before
    /// it held.
    pub fn check_undeleted(&self, name: &str, donor: u64, before: u64, now: u64) {
        let (then, before, new) = (
            &self.points[&donor],
            &self.points[&before],
            &self.points[&now],
        );
        let mut names = before.names();
        names.insert(name.to_owned());
        assert_eq!(new.names(), names);
        for snapshot in names {
            let of = if snapshot == *name { then } else { before };
            for key in restored_from(of, &snapshot) {
                assert!(new.closure.contains(&key), "{key} of {snapshot}");
                assert_eq!(new.bytes(&key), of.bytes(&key), "{key} of {snapshot}");
            }
        }
    }
}

/// What a restore of one snapshot reads.
fn restored_from(then: &Then, name: &str) -> Vec<ObjectKey> {
    let mut knowledge = Knowledge::new(Layout::new(BASE).unwrap());
    let nothing = Objects::new();
    let facts = Alone(&then.visible, &nothing);
    let proposal = knowledge.propose(Arc::clone(&then.root), &facts).unwrap();
    knowledge.commit(proposal);
    let needs = |member: &Member| {
        member.snapshots.iter().any(|s| **s == *name)
            && !matches!(member.class, Class::Root(_) | Class::ShardIndex { .. })
    };
    knowledge
        .members()
        .filter(needs)
        .map(|member| member.key)
        .collect()
}
