//! What an applier must know of its target before it plans: newest root and pointer.

use policies::key::{Class, ObjectKey};
use policies::mirror_order::{Facts, Pointer};

use super::{Link, Trouble};
use crate::stores::own;

impl Link {
    /// Looks at the target anew.
    pub async fn look(&self) -> Result<Facts, Trouble> {
        Ok(Facts {
            keys: std::collections::HashMap::new(),
            root: self
                .roots()
                .await?
                .last()
                .map(|(generation, _)| *generation),
            pointer: self.pointer().await?,
        })
    }

    /// The target's roots by generation.
    pub async fn roots(&self) -> Result<Vec<(u64, ObjectKey)>, Trouble> {
        let prefix = format!("{}index-", self.source.prefix);
        let listed = own::names(self.target.as_ref(), &prefix).await;
        let mut roots: Vec<(u64, ObjectKey)> = listed
            .map_err(Trouble::target)?
            .into_iter()
            .filter_map(|key| match self.source.class(&key) {
                Some(Class::Root(generation)) => Some((generation, key)),
                _other => None,
            })
            .collect();
        roots.sort_unstable_by_key(|(generation, _)| *generation);
        Ok(roots)
    }

    async fn pointer(&self) -> Result<Pointer, Trouble> {
        let key = self.source.key("index.latest");
        let there = own::read(self.target.as_ref(), &key).await;
        Ok(match there.map_err(Trouble::target)? {
            None => Pointer::Absent,
            Some(bytes) => match <[u8; 8]>::try_from(bytes) {
                Ok(bytes) => Pointer::Names(u64::from_be_bytes(bytes)),
                Err(_) => Pointer::Unreadable,
            },
        })
    }
}
