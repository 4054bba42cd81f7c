//! The configured repositories as a map of every bucket: which repository a key belongs to.
//!
//! Decides: bucket and key -> [`Place`]. Invariant: every key has exactly one place, and no two
//! repositories share one. The longest base path wins, so a repository may lie inside another one's
//! base path if it is configured itself; where the names of the outer one's own objects lie it may not.
//! A key that is spelt differently (`//`, a leading `/`) is another key: nothing is cleaned.

use std::collections::BTreeMap;

use super::class::{is_hash, split_hash};
use super::{Class, ObjectKey, RESERVED};
use crate::identity::{Bucket, Repository};

/// One repository as configured; slashes at either end of `base_path` mean nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configured {
    pub repository: Repository,
    pub bucket: Bucket,
    /// Empty = the whole bucket.
    pub base_path: String,
}

/// Where a key lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    In {
        repository: Repository,
        class: Class,
    },
    /// A repository's root, pointer or registration inside a wider repository: stored there it would
    /// be unknown, and therefore not guarded. `base_path` must become a repository of its own.
    NestedRoot {
        repository: Repository,
        base_path: String,
    },
    /// Of no repository; these are the base paths of the bucket.
    Outside {
        base_paths: Vec<String>,
    },
    /// Of a read-only view of a restore point: the key with `@N` behind the base path.
    View(View),
    /// The gateway's own.
    Reserved,
    NoSuchBucket,
}

/// A repository as of one of its restore points. A cluster registers `<base path>@N` and names keys below it: `spelt` is
/// what they begin with, `real` what the repository's own keys do. OpenSearch hashes neither base path nor view into
/// its shard prefixes, so those translate the same way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    pub repository: Repository,
    pub generation: u64,
    pub spelt: String,
    pub real: String,
    /// What follows either; empty for the prefix of a listing.
    pub relative: String,
    /// The relative key as the repository's own.
    pub class: Class,
}

impl View {
    /// The repository's own spelling of a key of this view.
    #[must_use]
    pub fn real_of(&self, key: &str) -> Option<String> {
        key.strip_prefix(&*self.spelt)
            .map(|relative| format!("{}{relative}", self.real))
    }

    /// A repository's key as this view spells it.
    #[must_use]
    pub fn spelt_of(&self, key: &str) -> Option<String> {
        key.strip_prefix(&*self.real)
            .map(|relative| format!("{}{relative}", self.spelt))
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidLayout {
    #[error(
        "repositories '{first}' and '{second}' overlap: both have base_path '{base_path}' in bucket '{bucket}'; give each its own"
    )]
    SamePlace {
        first: Repository,
        second: Repository,
        bucket: Bucket,
        base_path: String,
    },
    #[error(
        "repositories '{outer}' and '{inner}' overlap: base_path '{base_path}' lies among the objects of '{outer}' (below its '{below}'); choose a base_path beside it"
    )]
    AmongObjects {
        inner: Repository,
        outer: Repository,
        base_path: String,
        below: String,
    },
    #[error(
        "base_path '{base_path}' of repository '{repository}' lies below '.snapgate/', which the gateway keeps for itself; choose another"
    )]
    Reserved {
        repository: Repository,
        base_path: String,
    },
    #[error(
        "base_path '{base_path}' of repository '{repository}' contains '//'; write single slashes, as the clusters do"
    )]
    EmptySegment {
        repository: Repository,
        base_path: String,
    },
    #[error("base_path of repository '{repository}' is too long or contains NUL")]
    NotAKey { repository: Repository },
}

/// Room that a base path must leave for the longest names below it, of the 1,024 bytes of a key.
const LONGEST_BASE_PATH: usize = 640;

/// Every bucket's repositories.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// Longest base path first.
    buckets: BTreeMap<Bucket, Vec<Root>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Root {
    repository: Repository,
    /// Without slashes at either end.
    base_path: String,
}

