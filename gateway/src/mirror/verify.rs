//! Compares a target with what it should hold: names and sizes from its listing, with `deep` the bytes.
//!
//! What it should hold is the catalog as of the mirror's position. What was committed since may or may not be there;
//! what was removed since is still there.

use std::collections::HashMap;

use policies::key::{Class, ObjectKey, Writing};

use super::source::Located;
use super::transfer::Landed;
use super::{Link, Mirror, Trouble};
use crate::state::Object;
use crate::stores::Stat;
use crate::stores::listing::Listing;

/// A report longer than this says nothing more to anybody.
const MOST: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Missing,
    Size,
    Checksum,
    /// The source does not have it.
    Extra,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Size => "size",
            Self::Checksum => "checksum",
            Self::Extra => "extra",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub key: ObjectKey,
    pub kind: Kind,
}

#[derive(Debug, Default)]
pub struct Report {
    pub applied: u64,
    /// The target's newest root.
    pub generation: Option<u64>,
    pub objects: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
    /// On the target, of no kind that a cluster makes.
    pub unknown: Vec<ObjectKey>,
}

impl Mirror {
    /// `progress` is told objects looked at, of about so many.
    pub async fn verify(
        &self,
        deep: bool,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Report, Trouble> {
        let link = &self.link;
        let source = &link.source;
        let row = self.row().await?;
        let mut report = Report {
            applied: row.map_or(0, |row| row.applied),
            generation: link.look().await?.root,
            ..Report::default()
        };
        let total = source.state.usage(source.id).await?.objects;
        let (mut walk, mut after) = (source.catalog(), None::<String>);
        loop {
            let objects = walk.page().await?.unwrap_or_default();
            let upto = objects.last().map(|o| o.key.clone());
            let upto = upto.filter(|_| walk.goes_on());
            let there = target(link, after.as_deref(), upto.as_ref()).await?;
            self.compare_page(deep, objects, there, &mut report).await?;
            progress(report.objects, total);
            match upto {
                Some(last) => after = Some(last.as_str().to_owned()),
                None => return Ok(report),
            }
        }
    }

    async fn compare_page(
        &self,
        deep: bool,
        objects: Vec<Object>,
        mut there: HashMap<ObjectKey, Stat>,
        report: &mut Report,
    ) -> Result<(), Trouble> {
        let source = &self.link.source;
        for object in objects {
            let stat = there.remove(&object.key);
            let class = source.class(&object.key);
            if object.sequence > report.applied || class == Some(Class::Pointer) {
                continue;
            }
            report.objects += 1;
            report.bytes += object.size;
            let kind = match stat {
                None => Some(Kind::Missing),
                Some(stat) if stat.size != object.size => Some(Kind::Size),
                Some(_) if deep && !self.same_bytes(&object).await? => Some(Kind::Checksum),
                Some(_) => None,
            };
            // The source may have gone on meanwhile, and the mirror with it.
            if let Some(kind) = kind
                && self.still_wrong(&object).await?
            {
                report.note(object.key, kind);
            }
        }
        for (key, _) in there {
            match source.class(&key) {
                Some(Class::Unknown) => {
                    if report.unknown.len() < MOST {
                        report.unknown.push(key);
                    }
                }
                Some(class) if class.writing() != Writing::Free => {
                    let visible = source.state.object(source.bucket_id, &key).await?.object;
                    let hidden = source.state.tombstone(source.id, &key).await?;
                    let later = hidden.iter().any(|t| t.removed > report.applied);
                    if visible.is_none() && !later {
                        report.note(key, Kind::Extra);
                    }
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    async fn same_bytes(&self, object: &Object) -> Result<bool, Trouble> {
        let source = &self.link.source;
        let whole = source
            .state
            .object(source.bucket_id, &object.key)
            .await?
            .object;
        let Some(whole) = whole.filter(|whole| whole.sequence == object.sequence) else {
            return Ok(true);
        };
        Ok(self.link.compare(&Located::of(whole)).await? == Landed::Same)
    }

    async fn still_wrong(&self, object: &Object) -> Result<bool, Trouble> {
        let source = &self.link.source;
        let now = source
            .state
            .object(source.bucket_id, &object.key)
            .await?
            .object;
        if now.is_none_or(|now| now.sequence != object.sequence) {
            return Ok(false);
        }
        let stat = self
            .link
            .target
            .stat(&object.key)
            .await
            .map_err(Trouble::Target)?;
        Ok(match stat {
            Some(stat) if stat.size == object.size => !self.same_bytes(object).await?,
            Some(_) | None => true,
        })
    }
}

impl Report {
    fn note(&mut self, key: ObjectKey, kind: Kind) {
        if self.problems.len() < MOST {
            self.problems.push(Problem { key, kind });
        }
    }
}

/// What the target holds of this repository after one key, up to and including another.
async fn target(
    link: &Link,
    after: Option<&str>,
    upto: Option<&ObjectKey>,
) -> Result<HashMap<ObjectKey, Stat>, Trouble> {
    let mut there = HashMap::new();
    let mut listing = Listing::of(link.target.as_ref(), "").behind(after);
    while let Some(listed) = listing.next().await.map_err(Trouble::Target)? {
        if upto.is_some_and(|upto| listed.name > *upto) {
            break;
        }
        if link.source.class(&listed.name).is_some() {
            there.insert(listed.name, listed.stat);
        }
    }
    Ok(there)
}
