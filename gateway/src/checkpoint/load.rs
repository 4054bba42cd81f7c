//! Finding and reading a store's newest checkpoint, a piece at a time.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use futures::TryStreamExt;
use policies::identity::{Epoch, Repository};
use policies::key::ObjectKey;

use super::piece::{self, Header};
use super::{Error, Result, Row, Series, place, prefix};
use crate::stores::listing::Listing;
use crate::stores::{self, Store};

/// Series that go on from one another; more means that the links are wrong.
const LONGEST: usize = 10_000;

/// A chain of pieces whose ends fit together. [`Found::rows`] checks every link between.
#[derive(Clone, Debug)]
pub struct Found {
    repository: Repository,
    pieces: Vec<(Series, u32)>,
    /// Journal sequence that it describes.
    pub sequence: u64,
}

/// A position in a chain that is being read.
#[derive(Clone, Debug, Default)]
pub struct Position {
    next: usize,
    hash: Option<String>,
}

/// The newest checkpoint whose base is whole; None = there is none.
pub async fn find(store: &dyn Store, repository: &Repository) -> Result<Option<Found>> {
    let series = pieces(store, repository).await?;
    for (newest, last) in series.iter().rev() {
        let (head, _, _) = read(store, repository, *newest, *last).await?;
        if !head.whole {
            continue;
        }
        let pieces = chain(store, repository, &series, *newest, *last).await?;
        return Ok(Some(Found {
            repository: repository.clone(),
            pieces,
            sequence: head.sequence,
        }));
    }
    Ok(None)
}

/// The journal sequence that the newest checkpoint describes which was written under one of these epochs; None =
/// there is none that can be read.
pub async fn described(
    store: &dyn Store,
    repository: &Repository,
    under: RangeInclusive<Epoch>,
) -> Result<Option<u64>> {
    let series = pieces(store, repository).await?;
    let ours = series
        .iter()
        .rev()
        .filter(|(s, _)| under.contains(&s.epoch));
    for (newest, last) in ours {
        match read(store, repository, *newest, *last).await {
            Ok((head, _, _)) if head.whole => return Ok(Some(head.sequence)),
            Ok(_) => {}
            Err(e) if e.is_damage() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Each series with the number of its last piece.
pub(super) async fn pieces(
    store: &dyn Store,
    repository: &Repository,
) -> Result<BTreeMap<Series, u32>> {
    let prefix = prefix(repository);
    let mut series = BTreeMap::new();
    let mut there = Listing::of(store, &prefix);
    while let Some(listed) = there.next().await? {
        if let Some((at, number)) = place(repository, &listed.name) {
            let last = series.entry(at).or_insert(number);
            *last = number.max(*last);
        }
    }
    Ok(series)
}

/// All pieces from the base on: a series may go on from a piece of an older one.
async fn chain(
    store: &dyn Store,
    repository: &Repository,
    known: &BTreeMap<Series, u32>,
    newest: Series,
    last: u32,
) -> Result<Vec<(Series, u32)>> {
    let (mut at, mut last) = (newest, last);
    let mut backwards = Vec::new();
    for _ in 0..LONGEST {
        backwards.extend((0..=last).rev().map(|number| (at, number)));
        let (first, _, _) = read(store, repository, at, 0).await?;
        let Some(after) = first.after else {
            backwards.reverse();
            return Ok(backwards);
        };
        let before = ObjectKey::parse(&after)
            .ok()
            .and_then(|name| place(repository, &name))
            .filter(|(series, number)| {
                *series < at && known.get(series).is_some_and(|last| number <= last)
            });
        (at, last) = before.ok_or_else(|| {
            Error::Damaged(format!("'{after}', from which it goes on, is not there").into())
        })?;
    }
    Err(Error::Damaged("its series lead in a circle".into()))
}

pub(super) async fn read(
    store: &dyn Store,
    repository: &Repository,
    series: Series,
    number: u32,
) -> Result<(Header, Vec<Row>, String)> {
    let name = series.piece(repository, number);
    let key = ObjectKey::parse(&name).map_err(|e| Error::Damaged(e.to_string().into()))?;
    let Some(mut content) = store.read(&key, None, None).await? else {
        return Err(Error::Damaged(format!("'{name}' is not there").into()));
    };
    if content.size > piece::LARGEST {
        return Err(Error::Damaged(format!("'{name}' is too large").into()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(content.size).unwrap_or(0));
    while let Some(chunk) = content.bytes.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    let (header, text, hash) = piece::open(&name, &bytes)?;
    let right = header.repository == repository.as_str()
        && header.series == series.text()
        && header.piece == number;
    if !right {
        return Err(Error::Damaged(
            format!("'{name}' holds another piece").into(),
        ));
    }
    let rows = piece::rows(&name, text)?;
    Ok((header, rows, hash))
}

impl Found {
    /// The rows of the next piece; None = all were read. A link that does not hold is [`Error::Damaged`].
    pub async fn rows(
        &self,
        store: &dyn Store,
        position: &mut Position,
    ) -> Result<Option<Vec<Row>>> {
        let Some((series, number)) = self.pieces.get(position.next) else {
            return Ok(None);
        };
        let (header, rows, hash) = read(store, &self.repository, *series, *number).await?;
        if header.previous != position.hash {
            return Err(Error::Damaged(
                format!(
                    "'{}' does not follow from the piece before it",
                    series.piece(&self.repository, *number)
                )
                .into(),
            ));
        }
        *position = Position {
            next: position.next + 1,
            hash: Some(hash),
        };
        Ok(Some(rows))
    }

    /// Reads all of it once: every piece is there and links to the one before. The highest epoch under which a root
    /// that it knows was committed.
    pub async fn check(&self, store: &dyn Store) -> Result<Epoch> {
        let mut position = Position::default();
        let mut highest = Epoch(0);
        while let Some(rows) = self.rows(store, &mut position).await? {
            for row in rows {
                if let Row::Point(point) = row {
                    highest = highest.max(Epoch(point.epoch));
                }
            }
        }
        Ok(highest)
    }
}

/// "The store does not answer" is no damage.
impl Error {
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Store(stores::Error::Changed) => true,
            Self::Store(_) | Self::State(_) => false,
        }
    }
}