impl Layout {
    pub fn new(configured: impl IntoIterator<Item = Configured>) -> Result<Self, InvalidLayout> {
        let mut buckets = BTreeMap::<Bucket, Vec<Root>>::new();
        for Configured {
            repository,
            bucket,
            base_path,
        } in configured
        {
            let root = Root {
                repository,
                base_path: base_path.trim_matches('/').to_owned(),
            };
            check_alone(&root)?;
            let others = buckets.entry(bucket.clone()).or_default();
            for other in others.iter() {
                check_pair(&bucket, other, &root)?;
            }
            others.push(root);
        }
        for roots in buckets.values_mut() {
            roots.sort_by(|a, b| {
                (b.base_path.len(), &a.base_path).cmp(&(a.base_path.len(), &b.base_path))
            });
        }
        Ok(Self { buckets })
    }

    #[must_use]
    pub fn locate(&self, bucket: &Bucket, key: &ObjectKey) -> Place {
        let Some(roots) = self.buckets.get(bucket) else {
            return Place::NoSuchBucket;
        };
        let key = key.as_str();
        if is_reserved(key) {
            return Place::Reserved;
        }
        roots
            .iter()
            .find_map(|root| {
                let view = root.view(key).filter(|view| !view.relative.is_empty());
                view.map(Place::View).or_else(|| root.claim(key))
            })
            .unwrap_or_else(|| Place::Outside {
                base_paths: roots.iter().map(|r| r.base_path.clone()).collect(),
            })
    }

    /// The view that all keys with this prefix belong to, if they do.
    #[must_use]
    pub fn view_of_prefix(&self, bucket: &Bucket, prefix: &str) -> Option<View> {
        let roots = self.buckets.get(bucket)?;
        let nearest = roots
            .iter()
            .find_map(|root| match (root.view(prefix), root.claim(prefix)) {
                (Some(view), _) => Some(Some(view)),
                (None, Some(_)) => Some(None),
                (None, None) => None,
            });
        nearest.flatten()
    }

    /// The repository whose own key this would be with single slashes, and the wrongly spelt path up to the first
    /// empty segment: some client was told a base path with a slash at its start or end.
    #[must_use]
    pub fn twin(&self, bucket: &Bucket, key: &ObjectKey) -> Option<(Repository, String)> {
        let text = key.as_str();
        let at = if text.starts_with('/') {
            0
        } else {
            text.find("//")? + 1
        };
        let segments: Vec<&str> = text.split('/').filter(|s| !s.is_empty()).collect();
        let plain = ObjectKey::parse(&segments.join("/")).ok()?;
        match self.locate(bucket, &plain) {
            Place::In { repository, .. } => Some((repository, text[..=at].to_owned())),
            Place::NestedRoot { .. }
            | Place::View(_)
            | Place::Outside { .. }
            | Place::Reserved
            | Place::NoSuchBucket => None,
        }
    }

    pub fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.keys()
    }

    /// The repositories of a bucket with their base paths, without slashes at either end.
    pub fn repositories(&self, bucket: &Bucket) -> impl Iterator<Item = (&Repository, &str)> {
        self.buckets
            .get(bucket)
            .into_iter()
            .flatten()
            .map(|root| (&root.repository, root.base_path.as_str()))
    }
}

impl Root {
    fn claim(&self, key: &str) -> Option<Place> {
        if let Some(relative) = below(key, &self.base_path) {
            if let Some(base_path) = nested_root(relative) {
                return Some(Place::NestedRoot {
                    repository: self.repository.clone(),
                    base_path: join(&self.base_path, base_path),
                });
            }
            return Some(self.place(Class::parse(relative)));
        }
        // OpenSearch's hashed prefix: `<hash>/<base path>/indices/…` and `<hash>/<base path>/tests-…`.
        let (hash, rest) = split_hash(key)?;
        let relative = below(rest, &self.base_path)?;
        (relative.starts_with("indices/") || relative.starts_with("tests-"))
            .then(|| self.place(Class::parse(&format!("{hash}/{relative}"))))
    }

    /// `<base path>@N/…`, and below a hashed prefix `<hash>/<base path>@N/…`; of a whole bucket `@N/…`.
    fn view(&self, key: &str) -> Option<View> {
        let (hash, (number, relative)) = match self.view_below(key) {
            Some(found) => (None, found),
            None => {
                let (hash, rest) = split_hash(key)?;
                (Some(hash), self.view_below(rest)?)
            }
        };
        let before = hash.map(|hash| format!("{hash}/")).unwrap_or_default();
        let base = &self.base_path;
        let slash = if base.is_empty() { "" } else { "/" };
        Some(View {
            repository: self.repository.clone(),
            generation: number,
            spelt: format!("{before}{base}@{number}/"),
            real: format!("{before}{base}{slash}"),
            relative: relative.to_owned(),
            class: Class::parse(&format!("{before}{relative}")),
        })
    }

