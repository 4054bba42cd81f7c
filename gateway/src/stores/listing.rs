//! A store's names in their order, one by one: whoever reads a whole store, or a stretch of it, reads it so.

use super::{Listed, Result, Store};

/// Names that are asked for at once.
const PAGE: usize = 1000;

/// Where a walk over a store's names is.
pub struct Listing<'a> {
    store: &'a dyn Store,
    prefix: &'a str,
    page: std::vec::IntoIter<Listed>,
    after: Option<String>,
    done: bool,
}

impl<'a> Listing<'a> {
    #[must_use]
    pub fn of(store: &'a dyn Store, prefix: &'a str) -> Self {
        Self {
            store,
            prefix,
            page: Vec::new().into_iter(),
            after: None,
            done: false,
        }
    }

    /// Only names after this one; None = all.
    #[must_use]
    pub fn behind(mut self, name: Option<&str>) -> Self {
        self.after = name.map(str::to_owned);
        self
    }

    /// None = that was all.
    pub async fn next(&mut self) -> Result<Option<Listed>> {
        loop {
            if let Some(listed) = self.page.next() {
                return Ok(Some(listed));
            }
            if self.done {
                return Ok(None);
            }
            let page = self
                .store
                .list(self.prefix, self.after.as_deref(), PAGE)
                .await?;
            self.done = page.len() < PAGE;
            self.after = page.last().map(|l| l.name.as_str().to_owned());
            self.page = page.into_iter();
        }
    }
}
