//! A repository's catalog, page by page in the order of the keys.
//!
//! Invariant: a walk passes every object that is there from its begin to its end exactly once, and holds one page at a time. It goes
//! on behind the last entry of a page, be that an object or a common prefix: a page of prefixes alone is no end. What is
//! recorded or hidden meanwhile is seen or not, as it lies behind the walk or before it.

use std::sync::Arc;

use super::{BucketId, Entry, ListQuery, Object, RepositoryId, Result, State};

/// Entries of one page.
const PAGE: usize = 1000;

/// Objects of one repository that are still to be seen.
#[derive(Debug)]
pub struct Walk<'a> {
    state: &'a dyn State,
    pub(super) query: ListQuery,
    until: Option<String>,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// Over all of it.
    pub fn of(state: &'a dyn State, bucket: BucketId, repository: RepositoryId) -> Self {
        Self {
            state,
            query: ListQuery {
                bucket,
                repositories: Arc::from([repository]),
                prefix: String::new(),
                delimiter: None,
                after: None,
                limit: PAGE,
            },
            until: None,
            ended: false,
        }
    }

    /// Only keys that begin so and have no `/` behind that.
    #[must_use]
    pub fn beside(mut self, prefix: String) -> Self {
        self.query.prefix = prefix;
        self.query.delimiter = Some("/".into());
        self
    }

    /// Only keys behind `after`, up to and including `until`; None = from the first, to the last.
    #[must_use]
    pub fn between(mut self, after: Option<String>, until: Option<String>) -> Self {
        self.query.after = after;
        self.until = until;
        self
    }

    /// Whether the last page may have been followed by another.
    pub fn goes_on(&self) -> bool {
        !self.ended
    }

    /// The next objects, without their details; an empty page is no end. None = all were seen.
    pub async fn page(&mut self) -> Result<Option<Vec<Object>>> {
        if self.ended {
            return Ok(None);
        }
        let page = self.state.list(&self.query).await?;
        self.ended = !page.truncated || page.entries.is_empty();
        let mut objects = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            let key = match &entry {
                Entry::Object(object) => object.key.as_str(),
                Entry::Prefix(prefix) => prefix,
            };
            if self.until.as_deref().is_some_and(|until| key > until) {
                self.ended = true;
                break;
            }
            self.query.after = Some(key.to_owned());
            match entry {
                Entry::Object(object) => objects.push(object),
                Entry::Prefix(_) => {}
            }
        }
        Ok(Some(objects))
    }
}
