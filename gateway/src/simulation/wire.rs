//! One gateway's way to the store. Each call is a request of its own: it goes its way whether its sender lives, and
//! may be lost, answered in vain, held back for minutes, delivered twice or overtaken by a later one.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use policies::key::ObjectKey;
use policies::lock::Permit;
use tokio::sync::oneshot;

use super::history::Life;
use super::network::{Fate, Network};
use super::pulse::Pulse;
use super::shelf::{From, Shelf, identity, number, stat};
use crate::stores::{
    Capabilities, Content, Error, Identity, Listed, Plan, Publish, Published, Result, Stat, Store,
    StoredPart, Upload, UploadId,
};

/// A request without an answer is given up after this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// What may happen to a request beyond being slow, lost or answered in vain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    Changes,
    /// A DELETE of S3 knows no condition: one that is delivered late would remove what came after it. The protocol
    /// does not promise to survive that (a service that delivers deletes after minutes).
    Deletes,
}

/// One gateway's way to the store.
#[derive(Clone)]
pub struct Wire {
    shelf: Shelf,
    network: Network,
    pulse: Arc<Pulse>,
    life: Life,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("life", &self.life).finish()
    }
}

impl Wire {
    pub fn new(shelf: Shelf, network: Network, pulse: Arc<Pulse>, life: Life) -> Self {
        Self {
            shelf,
            network,
            pulse,
            life,
        }
    }

    fn from(&self, permit: &Permit) -> From {
        From {
            life: self.life,
            term: permit.term(),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        kind: Kind,
        act: impl Fn(&Shelf) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.pulse.beat().await;
        let draw = self.network.draw();
        let fate = match (kind, draw.fate) {
            (Kind::Reads, Fate::Held | Fate::Twice) | (Kind::Deletes, Fate::Twice) => Fate::Fair,
            (Kind::Deletes, Fate::Held) => Fate::Lost,
            (Kind::Deletes, Fate::Slow) => Fate::Fair,
            (Kind::Reads | Kind::Changes | Kind::Deletes, fate) => fate,
        };
        if fate == Fate::Busy {
            return Err(Error::Busy);
        }
        let (answer, answered) = oneshot::channel();
        let shelf = self.shelf.clone();
        if fate != Fate::Lost {
            tokio::spawn(async move {
                let there = match fate {
                    Fate::Held => draw.late,
                    Fate::Slow => draw.slow,
                    Fate::Fair | Fate::Lost | Fate::AnswerLost | Fate::Twice | Fate::Busy => {
                        draw.there
                    }
                };
                tokio::time::sleep(there).await;
                let done = act(&shelf);
                tokio::time::sleep(draw.back).await;
                if matches!(fate, Fate::Fair | Fate::Twice | Fate::Slow) {
                    drop(answer.send(done));
                }
                if fate == Fate::Twice {
                    tokio::time::sleep(draw.late).await;
                    drop(act(&shelf));
                }
            });
        }
        let done = match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => {
                tokio::time::sleep(PATIENCE).await;
                Err(Error::Unknown)
            }
            Err(_) => Err(Error::Unknown),
        };
        self.pulse.beat().await;
        done
    }
}

#[async_trait]
impl Store for Wire {
    fn capabilities(&self) -> &Capabilities {
        &Capabilities {
            kind: "simulated",
            create_only: true,
            compare_and_set: true,
            abort_beats_complete: true,
            checksums: false,
        }
    }

    async fn begin(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        let id = if plan.fenced {
            let key = name.as_str().to_owned();
            self.ask(Kind::Changes, move |shelf| Ok(shelf.begin(&key)))
                .await?
        } else {
            UploadId("put:".into())
        };
        Ok(Box::new(Sending {
            wire: self.clone(),
            from: self.from(permit),
            name: name.as_str().to_owned(),
            id,
            bytes: Vec::new(),
        }))
    }

    async fn abort(&self, _: &Permit, _: &ObjectKey, upload: &UploadId) -> Result<()> {
        let id = upload.clone();
        self.ask(Kind::Changes, move |shelf| {
            shelf.abort(&id);
            Ok(())
        })
        .await
    }

    async fn assemble(
        &self,
        _: &Permit,
        _: &ObjectKey,
        _: &UploadId,
        _: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        Err(Error::UploadGone)
    }

    async fn begin_part(
        &self,
        _: &Permit,
        _: &ObjectKey,
        _: &UploadId,
        _: u16,
        _: Plan,
    ) -> Result<Box<dyn Upload>> {
        Err(Error::UploadGone)
    }

    async fn begin_multipart(&self, _: &Permit, name: &ObjectKey) -> Result<UploadId> {
        let key = name.as_str().to_owned();
        self.ask(Kind::Changes, move |shelf| Ok(shelf.begin(&key)))
            .await
    }

    async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        let key = name.as_str().to_owned();
        let found = self
            .ask(Kind::Reads, move |shelf| Ok(shelf.get(&key)))
            .await?;
        let Some(bytes) = found else { return Ok(None) };
        if expect.is_some_and(|expect| *expect != identity(&bytes)) {
            return Err(Error::Changed);
        }
        let size = bytes.len() as u64;
        let range = range.unwrap_or(0..size);
        let part =
            bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        Ok(Some(Content {
            size,
            identity: identity(&bytes),
            bytes: futures::stream::once(async move { Ok(part) }).boxed(),
            file: None,
        }))
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        let key = name.as_str().to_owned();
        self.ask(Kind::Reads, move |shelf| {
            Ok(shelf.get(&key).as_ref().map(stat))
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.ask(Kind::Reads, move |shelf| {
            Ok(shelf.list(&prefix, after.as_deref(), limit))
        })
        .await
    }

    async fn delete(&self, permit: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        let from = self.from(permit);
        let mut results = Vec::new();
        for name in names {
            let key = name.as_str().to_owned();
            let deleted = self
                .ask(Kind::Deletes, move |shelf| {
                    shelf.delete(from, &key);
                    Ok(())
                })
                .await;
            results.push(deleted);
        }
        results
    }

    async fn set_aside(&self, permit: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        let who = self.from(permit);
        let (from, to) = (from.as_str().to_owned(), to.as_str().to_owned());
        self.ask(Kind::Changes, move |shelf| shelf.set_aside(who, &from, &to))
            .await
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        self.ask(Kind::Reads, |shelf| Ok(shelf.uploads())).await
    }
}

struct Sending {
    wire: Wire,
    from: From,
    name: String,
    id: UploadId,
    bytes: Vec<u8>,
}

#[async_trait]
impl Upload for Sending {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn publish(self: Box<Self>, mode: Publish) -> Result<Published> {
        let Self {
            wire,
            from,
            name,
            id,
            bytes,
        } = *self;
        let bytes = Bytes::from(bytes);
        let published = Published {
            identity: identity(&bytes),
            md5: None,
        };
        let done = wire
            .ask(Kind::Changes, move |shelf| {
                if number(&id).is_some() {
                    shelf.complete(from, &name, &id, &bytes, mode)
                } else {
                    shelf.put(from, &name, &bytes, mode)
                }
            })
            .await;
        done.map(|()| published)
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        Err(Error::UploadGone)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let id = self.id.clone();
        self.wire
            .ask(Kind::Changes, move |shelf| {
                shelf.abort(&id);
                Ok(())
            })
            .await
    }
}
