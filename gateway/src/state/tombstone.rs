//! Hidden objects whose bytes are still there.

use policies::key::ObjectKey;

use super::Object;

#[derive(Clone, PartialEq, Debug)]
pub struct Tombstone {
    pub id: u64,
    pub object: Object,
    /// Where the bytes are now: the object's own name, or one below the reserved prefix.
    pub location: ObjectKey,
    /// Journal sequence of the removal.
    pub removed: u64,
    /// Gateway uptime at which the retention ends.
    pub due_ms: u64,
}

impl Tombstone {
    #[must_use]
    pub fn due(&self) -> Due {
        Due {
            due_ms: self.due_ms,
            id: self.id,
        }
    }
}

/// A tombstone's place among those that are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    pub due_ms: u64,
    pub id: u64,
}
