//! What happened in a schedule, in order, as seen from outside of the code that is tested: the store's own effects,
//! the database's rows after each commit, what clients asked and were told.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use policies::lock::Term;

/// A gateway with its state database. A clone or a restored copy is another lineage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lineage(pub usize);

/// One start of a gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Life(pub usize);

#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    Ok,
    /// Refused for good: the write must never be seen.
    Refused(String),
    /// 503, or the gateway died: unknown.
    Unknown(String),
    /// Of a read: the content, or surely none.
    Content(Option<Bytes>),
    /// Of a listing.
    Keys(Vec<String>),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Asked {
    Put { key: String, content: Bytes },
    Delete { key: String },
    Get { key: String },
    List,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    Asked {
        operation: usize,
        cluster: &'static str,
        life: Life,
        asked: Asked,
    },
    Told {
        operation: usize,
        told: Told,
    },
    /// The store's content at a name changed; None = removed.
    Effect {
        life: Life,
        term: Term,
        name: String,
        content: Option<Bytes>,
    },
    Lock {
        lineage: Lineage,
        version: u64,
        epoch: u64,
        state: String,
        holder: Option<String>,
    },
    IntentOpened {
        lineage: Lineage,
        intent: i64,
        key: String,
        epoch: u64,
        cluster: String,
        /// The lock row at that instant.
        row_epoch: u64,
        row_holder: Option<String>,
    },
    IntentEnded {
        lineage: Lineage,
        intent: i64,
    },
    Journal {
        lineage: Lineage,
        sequence: u64,
        key: String,
        hash: Option<Vec<u8>>,
    },
    /// A lineage begins as a copy of another one, with its journal up to here.
    Copied {
        from: Lineage,
        to: Lineage,
        sequence: u64,
        /// While the gateway on the original ran.
        running: bool,
    },
    Started {
        life: Life,
        lineage: Lineage,
    },
    /// The start is through, frozen or not; or an operator thawed what listened frozen.
    Listens {
        life: Life,
        frozen: bool,
    },
    Ended {
        life: Life,
    },
    /// Faults are over, nothing is under way.
    Rest {
        lineage: Lineage,
        store: Vec<(String, Bytes)>,
        catalog: Vec<(String, u64, Option<Vec<u8>>)>,
        /// Where deleted content lies.
        kept: Vec<String>,
        intents: usize,
    },
    /// Something the schedule itself found.
    Broken(String),
    Note(String),
}

#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<Event>>>);

impl History {
    pub fn add(&self, event: Event) {
        self.0.lock().push(event);
    }

    pub fn note(&self, text: impl Into<String>) {
        self.add(Event::Note(text.into()));
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock())
    }
}
