//! The words of the domain as types, parsed once at the edge.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name! {
    /// Who signs requests: one Elasticsearch or OpenSearch cluster, one set of access keys.
    Cluster
}
name! {
    /// The configured name of a repository: a bucket and a base path.
    Repository
}
name! {
    /// A bucket as clients address it.
    Bucket
}
name! {
    /// The configured name of a store: where bytes rest.
    StoreName
}
name! {
    /// One hand-over: random, made once, kept in the lock row and in the anchor, so that an anchor found
    /// after a crash or a lost answer tells whose it is.
    Handover
}

impl Cluster {
    /// The gateway itself, where it acts on no cluster's behalf.
    #[must_use]
    pub fn gateway() -> Self {
        Self::new("snapgate")
    }
}

/// The term of one writer of a repository. Minted once in history, only grows. 0 = nobody ever wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
