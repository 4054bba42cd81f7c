//! One shard directory: its data blobs and who needs them.
//!
//! Invariant: 48 bytes a blob. Blobs of one upload are needed by the same snapshots, so the sets of snapshots are few and
//! blobs refer to them; dropping a snapshot touches the sets, not the blobs.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::sets::Slots;
use crate::format::name::BlobName;
use crate::format::shard::File;
use crate::key::ShardGeneration;

/// Shard indexes of one shard that live roots can name at the same time: one bit each.
pub(super) const MAX_LISTINGS: usize = 32;
/// Superseded generations remembered per shard, beyond those whose blob was seen deleted.
const MAX_SUPERSEDED: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct ShardDirectory {
    /// Sorted as [`File`] is.
    blobs: Vec<Blob>,
    sets: Vec<Needed>,
    part_sizes: Vec<u64>,
    /// Who has a `snap-<uuid>.dat` here.
    pub(super) snapshots: Slots,
    /// Who has a `shallow-snap-<uuid>.dat` here.
    pub(super) shallow: Slots,
    /// Whose file list could not be read: any blob may be theirs.
    pub(super) opaque: Slots,
    /// The highest `index-<number>` here, as last seen.
    pub(super) numbered: Option<u64>,
    /// Number of sets after they were last made unique.
    compacted: usize,
    /// Shard indexes that live roots name; the position is the bit in [`Needed::listings`].
    pub(super) listings: Vec<Option<ShardGeneration>>,
    /// Generations that were replaced for good; a root that names one again is a stale writer's.
    pub(super) superseded: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Blob {
    name: BlobName,
    length: u64,
    checksum: u32,
    has_checksum: bool,
    /// Into `part_sizes`.
    part_size: u32,
    /// Into `sets`.
    set: u32,
}

/// Who needs a blob.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Needed {
    pub(super) snapshots: Slots,
    /// Bits into [`ShardDirectory::listings`].
    pub(super) listings: u32,
}

impl Needed {
    fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.listings == 0
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    Snapshot(u32),
    Listing(usize),
}

