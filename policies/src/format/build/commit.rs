//! The commit: the next root, the pointer to it, and the old roots that then may go.

use super::Cluster;
use crate::key::{Class, ObjectKey};

impl Cluster {
    /// `_cleanup`: a new root with the same content, if any old root is left.
    pub fn cleanup(&mut self) {
        let roots = self.stale_roots(self.generation.unwrap_or(0));
        if roots.is_empty() {
            return;
        }
        self.put_root();
        self.delete_all(&roots);
    }

    /// Writes the next root and the pointer; the old roots that the form deletes after it.
    pub(super) fn put_root(&mut self) -> Vec<ObjectKey> {
        let generation = self.next;
        self.next += 1;
        let json = self.root_json();
        self.put(self.layout.root(generation), Class::Root(generation), json);
        self.put(
            self.layout.pointer(),
            Class::Pointer,
            generation.to_be_bytes().to_vec(),
        );
        // Before 7.6 the previous root stays.
        let below = if self.legacy() {
            generation.saturating_sub(1)
        } else {
            generation
        };
        self.generation = Some(generation);
        self.stale_roots(below)
    }

    /// Roots below `generation` that a listing shows.
    fn stale_roots(&self, generation: u64) -> Vec<ObjectKey> {
        let stale = |(key, class): (&ObjectKey, &Class)| {
            let Class::Root(other) = class else {
                return None;
            };
            (*other < generation).then(|| key.clone())
        };
        self.objects.iter().filter_map(stale).collect()
    }
}