    fn view_below<'a>(&self, key: &'a str) -> Option<(u64, &'a str)> {
        let rest = key.strip_prefix(&*self.base_path)?.strip_prefix('@')?;
        let (number, relative) = rest.split_once('/')?;
        let plain = number == "0" || !number.starts_with('0');
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || !digits || relative.starts_with('/') {
            return None;
        }
        Some((number.parse().ok()?, relative))
    }

    fn place(&self, class: Class) -> Place {
        Place::In {
            repository: self.repository.clone(),
            class,
        }
    }
}

/// What follows `base_path` in a key; a key with an empty segment there is another key.
fn below<'a>(key: &'a str, base_path: &str) -> Option<&'a str> {
    let relative = if base_path.is_empty() {
        key
    } else {
        key.strip_prefix(base_path)?.strip_prefix('/')?
    };
    (!relative.is_empty() && !relative.starts_with('/')).then_some(relative)
}

/// The base path, relative to a wider repository, whose own root, pointer or registration this key is.
/// Root and pointer are looked for one level down only, since deeper a newer cluster may use such
/// names for something else; a registration cannot be mistaken at any depth.
fn nested_root(relative: &str) -> Option<&str> {
    let (parent, name) = relative.rsplit_once('/')?;
    if matches!(Class::parse(name), Class::Root(_) | Class::Pointer) {
        let one_level = !parent.is_empty() && !parent.contains('/');
        return one_level.then_some(parent);
    }
    let (base, directory) = parent.rsplit_once('/')?;
    let registration = directory.len() > "tests-".len()
        && directory.starts_with("tests-")
        && (matches!(name, "master.dat" | "master.dat-temp") || name.starts_with("data-"));
    if !registration || is_hash(base) {
        return None;
    }
    Some(split_hash(base).map_or(base, |(_, rest)| rest))
}

fn join(base_path: &str, below: &str) -> String {
    if base_path.is_empty() {
        below.to_owned()
    } else {
        format!("{base_path}/{below}")
    }
}

/// The reserved prefix, and its name alone, which a directory could not hold beside it.
fn is_reserved(key: &str) -> bool {
    key.strip_prefix(RESERVED.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_alone(root: &Root) -> Result<(), InvalidLayout> {
    let Root {
        repository,
        base_path,
    } = root;
    if base_path.len() > LONGEST_BASE_PATH || base_path.contains('\0') {
        return Err(InvalidLayout::NotAKey {
            repository: repository.clone(),
        });
    }
    if base_path.contains("//") {
        return Err(InvalidLayout::EmptySegment {
            repository: repository.clone(),
            base_path: base_path.clone(),
        });
    }
    if is_reserved(base_path) {
        return Err(InvalidLayout::Reserved {
            repository: repository.clone(),
            base_path: base_path.clone(),
        });
    }
    Ok(())
}

fn check_pair(bucket: &Bucket, a: &Root, b: &Root) -> Result<(), InvalidLayout> {
    if a.base_path == b.base_path {
        return Err(InvalidLayout::SamePlace {
            first: a.repository.clone(),
            second: b.repository.clone(),
            bucket: bucket.clone(),
            base_path: a.base_path.clone(),
        });
    }
    for (outer, inner) in [(a, b), (b, a)] {
        let Some(relative) = below(&inner.base_path, &outer.base_path) else {
            continue;
        };
        let first = relative.split('/').next().unwrap_or(relative);
        if is_own_folder(first) {
            return Err(InvalidLayout::AmongObjects {
                inner: inner.repository.clone(),
                outer: outer.repository.clone(),
                base_path: inner.base_path.clone(),
                below: first.to_owned(),
            });
        }
    }
    Ok(())
}

/// Folders that clusters make in a repository of their own accord.
fn is_own_folder(segment: &str) -> bool {
    matches!(segment, "indices" | "snapshot_shard_paths")
        || segment.starts_with("tests-")
        || segment.starts_with("temp-analysis-")
        || is_hash(segment)
}
