//! Is everything there that the snapshots of the newest root need?
//!
//! Shallow: every member of the closure against the store's own listing, presence and size; and the bytes of what was wrong
//! before. Deep: all bytes, the root's
//! text, frames of metadata and Lucene footers of data files, parts put together; and against the catalog's hash, where there is
//! one, because intact bytes may be of something else (`policies/CORRUPTION.md`). What lies there is read from the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use policies::format::closure::{Knowledge, Member};
use policies::format::footer::LuceneFooter;
use policies::format::root::Root;
use policies::key::{Class, ObjectKey};

use super::door::OpenRepository;
use super::guarding::read_digest;
use super::ingest::store_failed;
use super::{Door, Error};
use crate::digest::Whole;
use crate::stores::listing::Listing;
use crate::watch::Warning;

#[cfg(test)]
mod tests;

/// Larger metadata counts as unreadable.
const LARGEST_METADATA: usize = 256 << 20;

/// What is wrong with one object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Missing,
    Size,
    Checksum,
    Unreadable,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Size => "size",
            Self::Checksum => "checksum",
            Self::Unreadable => "unreadable",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Problem {
    pub key: ObjectKey,
    pub kind: Kind,
    /// Names; none = only the next create or delete needs it.
    pub snapshots: Vec<Arc<str>>,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub generation: Option<u64>,
    pub snapshots: usize,
    pub blobs: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
    pub unknown: Vec<ObjectKey>,
    pub unreferenced_objects: u64,
    pub unreferenced_bytes: u64,
}

/// Tells how far a long piece of work is: done and total.
pub type Progress<'a> = dyn Fn(u64, u64) + Send + Sync + 'a;

impl Door {
    pub async fn verify(
        &self,
        open: &OpenRepository,
        deep: bool,
        progress: &Progress<'_>,
    ) -> Result<Report, Error> {
        self.check_contents_known(open)?;
        let mut report = Report::default();
        let (members, known) = open.guarding.with(|guard| {
            let knowledge = guard.knowledge();
            let known = knowledge.problems().map(|problem| problem.key.clone());
            let root = knowledge.newest().filter(|newest| !newest.root.of_list);
            report.generation = root.map(|newest| newest.root.generation);
            report.snapshots = knowledge
                .newest()
                .map_or(0, |newest| newest.root.snapshots.len());
            (needed(knowledge), known.collect::<HashSet<_>>())
        });
        let there = self.sizes_in_store(open, &members, &mut report).await?;
        let total = members.len() as u64;
        let mut footers: HashMap<String, LuceneFooter> = HashMap::new();
        for (position, member) in members.iter().enumerate() {
            progress(position as u64, total);
            let Some(size) = there.get(&member.key) else {
                report.problems.push(problem(member, Kind::Missing));
                continue;
            };
            report.blobs += 1;
            report.bytes += size;
            if member.size.is_some_and(|expected| expected != *size) {
                report.problems.push(problem(member, Kind::Size));
            } else if deep || known.contains(&member.key) {
                let last = is_last_part(&members, position);
                if let Some(kind) = self.bytes_wrong(open, member, last, &mut footers).await? {
                    report.problems.push(problem(member, kind));
                }
            }
        }
        progress(total, total);
        self.settle_problems(open, deep, &members, &mut report)
            .await?;
        Ok(report)
    }

    /// What a commit made superfluous meanwhile is no problem; what is one is a warning too, until a look finds it well.
    async fn settle_problems(
        &self,
        open: &OpenRepository,
        deep: bool,
        members: &[Member],
        report: &mut Report,
    ) -> Result<(), Error> {
        if deep {
            let wrong: HashSet<&ObjectKey> = report.problems.iter().map(|p| &p.key).collect();
            let keys = members.iter().map(|member| &member.key);
            let well: HashSet<&str> = keys
                .filter(|key| !wrong.contains(key))
                .map(ObjectKey::as_str)
                .collect();
            self.close_what_reads_well(open, &well).await?;
        }
        if report.problems.is_empty() {
            return Ok(());
        }
        let needed = open.guarding.with(|guard| needed(guard.knowledge()));
        let needed: HashSet<ObjectKey> = needed.into_iter().map(|member| member.key).collect();
        report
            .problems
            .retain(|problem| needed.contains(&problem.key));
        for problem in &report.problems {
            self.warn_of(open, problem).await?;
        }
        Ok(())
    }

    /// What the catalog never had is told as damage since the adoption.
    async fn warn_of(&self, open: &OpenRepository, problem: &Problem) -> Result<(), Error> {
        let what = match problem.kind {
            Kind::Missing | Kind::Size => {
                if let Some(object) = self.lookup(open, &problem.key).await?.object {
                    self.not_as_recorded(open, &object).await;
                }
                return Ok(());
            }
            Kind::Checksum => "its bytes are not what they should be",
            Kind::Unreadable => "the store fails to read it",
        };
        let warning = Warning::Rotten {
            key: problem.key.clone(),
            what,
        };
        self.raise(open, warning).await;
        Ok(())
    }

    /// Sizes of all members that the store lists; what else it holds goes into the report.
    async fn sizes_in_store(
        &self,
        open: &OpenRepository,
        members: &[Member],
        report: &mut Report,
    ) -> Result<HashMap<ObjectKey, u64>, Error> {
        let wanted: HashSet<&ObjectKey> = members.iter().map(|m| &m.key).collect();
        let mut sizes = HashMap::with_capacity(members.len());
        let mut there = Listing::of(open.store.as_ref(), "");
        while let Some(listed) = there
            .next()
            .await
            .map_err(|e| store_failed("list the store", &e))?
        {
            let Some(class) = self.class_here(open, &listed.name) else {
                continue;
            };
            if wanted.contains(&listed.name) {
                sizes.insert(listed.name, listed.stat.size);
            } else if class == Class::Unknown {
                report.unknown.push(listed.name);
            } else if !stands_alone(&class) {
                report.unreferenced_objects += 1;
                report.unreferenced_bytes += listed.stat.size;
            }
        }
        Ok(sizes)
    }

