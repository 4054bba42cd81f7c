//! Makes a target equal to its source from listings: a new mirror, a journal that was lost or cut, an order.
//!
//! Order: (1) what the catalog shows and the target lacks is copied, in the order of keys; (2) what changed
//! meanwhile is followed until little is left; (3) the newest root as of then, the pointer; (4) what the catalog does
//! not show is removed. Where it is, is durable. The target restores throughout: until (3) its older root and all
//! that it needs stay, from (3) on the new one is complete. For an object that the root of (3) needs was visible
//! from the beginning of (1) to that root, so (1) met it, or it was committed since, so (2) did.
//!
//! One exception: in repositories that use data names again (written before 6.7) a name may have to change its
//! content while the target's older root still needs the old one; that root does not restore until (3).

use std::collections::{HashMap, VecDeque};

use policies::key::{Class, ObjectKey, Writing};
use policies::mirror_order::{Change, Entry, Put};

use super::Trouble;
use super::applier::{Applier, WINDOW, row};
use super::transfer::Landed;
use super::work::{Backoff, passes};
use crate::state::mirrors::{MirrorChange, MirrorRow, Phase, Resync};
use crate::state::{Object, UNJOURNALLED};
use crate::stores::Stat;
use crate::stores::listing::Listing;
use crate::telemetry::clock;

mod roots;

const PAGE: usize = 1000;
/// Fewer entries than this are copied on the way to the root.
const LITTLE: usize = WINDOW / 8;

impl Applier {
    /// Brings a recorded reconciliation to its end, if there is one.
    pub async fn resync(&mut self, backoff: &mut Backoff) -> Result<(), Trouble> {
        loop {
            self.check_orders()?;
            let Some(row) = row(&self.link).await? else {
                return Err(Trouble::Interrupted);
            };
            let Some(resync) = row.resync.clone() else {
                return Ok(());
            };
            let next = match resync.phase.clone() {
                Phase::Copy { after } => self.copy_page(&row, resync, after).await?,
                Phase::Follow { position } => self.follow_page(resync, position).await?,
                Phase::Root { upto } => self.newest_root(resync, upto).await?,
                Phase::Remove { upto, after } => self.remove_page(resync, upto, after).await?,
            };
            let mut changes = vec![next];
            changes.extend(self.control.counted());
            if row.stalled.is_some() {
                changes.push(MirrorChange::Stalled(None));
            }
            self.change(changes).await?;
            self.facts.keys.clear();
            self.reconciled.clear();
            *backoff = Backoff::default();
        }
    }

    async fn copy_page(
        &mut self,
        row: &MirrorRow,
        mut resync: Resync,
        after: Option<String>,
    ) -> Result<MirrorChange, Trouble> {
        let source = self.link.source.clone();
        if after.is_none() {
            tracing::info!(repository = %source.name, store = %self.link.target_name, reason = %resync.reason, "reconciling the mirror");
            resync.total = source.state.usage(source.id).await?.objects;
            // Told before the first page is done: that may be a long while.
            self.change(vec![MirrorChange::Resync(resync.clone())])
                .await?;
            if !resync.aside && !resync.ours {
                self.same_repository().await?;
            }
            // What the journal's applier began may be older content of a name: it ends before anything is compared.
            self.settle_transfers().await?;
        }
        let mut walk = source.catalog().between(after.clone(), None);
        let objects = walk.page().await?.unwrap_or_default();
        let more = walk.goes_on();
        let Some(last) = objects.last().map(|object| object.key.clone()) else {
            resync.phase = Phase::Follow {
                position: row.applied,
            };
            return Ok(MirrorChange::Resync(resync));
        };
        let there = self.target_between(&objects, after.as_deref()).await?;
        let missing = objects.iter().filter_map(|object| {
            let class = source.class(&object.key)?;
            let (root, pointer) = (matches!(class, Class::Root(_)), class == Class::Pointer);
            if root || pointer || object.sequence >= UNJOURNALLED {
                return None;
            }
            let same_size = there
                .get(&object.key)
                .is_some_and(|stat| stat.size == object.size);
            (class.writing() != Writing::Once || !same_size).then(|| Put {
                sequence: object.sequence,
                key: object.key.clone(),
                class,
            })
        });
        self.copy_all(missing.collect()).await?;
        resync.done += objects.len() as u64;
        resync.total = resync.total.max(resync.done);
        resync.phase = if more {
            Phase::Copy {
                after: Some(last.as_str().to_owned()),
            }
        } else {
            Phase::Follow {
                position: row.applied,
            }
        };
        Ok(MirrorChange::Resync(resync))
    }

    async fn follow_page(
        &mut self,
        mut resync: Resync,
        position: u64,
    ) -> Result<MirrorChange, Trouble> {
        let entries = self.link.source.entries(position, WINDOW).await?;
        if entries
            .iter()
            .zip(position + 1..)
            .any(|(entry, n)| entry.sequence != n)
        {
            let mut anew = Resync::begin("the journal was cut", clock::now_ms());
            anew.aside = resync.aside;
            return Ok(MirrorChange::BeginResync(anew));
        }
        let upto = entries.last().map_or(position, |entry| entry.sequence);
        let little = entries.len() < LITTLE;
        self.copy_all(last_puts(entries)).await?;
        resync.phase = if little {
            Phase::Root { upto }
        } else {
            Phase::Follow { position: upto }
        };
        Ok(MirrorChange::Resync(resync))
    }

    /// Waits until no transfer is under way, whatever comes of them.
    async fn settle_transfers(&mut self) -> Result<(), Trouble> {
        while self.transferred().await?.is_some() {}
        Ok(())
    }

