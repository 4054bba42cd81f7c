//! How an open intent ends when its owner does not end it.
//!
//! Invariant: the answer depends only on what the store holds after the upload is fenced, so whoever
//! resolves gets the same one, and the owner who wakes up later can change nothing. The order is the
//! proof: first the upload is gone, then the object is read, then it is decided. Anything that fits
//! neither the intent nor the catalog is doubt, and doubt freezes.

/// What the store says of the intent's hidden upload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UploadFact {
    /// Surely gone: it was published or can never be.
    Gone,
    /// Still there, or the store did not say.
    NotKnownGone,
}

/// What was read at the intent's name after the upload was gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Found<C> {
    Nothing,
    Content(C),
    /// The store did not answer: never to be read as absent.
    Unknown,
}

/// What is known when an intent is to be resolved. `C` identifies content: its size and hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IntentFacts<C> {
    pub upload: UploadFact,
    pub found: Found<C>,
    /// What the intent was to publish.
    pub expects: C,
    /// What the catalog says is visible at that name.
    pub catalog: Option<C>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resolution {
    /// The write took effect: record it.
    Commit,
    /// It did not, and never will.
    Abort,
    /// Abort the upload (again), read, ask again.
    AskAgain,
    /// The store holds what nobody wrote through this gateway.
    Freeze,
}

#[must_use]
pub fn resolve<C: PartialEq>(facts: &IntentFacts<C>) -> Resolution {
    let IntentFacts {
        upload,
        found,
        expects,
        catalog,
    } = facts;
    match (upload, found) {
        (UploadFact::NotKnownGone, _) | (UploadFact::Gone, Found::Unknown) => Resolution::AskAgain,
        (UploadFact::Gone, Found::Content(content)) if content == expects => Resolution::Commit,
        (UploadFact::Gone, Found::Content(content)) if Some(content) == catalog.as_ref() => {
            Resolution::Abort
        }
        (UploadFact::Gone, Found::Nothing) if catalog.is_none() => Resolution::Abort,
        (UploadFact::Gone, Found::Content(_) | Found::Nothing) => Resolution::Freeze,
    }
}
