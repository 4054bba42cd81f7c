//! What several gateways on one state database have to agree upon.
//!
//! A gateway alone on its database (SQLite) needs none of it: [`Nodes::shared`] is false there, and the rest
//! has an answer that changes nothing. Times decide only when a node is presumed dead; what protects a write
//! from whoever presumed too early is that an intent ends once and that its upload is gone first.

use async_trait::async_trait;
use policies::identity::StoreName;
use policies::lock::Permit;

use super::duties::Duty;
use super::{Intent, IntentId, NewIntent, Object, Removal, RepositoryId, Result, WriteError};

#[async_trait]
pub trait Nodes {
    /// Other processes change this database too: what is known from memory may be old.
    fn shared(&self) -> bool;

    /// How this node is called among those that share the database.
    fn name(&self) -> Option<&str>;

    /// Makes a piece of work this caller's, until the duty is dropped or lost. None = somebody has it, here or on
    /// another node. It spares nodes to work against each other; it protects nothing: whoever stood still for too
    /// long has lost it and does not know yet.
    async fn take_duty(&self, work: &str) -> Result<Option<Box<dyn Duty>>>;

    /// This process is alive. Called every two seconds.
    async fn beat(&self) -> Result<()>;

    /// Open intents that this process may end unasked: its own, and those of nodes presumed dead.
    async fn abandoned_intents(&self, repository: RepositoryId) -> Result<Vec<Intent>>;

    /// How many open intents are those of other nodes that are presumed dead.
    async fn orphaned_intents(&self, repository: RepositoryId) -> Result<u64>;

    /// This node is the first of those that are alive: it does what one node should do. Two may think so for a
    /// while.
    async fn leads(&self) -> Result<bool>;

    /// Nodes other than this one that are not presumed dead.
    async fn others_alive(&self) -> Result<usize>;

    /// A secret that all nodes of the database know; made by the first that asks. None = nobody shares it.
    async fn shared_secret(&self) -> Result<Option<[u8; 32]>>;

    /// From now on, and after every restart, every node of this database knows `token` as one of theirs in `store`.
    async fn announce_incarnation(&self, store: &StoreName, token: &str) -> Result<()>;
    async fn knows_incarnation(&self, store: &StoreName, token: &str) -> Result<bool>;
    /// Some token of this database was announced in `store` before.
    async fn has_stood(&self, store: &StoreName) -> Result<bool>;

    /// As `State::open_intent`, if nothing was committed after the journal's entry `judged` that could change
    /// the guard's judgement: no root, and for a root nothing deleted or replaced either. Else
    /// [`WriteError::KeyBusy`]: follow the journal, judge again.
    async fn open_judged(
        &self,
        permit: &Permit,
        intent: NewIntent,
        judged: u64,
    ) -> Result<IntentId, WriteError>;
    /// As `State::remove`, with the same condition.
    async fn remove_judged(
        &self,
        permit: &Permit,
        removals: Vec<Removal>,
        judged: u64,
    ) -> Result<Vec<Option<Object>>, WriteError>;
}
