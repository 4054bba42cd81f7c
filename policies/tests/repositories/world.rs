//! A store behind a guard: what clients see, what was hidden, and the rules that must hold after every request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policies::format::build::Request;
use policies::format::closure::Knowledge;
use policies::format::digest;
use policies::format::frame::Limits;
use policies::format::paths::Layout;
use policies::guard::{Admitted, Deletion, Guard, Incoming, Overwrite, Refusal, Rules, Scope};
use policies::identity::Repository;
use policies::key::{Class, ObjectKey};

use super::Store;

pub struct World {
    pub guard: Guard,
    pub store: Store,
    pub hidden: BTreeMap<String, Vec<u8>>,
    pub base_path: String,
    pub pinned: Vec<Arc<str>>,
}

impl World {
    pub fn empty(base_path: &str) -> Self {
        let layout = Layout::new(base_path).unwrap();
        Self {
            guard: Guard::new(Repository::new("prod"), layout, Scope::Complete),
            store: Store::default(),
            hidden: BTreeMap::new(),
            base_path: base_path.to_owned(),
            pinned: Vec::new(),
        }
    }

    pub fn adopted(objects: BTreeMap<String, Vec<u8>>, base_path: &str) -> Self {
        let store = Store {
            objects,
            listing: None,
        };
        let (knowledge, _) = store.adopt(base_path);
        Self {
            guard: Guard::adopted(Repository::new("prod"), knowledge),
            store,
            hidden: BTreeMap::new(),
            base_path: base_path.to_owned(),
            pinned: Vec::new(),
        }
    }

    /// Does what the guard allows; tells what it refuses.
    pub fn request(&mut self, request: Request) -> Result<(), Refusal> {
        match request {
            Request::Put {
                key,
                class: Class::Root(generation),
                bytes,
            } => {
                let admitted = self.admit(generation, &bytes)?;
                for key in admitted.revived() {
                    let bytes = self
                        .hidden
                        .remove(key.as_str())
                        .expect("what is revived was hidden");
                    self.store.objects.insert(key.to_string(), bytes);
                }
                self.guard.committed(admitted);
                self.store.objects.insert(key.to_string(), bytes);
            }
            Request::Put { key, class, bytes } => self.put(&key, &class, bytes)?,
            Request::Delete { key, class } => {
                self.delete(&key, &class)?;
            }
        }
        Ok(())
    }

    pub fn admit(&self, generation: u64, bytes: &[u8]) -> Result<Admitted, Refusal> {
        let candidate = self.guard.candidate(generation, bytes)?;
        let rules = Rules {
            bound_cluster: None,
            pinned: &self.pinned,
        };
        self.store
            .ask(|facts| self.guard.admit(&candidate, rules, facts))
    }

    fn put(&mut self, key: &ObjectKey, class: &Class, bytes: Vec<u8>) -> Result<(), Refusal> {
        if *class == Class::Pointer {
            self.guard.pointer(&bytes)?;
        }
        let digest = digest::read(class, &bytes, Limits::default());
        if let Some(existing) = self.store.objects.get(key.as_str()) {
            let incoming = Incoming {
                same_bytes: *existing == bytes,
                digest: digest.as_ref(),
            };
            if self.guard.overwrite(key, class, incoming)? == Overwrite::Same {
                return Ok(());
            }
        }
        self.guard.written(key, class, digest.as_ref());
        let before = self.store.objects.insert(key.to_string(), bytes);
        if let Some(candidate) = self.guard.announced(key, class, digest.as_ref()) {
            let admitted = self
                .store
                .ask(|facts| self.guard.admit(&candidate, Rules::default(), facts));
            match admitted {
                Ok(admitted) => self.guard.committed(admitted),
                Err(refusal) => {
                    match before {
                        Some(before) => self.store.objects.insert(key.to_string(), before),
                        None => self.store.objects.remove(key.as_str()),
                    };
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    pub fn delete(&mut self, key: &ObjectKey, class: &Class) -> Result<Deletion, Refusal> {
        let deletion = self.guard.delete(key, class)?;
        if deletion != Deletion::KeepServing
            && let Some(bytes) = self.store.objects.remove(key.as_str())
        {
            self.hidden.insert(key.to_string(), bytes);
            self.guard.deleted(key, class);
        }
        Ok(deletion)
    }

    /// What is known step by step equals what the store says when read anew, nothing is missing, and nothing that is needed may
    /// be deleted.
    pub fn check(&self) {
        let Some(newest) = self.guard.knowledge().newest() else {
            return;
        };
        let (fresh, problems) = self.store.adopt(&self.base_path);
        assert_eq!(problems, []);
        assert_eq!(members(self.guard.knowledge()), members(&fresh));
        for member in fresh.members() {
            let verdict = self.guard.delete(&member.key, &member.class);
            let only_indexed = newest.root.is_legacy_form() && member.snapshots.is_empty();
            let root_without_snapshots = matches!(member.class, Class::Root(_));
            let is_the_snapshot =
                newest.root.of_list && matches!(member.class, Class::SnapshotInfo(_));
            assert!(
                verdict.is_err() || is_the_snapshot || only_indexed && !root_without_snapshots,
                "{} may go: {verdict:?}",
                member.key
            );
        }
    }
}

type Known = (String, Option<u64>, Option<u32>, Vec<Arc<str>>);

fn members(knowledge: &Knowledge) -> BTreeSet<Known> {
    knowledge
        .members()
        .map(|m| (m.key.to_string(), m.size, m.checksum, m.snapshots))
        .collect()
}
