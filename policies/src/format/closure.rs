//! closure(N): every object that the snapshots of root N need.
//!
//! Decides: which objects must stay (and of what size), for which snapshots, and what is wrong with them. Two sets in one:
//! STRICT is what restores read (snapshot descriptions, metadata, shard `snap-*` and the files they list); FULL adds what
//! the next create or delete reads (the current shard `index-*` and the files listed there). Bugs of the clusters
//! are exactly the cases where the two disagree, so both are protected.
//!
//! Invariant: incremental. [`Knowledge`] holds what the live roots need; a new root is compared with it ([`Knowledge::propose`]),
//! and only what is new is looked up. The closure of a single root is the proposal to an empty [`Knowledge`].
//! Facts come from outside and may be incomplete: then the answer is the list of facts that are [`Needs`], the shell fetches
//! just those and asks again. More than one root is live while it is open from which one the cluster goes on.
//!
//! Source: restore, create, delete and clone of `BlobStoreRepository`; closure complete and exact on every fixture.

mod changes;
mod contents;
mod facts;
mod knowledge;
mod members;
mod newest;
mod propose;
pub(crate) mod sets;
mod shard;

pub use contents::Content;
pub use facts::{Facts, Needs, Observed};
pub use knowledge::{Knowledge, LiveRoot};
pub use members::{Holders, Member};
pub use newest::NewestSnapshot;
pub use propose::{Problem, ProblemKind, Proposal};