    async fn bytes_wrong(
        &self,
        open: &OpenRepository,
        member: &Member,
        last: bool,
        footers: &mut HashMap<String, LuceneFooter>,
    ) -> Result<Option<Kind>, Error> {
        let mut acknowledged = self.acknowledged(open, &member.key).await?;
        let Class::Data { part, .. } = &member.class else {
            let body = self.body(open, &member.key, LARGEST_METADATA).await?;
            if let Some(acknowledged) = &mut acknowledged {
                acknowledged.hasher.update(&body);
            }
            let unreadable = match &member.class {
                Class::Root(generation) => Root::parse(*generation, &body).is_err(),
                class => matches!(read_digest(class, body).await, Some(Err(_))),
            };
            let wrong = unreadable || self.is_other(open, member, acknowledged).await?;
            return Ok(wrong.then_some(Kind::Checksum));
        };
        let whole = member
            .key
            .as_str()
            .rsplit_once(".part")
            .filter(|_| part.is_some())
            .map_or(member.key.as_str(), |(whole, _)| whole)
            .to_owned();
        let mut footer = footers.remove(&whole).unwrap_or_default();
        let read = open
            .store
            .read(&member.key, None, None)
            .await
            .map_err(|e| store_failed("read a data blob", &e))?;
        let Some(mut content) = read else {
            return Ok(Some(Kind::Missing));
        };
        loop {
            match content.bytes.try_next().await {
                Ok(Some(chunk)) => {
                    if let Some(acknowledged) = &mut acknowledged {
                        acknowledged.hasher.update(&chunk);
                    }
                    footer.update(&chunk);
                }
                Ok(None) => break,
                Err(_) => return Ok(Some(Kind::Unreadable)),
            }
        }
        if self.is_other(open, member, acknowledged).await? {
            return Ok(Some(Kind::Checksum));
        }
        if !last {
            footers.insert(whole, footer);
            return Ok(None);
        }
        Ok(footer
            .finish_listed(member.checksum)
            .is_err()
            .then_some(Kind::Checksum))
    }

    /// What was acknowledged under this key, and a hasher for what lies there.
    async fn acknowledged(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<Option<Acknowledged>, Error> {
        let object = self.lookup(open, key).await?.object;
        Ok(object.map(|object| {
            let parts = object.details.as_deref().map_or(&[][..], |d| &d.parts);
            Acknowledged {
                sequence: object.sequence,
                hash: object.hash,
                hasher: Whole::of_parts(parts.iter().map(|part| part.size)),
            }
        }))
    }

    /// Whether other bytes were read than were acknowledged, by their hash; of metadata that was adopted, by the hash of what was
    /// read of it then. What was written anew meanwhile is not judged.
    async fn is_other(
        &self,
        open: &OpenRepository,
        member: &Member,
        acknowledged: Option<Acknowledged>,
    ) -> Result<bool, Error> {
        let Some(before) = acknowledged else {
            return Ok(false);
        };
        let hash = match (before.hash, &member.class) {
            (Some(hash), _) => Some(hash),
            // Adopted data is too much to be read then; its footer and its metadata tell of it.
            (None, Class::Data { .. }) => None,
            (None, _) => self.hash_kept(open, &member.key).await?,
        };
        let same = hash.is_none_or(|hash| before.hasher.finish() == hash);
        if same {
            return Ok(false);
        }
        let now = self.lookup(open, &member.key).await?.object;
        Ok(now.is_some_and(|now| now.sequence == before.sequence))
    }
}

/// What the newest root needs, and what it lacked before: of a file list that is missing nobody is known to need anything.
fn needed(knowledge: &Knowledge) -> Vec<Member> {
    let mut members: Vec<Member> = knowledge.members().collect();
    let known: HashSet<ObjectKey> = match knowledge.problems().next() {
        Some(_) => members.iter().map(|member| member.key.clone()).collect(),
        None => HashSet::new(),
    };
    let lacking = knowledge
        .problems()
        .filter(|problem| !known.contains(&problem.key));
    members.extend(lacking.map(|problem| Member {
        key: problem.key.clone(),
        class: problem.class.clone(),
        size: None,
        checksum: None,
        snapshots: problem.snapshots.clone(),
    }));
    members
}

/// The catalog's row.
struct Acknowledged {
    sequence: u64,
    hash: Option<[u8; 32]>,
    hasher: Whole,
}

fn problem(member: &Member, kind: Kind) -> Problem {
    Problem {
        key: member.key.clone(),
        kind,
        snapshots: member.snapshots.clone(),
    }
}

/// Parts of one file stand one after the other.
fn is_last_part(members: &[Member], position: usize) -> bool {
    let same = |a: &Class, b: &Class| match (a, b) {
        (
            Class::Data {
                shard: s,
                blob: x,
                part: Some(_),
            },
            Class::Data {
                shard: t,
                blob: y,
                part: Some(_),
            },
        ) => s == t && x == y,
        (_, _) => false,
    };
    members
        .get(position + 1)
        .is_none_or(|next| !same(&members[position].class, &next.class))
}

/// Part of a repository without being needed by a snapshot.
fn stands_alone(class: &Class) -> bool {
    matches!(
        class,
        Class::Pointer
            | Class::LegacyList
            | Class::Incompatible
            | Class::ShardPaths
            | Class::Registration
            | Class::Analysis
    )
}
