//! Keeps a store's checkpoint current: a base when there is none to go on from, then what the journal says.
//!
//! Invariant: when [`Follower::advance_to`] has returned, a chain that describes that sequence (or a later one) is
//! durable in the store, under the follower's epoch. It is never called on the way of a client's write.

use std::sync::Arc;

use policies::identity::{Cluster, Epoch, Repository};
use policies::lock;

use super::load::{self, read};
use super::piece::{self, Header, Pinned, Point, Row, Rows, Stored};
use super::{Error, Result, Series};
use crate::state::{
    BucketId, Change, Entry, JournalEntry, PastQuery, RepositoryId, RestorePoint, State,
};
use crate::stores::Store;
use crate::stores::own;

const PAGE: usize = 1000;
/// Changes after which a new base is written, unless the base has more rows than that.
const MOST_CHANGES: u64 = 50_000;
/// Pieces of a chain; more make loading slow.
const MOST_PIECES: u64 = 2_000;

/// One repository's checkpoint on one store, written under one epoch.
#[derive(Debug)]
pub struct Follower {
    state: Arc<dyn State>,
    store: Arc<dyn Store>,
    repository: Repository,
    id: RepositoryId,
    bucket: BucketId,
    epoch: Epoch,
    /// None: not known yet, or what was known went wrong.
    at: Option<Chain>,
}

/// Where the chain ends.
#[derive(Debug, Clone)]
struct Chain {
    /// The piece written last.
    head: Header,
    series: Series,
    hash: String,
    pins: Vec<Pinned>,
}

impl Follower {
    /// `epoch`: under which the store is written; a higher one of somebody else outranks all that this one writes.
    #[must_use]
    pub fn new(
        state: Arc<dyn State>,
        store: Arc<dyn Store>,
        repository: Repository,
        (id, bucket): (RepositoryId, BucketId),
        epoch: Epoch,
    ) -> Self {
        Self {
            state,
            store,
            repository,
            id,
            bucket,
            epoch,
            at: None,
        }
    }

    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Makes the store's checkpoint describe the catalog as of `sequence`, or of a later one.
    pub async fn advance_to(&mut self, sequence: u64) -> Result<()> {
        let advanced = self.advance(sequence).await;
        if advanced.is_err() {
            // What was written is looked up again: an answer may have been lost.
            self.at = None;
        }
        advanced
    }

    async fn advance(&mut self, sequence: u64) -> Result<()> {
        let chain = match self.at.take() {
            Some(chain) => Some(chain),
            None => self.look().await?,
        };
        let chain = match chain {
            Some(chain) if !due_for_a_base(&chain) => self.go_on(chain, sequence).await?,
            Some(_) | None => None,
        };
        self.at = Some(match chain {
            Some(chain) => chain,
            None => self.base(sequence).await?,
        });
        Ok(())
    }