impl ShardDirectory {
    /// Splits sorted `files` into those that snapshots of live roots already need, which were looked up, and the others: a
    /// numbered shard index is known from when it is written, before any root says that its files are there.
    pub(super) fn compare<'f>(
        &self,
        files: &'f [File],
        mut known: impl FnMut(&'f File),
        mut new: impl FnMut(&'f File),
    ) {
        let mut at = self.lower_bound(files.first());
        for file in files {
            match self.seek(&mut at, file) {
                Some(at) if self.is_needed(at) => known(file),
                Some(_) | None => new(file),
            }
        }
    }

    fn is_needed(&self, at: usize) -> bool {
        let set = &self.sets[self.blobs[at].set as usize];
        !set.snapshots.is_empty()
    }

    /// Records that `by` needs sorted `files`.
    pub(super) fn add(&mut self, files: &[File], by: By) {
        let mut moved: HashMap<u32, u32> = HashMap::new();
        let mut new = Vec::new();
        let mut at = self.lower_bound(files.first());
        for file in files {
            match self.seek(&mut at, file) {
                Some(known) => {
                    let from = self.blobs[known].set;
                    let extend = || extended(&mut self.sets, Some(from), by);
                    self.blobs[known].set = *moved.entry(from).or_insert_with(extend);
                }
                None => new.push(file),
            }
        }
        self.insert(new, by);
        if self.sets.len() > 2 * self.compacted + 16 {
            self.compact();
        }
    }

    fn insert(&mut self, new: Vec<&File>, by: By) {
        if new.is_empty() {
            return;
        }
        let set = extended(&mut self.sets, None, by);
        self.blobs.reserve_exact(new.len());
        for file in new {
            let part_size = self.part_size(file.part_size);
            self.blobs.push(Blob {
                name: file.name.clone(),
                length: file.length,
                checksum: file.checksum.unwrap_or(0),
                has_checksum: file.checksum.is_some(),
                part_size,
                set,
            });
        }
        let part_sizes = &self.part_sizes;
        self.blobs.sort_by(|a, b| {
            let rest = |blob: &Blob| {
                (
                    blob.length,
                    part_sizes[blob.part_size as usize],
                    blob.has_checksum.then_some(blob.checksum),
                )
            };
            a.name.cmp(&b.name).then_with(|| rest(a).cmp(&rest(b)))
        });
    }

    /// Forgets all snapshots but `snapshots` and all listings but `listings`, and the blobs that nobody needs then.
    pub(super) fn release(&mut self, snapshots: &Slots, listings: u32) {
        let mut changed = false;
        for set in &mut self.sets {
            changed |= set.snapshots.keep(snapshots);
            changed |= set.listings & !listings != 0;
            set.listings &= listings;
        }
        for slots in [&mut self.snapshots, &mut self.shallow, &mut self.opaque] {
            slots.keep(snapshots);
        }
        for (bit, listing) in self.listings.iter_mut().enumerate() {
            if listings >> bit & 1 == 0 {
                *listing = None;
            }
        }
        if changed {
            self.compact();
        }
    }

    /// Drops blobs that nobody needs; makes equal sets one.
    fn compact(&mut self) {
        let mut kept: Vec<Needed> = Vec::new();
        let mut positions: HashMap<Needed, u32> = HashMap::new();
        let mut renamed = vec![None; self.sets.len()];
        for blob in &mut self.blobs {
            let old = blob.set as usize;
            let set = &self.sets[old];
            if set.is_empty() {
                blob.set = u32::MAX;
                continue;
            }
            let new = *renamed[old].get_or_insert_with(|| {
                *positions.entry(set.clone()).or_insert_with(|| {
                    kept.push(set.clone());
                    kept.len() as u32 - 1
                })
            });
            blob.set = new;
        }
        self.blobs.retain(|blob| blob.set != u32::MAX);
        self.blobs.shrink_to_fit();
        self.sets = kept;
        self.compacted = self.sets.len();
    }

    /// The listing of a generation, as a bit.
    pub(super) fn listing(&self, generation: &ShardGeneration) -> Option<usize> {
        self.listings
            .iter()
            .position(|listing| listing.as_ref() == Some(generation))
    }

    /// A bit for a new listing; `None` if too many are live.
    pub(super) fn new_listing(&mut self, generation: ShardGeneration) -> Option<usize> {
        let free = self.listings.iter().position(Option::is_none);
        let bit = free.or_else(|| {
            (self.listings.len() < MAX_LISTINGS).then(|| {
                self.listings.push(None);
                self.listings.len() - 1
            })
        })?;
        self.listings[bit] = Some(generation);
        Some(bit)
    }

    pub(super) fn supersede(&mut self, generation: Arc<str>) {
        if self.superseded.len() == MAX_SUPERSEDED {
            self.superseded.remove(0);
        }
        self.superseded.push(generation);
    }

    /// All files under one blob name: more than one only where a base-36 name is about to change its content.
    pub(super) fn find(&self, name: &str) -> impl Iterator<Item = (File, &Needed)> {
        let name = BlobName::new(name);
        let start = self.blobs.partition_point(|blob| blob.name < name);
        self.blobs[start..]
            .iter()
            .take_while(move |blob| blob.name == name)
            .map(|blob| self.file(blob))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (File, &Needed)> {
        self.blobs.iter().map(|blob| self.file(blob))
    }

    fn file(&self, blob: &Blob) -> (File, &Needed) {
        let file = File {
            name: blob.name.clone(),
            length: blob.length,
            part_size: self.part_sizes[blob.part_size as usize],
            checksum: blob.has_checksum.then_some(blob.checksum),
        };
        (file, &self.sets[blob.set as usize])
    }

    fn lower_bound(&self, first: Option<&File>) -> usize {
        first.map_or(0, |first| {
            self.blobs
                .partition_point(|blob| self.order(blob, first) == Ordering::Less)
        })
    }

    /// Moves `at` past what comes before `file`, and past `file` itself if it is there: then its position.
    fn seek(&self, at: &mut usize, file: &File) -> Option<usize> {
        while let Some(blob) = self.blobs.get(*at) {
            match self.order(blob, file) {
                Ordering::Less => *at += 1,
                Ordering::Equal => {
                    *at += 1;
                    return Some(*at - 1);
                }
                Ordering::Greater => return None,
            }
        }
        None
    }

    fn order(&self, blob: &Blob, file: &File) -> Ordering {
        blob.name.cmp(&file.name).then_with(|| {
            let part_size = self.part_sizes[blob.part_size as usize];
            let checksum = blob.has_checksum.then_some(blob.checksum);
            (blob.length, part_size, checksum).cmp(&(file.length, file.part_size, file.checksum))
        })
    }

    fn part_size(&mut self, size: u64) -> u32 {
        let position = self
            .part_sizes
            .iter()
            .position(|known| *known == size)
            .unwrap_or_else(|| {
                self.part_sizes.push(size);
                self.part_sizes.len() - 1
            });
        position as u32
    }
}

fn extended(sets: &mut Vec<Needed>, from: Option<u32>, by: By) -> u32 {
    let mut set = from
        .map(|from| sets[from as usize].clone())
        .unwrap_or_default();
    match by {
        By::Snapshot(slot) => set.snapshots.insert(slot),
        By::Listing(bit) => set.listings |= 1 << bit,
    }
    sets.push(set);
    sets.len() as u32 - 1
}
