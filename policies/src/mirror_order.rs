//! The order in which a mirror applies a repository's history, so that every prefix of it restores.

/// When a source's commit is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// At once; the mirror follows.
    Async,
    /// A root is acknowledged when the target has it.
    Barrier,
}

impl Mode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Barrier => "barrier",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Async, Self::Barrier]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}