    async fn remove_page(
        &mut self,
        mut resync: Resync,
        upto: u64,
        after: Option<String>,
    ) -> Result<MirrorChange, Trouble> {
        let source = self.link.source.clone();
        let listed = self.link.target.list("", after.as_deref(), PAGE).await;
        let listed = listed.map_err(Trouble::target)?;
        let mut gone = Vec::new();
        for name in listed.iter().map(|listed| &listed.name) {
            let Some(class) = source.class(name) else {
                continue;
            };
            // What no cluster makes may be somebody's own: it is left alone.
            if class.writing() == Writing::Free || class == Class::Unknown {
                continue;
            }
            if source
                .state
                .object(source.bucket_id, name)
                .await?
                .object
                .is_some()
            {
                continue;
            }
            // Removed since: the journal says when it may go.
            let hidden = source.state.tombstone(source.id, name).await?;
            if !hidden
                .iter()
                .any(|t| t.removed > upto && t.removed < UNJOURNALLED)
            {
                gone.push(name.clone());
            }
        }
        self.remove(gone).await?;
        match listed.last() {
            Some(last) if listed.len() == PAGE => {
                resync.phase = Phase::Remove {
                    upto,
                    after: Some(last.name.as_str().to_owned()),
                };
                Ok(MirrorChange::Resync(resync))
            }
            Some(_) | None => {
                tracing::info!(repository = %source.name, store = %self.link.target_name, upto, "the mirror is reconciled");
                self.control.rooted(upto);
                Ok(MirrorChange::Resynced {
                    since_ms: resync.since_ms,
                    upto,
                })
            }
        }
    }

    /// Copies each; what is not the content of its moment any more is seen to by a later entry. Those that announce a
    /// snapshot come last. When it fails, all that it began has ended, and what the target confirmed is not asked for
    /// again: so it gets to its end on any target that does some of what it is asked.
    async fn copy_all(&mut self, puts: Vec<Put>) -> Result<(), Trouble> {
        let (announcing, others): (Vec<Put>, Vec<Put>) = puts
            .into_iter()
            .partition(|put| matches!(put.class, Class::SnapshotInfo(_) | Class::LegacySnapshot));
        for group in [others, announcing] {
            for put in self.copy_group(group).await? {
                match self.replace_one(&put).await {
                    Ok(()) => self.confirm_content(put),
                    Err(Trouble::Superseded | Trouble::Gone) => {}
                    Err(trouble) => return Err(trouble),
                }
            }
        }
        Ok(())
    }

    /// Puts each under its name if the name is free. Returns those of whose names it is not, in the order in which they
    /// were committed.
    async fn copy_group(&mut self, mut group: Vec<Put>) -> Result<Vec<Put>, Trouble> {
        group.retain(|put| !self.reconciled.contains(&(put.key.clone(), put.sequence)));
        let (mut queue, mut taken) = (VecDeque::from(group), Vec::new());
        let mut failed: Option<Trouble> = None;
        loop {
            self.check_orders()?;
            // What fails for a moment fails for all of them; what is wrong with one object is its own matter.
            let goes_on = failed.as_ref().is_none_or(|trouble| !passes(trouble));
            while goes_on
                && self.work.has_room()
                && let Some(put) = queue.pop_front()
            {
                self.work.start(put);
            }
            let Some((put, landed)) = self.transferred().await? else {
                break;
            };
            match landed {
                Ok(Landed::Written | Landed::Same) => self.confirm_content(put),
                Ok(Landed::Other) => taken.push(put),
                Err(Trouble::Superseded | Trouble::Gone) => {}
                Err(trouble) => {
                    if failed.is_none() {
                        self.control.works_on(Some(&put.key));
                    }
                    failed.get_or_insert(trouble);
                }
            }
        }
        taken.sort_unstable_by_key(|put| put.sequence);
        failed.map_or(Ok(taken), Err)
    }

    /// What the target has of these objects.
    async fn target_between(
        &self,
        objects: &[Object],
        after: Option<&str>,
    ) -> Result<HashMap<ObjectKey, Stat>, Trouble> {
        let mut there = HashMap::new();
        let Some(last) = objects.last() else {
            return Ok(there);
        };
        let prefix = &self.link.source.prefix;
        let below = objects
            .iter()
            .all(|o| o.key.as_str().starts_with(prefix.as_str()));
        let prefix = if below { prefix.as_str() } else { "" };
        let mut listing = Listing::of(self.link.target.as_ref(), prefix).behind(after);
        while let Some(listed) = listing.next().await.map_err(Trouble::target)? {
            let passed = listed.name >= last.key;
            let wanted = objects.binary_search_by(|object| object.key.cmp(&listed.name));
            if wanted.is_ok() {
                there.insert(listed.name, listed.stat);
            }
            if passed {
                break;
            }
        }
        Ok(there)
    }
}

/// The last put of each key that was not removed after it; roots and the pointer have their own turn.
fn last_puts(entries: Vec<Entry>) -> Vec<Put> {
    let mut last: HashMap<ObjectKey, Entry> = HashMap::new();
    for entry in entries {
        last.insert(entry.key.clone(), entry);
    }
    let mut puts: Vec<Put> = last
        .into_values()
        .filter(|entry| entry.change == Change::Put)
        .filter(|entry| entry.class != Class::Pointer && !matches!(entry.class, Class::Root(_)))
        .map(|entry| Put {
            sequence: entry.sequence,
            key: entry.key,
            class: entry.class,
        })
        .collect();
    puts.sort_unstable_by_key(|put| put.sequence);
    puts
}

fn put_of(object: &Object, class: Class) -> Put {
    Put {
        sequence: object.sequence,
        key: object.key.clone(),
        class,
    }
}