    /// The chain that can be gone on from; None = a new base is needed.
    async fn look(&self) -> Result<Option<Chain>> {
        let known = load::pieces(self.store.as_ref(), &self.repository).await?;
        let Some((series, last)) = known.last_key_value() else {
            return Ok(None);
        };
        let found = read(self.store.as_ref(), &self.repository, *series, *last).await;
        match found {
            Ok((head, _, hash)) if head.whole && series.epoch <= self.epoch => Ok(Some(Chain {
                head,
                series: *series,
                hash,
                // Unknown, so they are written again.
                pins: Vec::new(),
            })),
            Ok(_) => Ok(None),
            Err(e) if e.is_damage() => {
                tracing::warn!(repository = %self.repository, cause = %e, "a new checkpoint is begun");
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// None = the journal does not reach back to where the chain ends.
    async fn go_on(&self, mut chain: Chain, sequence: u64) -> Result<Option<Chain>> {
        if chain.head.sequence > sequence {
            // Another database's numbers, or a row of this one that was rolled back. Under another epoch it may be
            // what an old primary had alone, although this database has higher numbers.
            let newest = self.state.usage(self.id).await?.sequence;
            if chain.head.sequence > newest || chain.series.epoch != self.epoch {
                return Ok(None);
            }
        }
        let from = chain.head.sequence;
        let pins = self.pins().await?;
        let mut rows = Rows::default();
        if pins != chain.pins {
            rows.push(&Row::Pins(pins.clone()));
            chain.pins = pins;
        }
        let mut at = from;
        while at < sequence {
            let entries = self.state.journal(self.id, at, PAGE).await?;
            for entry in entries.iter().take_while(|e| e.sequence <= sequence) {
                if entry.sequence != at + 1 {
                    return Ok(None);
                }
                self.push(&mut rows, entry).await?;
                at = entry.sequence;
                if rows.is_full() {
                    chain = self.append(chain, std::mem::take(&mut rows), at).await?;
                }
            }
            if entries.first().is_none_or(|e| e.sequence > sequence) {
                return Ok(None);
            }
        }
        if at > from {
            for point in self.points_after(from, at).await? {
                rows.push(&Row::Point(Point::from(&point)));
            }
        }
        if rows.count > 0 || at > chain.head.sequence {
            chain = self.append(chain, rows, at).await?;
        }
        Ok(Some(chain))
    }

    async fn push(&self, rows: &mut Rows, entry: &JournalEntry) -> Result<()> {
        match &entry.change {
            Change::Delete => rows.push(&Row::Delete(entry.key.as_str().to_owned())),
            Change::Put { size, etag, hash } => {
                let there = self
                    .state
                    .object_at(self.bucket, self.id, &entry.key, entry.sequence)
                    .await?;
                let details = there
                    .filter(|past| past.object.sequence == entry.sequence)
                    .and_then(|past| past.object.details);
                rows.push(&Row::Put(Stored {
                    key: entry.key.as_str().to_owned(),
                    size: *size,
                    etag: etag.to_string(),
                    hash: hash.map(hex::encode),
                    modified_ms: entry.at_ms,
                    sequence: entry.sequence,
                    details: details.as_deref().cloned(),
                }));
            }
        }
        Ok(())
    }

    /// The whole catalog as of `sequence`, in a series of its own.
    async fn base(&self, sequence: u64) -> Result<Chain> {
        let sequence = sequence.min(self.state.usage(self.id).await?.sequence);
        let mut writing = Base {
            follower: self,
            header: Header::new(&self.repository, String::new(), 0),
            series: self.free_series().await?,
            rows: Rows::default(),
        };
        writing.header.series = writing.series.text();
        writing.header.sequence = sequence;
        let pins = self.pins().await?;
        writing.push(Row::Pins(pins.clone())).await?;
        for point in self.points_after(0, sequence).await? {
            writing.push(Row::Point(Point::from(&point))).await?;
        }
        let mut query = PastQuery {
            bucket: self.bucket,
            repository: self.id,
            sequence,
            prefix: String::new(),
            delimiter: None,
            after: None,
            limit: PAGE,
        };
        loop {
            let page = self.state.list_at(&query).await?;
            for entry in page.entries {
                let Entry::Object(object) = entry else {
                    continue;
                };
                query.after = Some(object.key.as_str().to_owned());
                let whole = self
                    .state
                    .object_at(self.bucket, self.id, &object.key, sequence)
                    .await?;
                let object = whole.map_or(object, |past| past.object);
                writing.push(Row::Put(Stored::from(&object))).await?;
            }
            if !page.truncated {
                break;
            }
        }
        let chain = writing.finish(pins).await?;
        self.forget_before(chain.series).await;
        Ok(chain)
    }

    async fn free_series(&self) -> Result<Series> {
        let known = load::pieces(self.store.as_ref(), &self.repository).await?;
        let number = known
            .keys()
            .filter(|series| series.epoch == self.epoch)
            .map(|series| series.number + 1)
            .max()
            .unwrap_or(0);
        Ok(Series {
            epoch: self.epoch,
            number,
        })
    }

    /// Older series say nothing once a newer one is whole. Best effort.
    async fn forget_before(&self, whole: Series) {
        let Ok(known) = load::pieces(self.store.as_ref(), &self.repository).await else {
            return;
        };
        let old: Vec<_> = known
            .into_iter()
            .filter(|(series, _)| *series < whole)
            .flat_map(|(series, last)| (0..=last).map(move |number| (series, number)))
            .filter_map(|(series, number)| own::key(&series.piece(&self.repository, number)).ok())
            .collect();
        for names in old.chunks(PAGE) {
            for failed in self
                .store
                .delete(&self.permit(), names)
                .await
                .into_iter()
                .filter_map(std::result::Result::err)
            {
                tracing::warn!(repository = %self.repository, cause = %failed, "an old checkpoint could not be removed");
            }
        }
    }

    async fn append(&self, chain: Chain, rows: Rows, sequence: u64) -> Result<Chain> {
        let mut head = Header {
            previous: Some(chain.hash.clone()),
            after: None,
            sequence,
            changes: chain.head.changes + rows.count as u64,
            length: chain.head.length + 1,
            ..chain.head.clone()
        };
        let series = if chain.series.epoch == self.epoch {
            head.piece += 1;
            chain.series
        } else {
            let series = self.free_series().await?;
            head.after = Some(chain.series.piece(&self.repository, chain.head.piece));
            head.piece = 0;
            head.series = series.text();
            series
        };
        let hash = self.write(&head, series, &rows).await?;
        Ok(Chain {
            head,
            series,
            hash,
            pins: chain.pins,
        })
    }

    async fn write(&self, header: &Header, series: Series, rows: &Rows) -> Result<String> {
        let (bytes, hash) = piece::encode(header, rows);
        let name = series.piece(&self.repository, header.piece);
        own::create(self.store.as_ref(), &self.permit(), &name, bytes).await?;
        Ok(hash)
    }

    async fn pins(&self) -> Result<Vec<Pinned>> {
        let pins = self.state.pins(self.id).await?;
        Ok(pins.iter().map(Pinned::from).collect())
    }

    /// Restore points with a sequence above `after`, up to `until`, oldest first.
    async fn points_after(&self, after: u64, until: u64) -> Result<Vec<RestorePoint>> {
        let mut points = Vec::new();
        let mut before = None;
        loop {
            let page = self.state.restore_points(self.id, before, PAGE).await?;
            before = page.last().map(|point| point.root.generation);
            let full = page.len() == PAGE;
            let reached = page.iter().any(|point| point.sequence <= after);
            points.extend(
                page.into_iter()
                    .filter(|point| point.sequence > after && point.sequence <= until),
            );
            if !full || reached {
                points.reverse();
                return Ok(points);
            }
        }
    }

    fn permit(&self) -> lock::Permit {
        lock::settle(&self.repository, &Cluster::new("snapgate"), self.epoch)
    }
}

/// A base that is being written.
struct Base<'a> {
    follower: &'a Follower,
    header: Header,
    series: Series,
    rows: Rows,
}

impl Base<'_> {
    async fn push(&mut self, row: Row) -> Result<()> {
        self.rows.push(&row);
        self.header.base += 1;
        if self.rows.is_full() {
            let rows = std::mem::take(&mut self.rows);
            let hash = self
                .follower
                .write(&self.header, self.series, &rows)
                .await?;
            self.header.piece += 1;
            self.header.length += 1;
            self.header.previous = Some(hash);
        }
        Ok(())
    }

    async fn finish(mut self, pins: Vec<Pinned>) -> Result<Chain> {
        self.header.whole = true;
        let hash = self
            .follower
            .write(&self.header, self.series, &self.rows)
            .await?;
        Ok(Chain {
            head: self.header,
            series: self.series,
            hash,
            pins,
        })
    }
}

fn due_for_a_base(chain: &Chain) -> bool {
    chain.head.changes > MOST_CHANGES.max(chain.head.base) || chain.head.length >= MOST_PIECES
}

impl From<policies::key::InvalidKey> for Error {
    fn from(e: policies::key::InvalidKey) -> Self {
        Self::Damaged(e.to_string().into())
    }
}
