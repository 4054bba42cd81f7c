//! Listing the tree in the order of whole keys.
//!
//! A directory's walk is not that order: `a-` comes before `a/b`, which comes before `a0`. Entries are
//! sorted with a directory's name taken as `name/`; then a depth-first walk is sorted by keys.
//! Invariants: complete, or an error; what lies below a directory outside the prefix, or wholly before
//! `after`, is not read; memory is bounded by [`BATCH`] names a level, whatever a directory holds.
//! Something that is neither file nor directory, or a name that is no key, is an error with its path:
//! skipping it would call an unknown tree completely listed.

use std::collections::BinaryHeap;

use policies::key::ObjectKey;
use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use super::place::{self, ESCAPED, TEMPORARY};
use super::tree::{self, Tree, failed};
use crate::stores::{self, Error, Listed, Result};

/// Names of one directory held at a time.
const BATCH: usize = 4096;

pub(super) fn stat(stat: &Stat) -> stores::Stat {
    stores::Stat {
        size: tree::size(stat),
        identity: tree::identity(stat),
        modified_ms: i64::try_from(tree::modified_ns(stat) / 1_000_000).unwrap_or(i64::MAX),
    }
}

/// What is asked for: keys with this prefix behind `after`.
struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

impl Wanted<'_> {
    fn has_key(&self, key: &str) -> bool {
        key.starts_with(self.prefix)
            && self.after.is_none_or(|after| key > after)
            && (place::is_reserved(self.prefix) || !place::is_reserved(key))
    }

    /// May a key below this directory (its path with `/` behind it) be wanted?
    fn has_below(&self, directory: &str) -> bool {
        let inside = directory.starts_with(self.prefix) || self.prefix.starts_with(directory);
        let behind = self
            .after
            .is_none_or(|after| directory > after || after.starts_with(directory));
        let own = [TEMPORARY, ESCAPED].contains(&directory);
        inside
            && behind
            && !own
            && (place::is_reserved(self.prefix) || !place::is_reserved(directory))
    }
}

/// Blocks.
pub(super) fn list(
    tree: &Tree,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Listed>> {
    let wanted = Wanted {
        prefix,
        after,
        limit,
    };
    let mut found = Vec::new();
    walk(tree, &wanted, "", &mut found)?;
    let mut escaped = BinaryHeap::new();
    collect_escaped(tree, &wanted, ESCAPED, &mut escaped)?;
    for (name, stat) in escaped
        .into_iter()
        .map(|Escaped(listed)| (listed.name, listed.stat))
    {
        found.push(Listed { name, stat });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.truncate(limit);
    Ok(found)
}

/// `directory` is a path with `/` behind it, or empty for the root.
fn walk(tree: &Tree, wanted: &Wanted<'_>, directory: &str, found: &mut Vec<Listed>) -> Result<()> {
    let mut behind: Option<String> = None;
    while found.len() < wanted.limit {
        let Some(entries) = entries(tree, wanted, directory, behind.as_deref())? else {
            return Ok(());
        };
        let complete = entries.len() < BATCH;
        for entry in &entries {
            if found.len() >= wanted.limit {
                return Ok(());
            }
            if entry.ends_with('/') {
                walk(tree, wanted, entry, found)?;
            } else if let Some(listed) = look(tree, entry)? {
                found.push(listed);
            }
        }
        if complete {
            return Ok(());
        }
        behind = entries.into_iter().next_back();
    }
    Ok(())
}

/// The first [`BATCH`] wanted paths of a directory behind `behind`; those of directories end in `/`.
fn entries(
    tree: &Tree,
    wanted: &Wanted<'_>,
    directory: &str,
    behind: Option<&str>,
) -> Result<Option<Vec<String>>> {
    let mut first: BinaryHeap<String> = BinaryHeap::new();
    let complete = each_entry(tree, directory, |path| {
        let take = if path.ends_with('/') {
            wanted.has_below(&path)
        } else {
            wanted.has_key(&path)
        };
        if take && behind.is_none_or(|behind| path.as_str() > behind) {
            first.push(path);
            if first.len() > BATCH {
                first.pop();
            }
        }
        Ok(())
    })?;
    Ok(complete.then(|| first.into_sorted_vec()))
}

/// Calls `each` with every path in a directory; false if the directory is gone.
fn each_entry(
    tree: &Tree,
    directory: &str,
    mut each: impl FnMut(String) -> Result<()>,
) -> Result<bool> {
    let opened = match tree.open_directory(directory.trim_end_matches('/')) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(failed("list", directory, e)),
    };
    let read = Dir::read_from(&opened).map_err(|e| failed("list", directory, e))?;
    for entry in read {
        let entry = entry.map_err(|e| failed("list", directory, e))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let text = name
            .to_str()
            .map_err(|_| Error::Failed(format!("{directory}{name:?} is no object: its name is not UTF-8; remove it from the store").into()))?;
        let kind = match entry.file_type() {
            FileType::Unknown => match rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(failed("look at", text, e)),
            },
            known => known,
        };
        match kind {
            FileType::RegularFile => each(format!("{directory}{text}"))?,
            FileType::Directory => each(format!("{directory}{text}/"))?,
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                return Err(Error::Failed(
                    format!(
                        "{directory}{text} is neither file nor directory; remove it from the store"
                    )
                    .into(),
                ));
            }
        }
    }
    Ok(true)
}

fn look(tree: &Tree, path: &str) -> Result<Option<Listed>> {
    let name = ObjectKey::parse(path).map_err(|e| {
        Error::Failed(format!("{path:?} is no object: {e}; remove it from the store").into())
    })?;
    let found = tree.stat_path(path)?;
    Ok(found.map(|found| Listed {
        name,
        stat: stat(&found),
    }))
}

/// Ordered by key, for a heap that keeps the smallest.
struct Escaped(Listed);

impl PartialEq for Escaped {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Escaped {}

impl PartialOrd for Escaped {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Escaped {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

fn collect_escaped(
    tree: &Tree,
    wanted: &Wanted<'_>,
    directory: &str,
    first: &mut BinaryHeap<Escaped>,
) -> Result<()> {
    each_entry(tree, directory, |path| {
        if path.ends_with('/') {
            return collect_escaped(tree, wanted, &path, first);
        }
        let key = path
            .strip_prefix(ESCAPED)
            .and_then(place::unescape)
            .ok_or_else(|| {
                Error::Failed(
                    format!("{path} is not the spelling of a key; remove it from the store").into(),
                )
            })?;
        if wanted.has_key(key.as_str())
            && let Some(found) = tree.stat_path(&path)?
        {
            first.push(Escaped(Listed {
                name: key,
                stat: stat(&found),
            }));
            if first.len() > wanted.limit {
                first.pop();
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// The names of hidden uploads. Blocks.
pub(super) fn hidden(tree: &Tree) -> Result<Vec<String>> {
    let mut names = Vec::new();
    each_entry(tree, TEMPORARY, |path| {
        names.push(
            path.trim_end_matches('/')
                .trim_start_matches(TEMPORARY)
                .to_owned(),
        );
        Ok(())
    })?;
    Ok(names)
}
