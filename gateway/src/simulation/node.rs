//! One gateway: the real door over a simulated database and wire, that can be paused and killed at every step.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use policies::identity::{Bucket, Cluster, StoreName};
use policies::key::ObjectKey;
use policies::lock::Lock;
use tokio::task::{AbortHandle, JoinHandle};

use super::history::{Asked, Event, History, Life, Lineage, Told};
use super::network::Network;
use super::pulse::Pulse;
use super::rows::Witness;
use super::shelf::Shelf;
use super::wire::Wire;
use crate::repository::handover::Ask;
use crate::repository::plan::RepositoryPlan;
use crate::repository::{
    Address, Body, Caller, Door, Error, ListRequest, OpenRepository, ReadCondition, WriteCondition,
    opened,
};
use crate::state::sqlite::Database;
use crate::state::{Details, Entry, State};
use crate::stores::Store;

pub struct Node {
    pub life: Life,
    pub lineage: Lineage,
    pub file: PathBuf,
    pub pulse: Arc<Pulse>,
    pub door: Arc<Door>,
    pub open: Arc<OpenRepository>,
    watch: JoinHandle<()>,
    /// What runs in this process.
    running: Mutex<Vec<AbortHandle>>,
    history: History,
}

pub const BASE: &str = "base/";

impl Node {
    /// Starts a gateway on a database file; what it does before it listens happens here.
    pub async fn start(
        life: Life,
        lineage: Lineage,
        file: &Path,
        shelf: &Shelf,
        network: &Network,
        history: &History,
        dies_in: Option<u64>,
    ) -> Option<Self> {
        history.add(Event::Started { life, lineage });
        let pulse = Pulse::new();
        if let Some(steps) = dies_in {
            pulse.die_in(steps);
        }
        let witness = Witness::new(lineage, history.clone(), Arc::clone(&pulse));
        let state: Arc<dyn State> = Arc::new(Database::simulated(file, Arc::new(witness)));
        let store: Arc<dyn Store> = Arc::new(Wire::new(
            shelf.clone(),
            network.clone(),
            Arc::clone(&pulse),
            life,
        ));
        let opened = {
            let starting = async {
                let (door, open) = opened::one(state, "prod", plan(), store).await;
                door.recover().await.unwrap();
                (door, open)
            };
            match select(Box::pin(starting), Box::pin(pulse.died())).await {
                Either::Left((opened, _)) => Some(opened),
                Either::Right(_) => None,
            }
        };
        let Some((door, open)) = opened else {
            history.add(Event::Ended { life });
            return None;
        };
        history.add(Event::Listens {
            life,
            frozen: open.gate.is_frozen(),
        });
        let watch = tokio::spawn({
            let door = Arc::clone(&door);
            async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    door.look_around(&StoreName::new("store")).await;
                }
            }
        });
        Some(Self {
            life,
            lineage,
            file: file.to_owned(),
            pulse,
            door,
            open,
            watch,
            running: Mutex::default(),
            history: history.clone(),
        })
    }

    /// kill -9: nothing of it runs any more; what it sent is on its way.
    pub fn end(&self) {
        self.pulse.die_in(0);
        self.watch.abort();
        for task in self.running.lock().drain(..) {
            task.abort();
        }
        self.history.add(Event::Ended { life: self.life });
    }

    /// Runs something in this process; None = it died first.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let task = tokio::spawn(work);
        self.running.lock().push(task.abort_handle());
        if self.pulse.is_dead() {
            task.abort();
        }
        match task.await {
            Ok(done) => Some(done),
            Err(e) if e.is_cancelled() => None,
            Err(e) => {
                self.history.add(Event::Broken(format!("a panic: {e}")));
                None
            }
        }
    }

    pub fn lock(&self) -> Lock {
        self.open.gate.row().lock
    }

    pub async fn ask(&self, cluster: &'static str, invocation: &str, asked: &Asked) -> Told {
        let caller = Caller {
            cluster: Cluster::new(cluster),
            request_id: "r".into(),
            invocation: Some(invocation.into()),
            presigned: false,
        };
        match asked {
            Asked::Put { key, content } => {
                let to = address(key);
                let put = self.door.put(
                    &caller,
                    &to,
                    body(content),
                    Details::default(),
                    WriteCondition::Always,
                );
                told(put.await.map(|_| Told::Ok))
            }
            Asked::Delete { key } => {
                let keys = vec![address(key).key];
                let bucket = Bucket::new("bucket");
                let done = self.door.delete(&caller, &bucket, keys);
                told(
                    done.await
                        .and_then(|mut all| all.remove(0))
                        .map(|()| Told::Ok),
                )
            }
            Asked::Get { key } => self.get(&caller, key).await,
            Asked::List => {
                let request = ListRequest {
                    bucket: Bucket::new("bucket"),
                    prefix: String::new(),
                    delimiter: None,
                    after: None,
                    limit: 10_000,
                };
                let listed = self.door.list(&caller, request).await;
                told(listed.map(|listing| {
                    Told::Keys(
                        listing
                            .entries
                            .into_iter()
                            .map(|entry| match entry {
                                Entry::Object(object) => object.key.as_str().to_owned(),
                                Entry::Prefix(prefix) => prefix,
                            })
                            .collect(),
                    )
                }))
            }
        }
    }

    async fn get(&self, caller: &Caller, key: &str) -> Told {
        let (at, condition) = (address(key), ReadCondition::default());
        match self.door.get(caller, &at, None, &condition).await {
            Ok(retrieved) => match retrieved.bytes.try_collect::<Vec<Bytes>>().await {
                Ok(chunks) => Told::Content(Some(chunks.concat().into())),
                Err(e) => Told::Unknown(e.to_string()),
            },
            Err(Error::NoSuchKey) => Told::Content(None),
            Err(e) => told(Err(e)),
        }
    }

    pub async fn operate(&self, ask: Ask) -> Result<Lock, String> {
        let what = format!("{ask:?}");
        let was_frozen = self.open.gate.is_frozen();
        let done = self.door.hand_over(&self.open, ask, None).await;
        if was_frozen && !self.open.gate.is_frozen() {
            self.history.add(Event::Listens {
                life: self.life,
                frozen: false,
            });
        }
        let answer = done.map(|row| row.lock).map_err(|e| e.to_string());
        self.history
            .note(format!("{:?} {what}: {answer:?}", self.life));
        answer
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn told(result: Result<Told, Error>) -> Told {
    match result {
        Ok(told) => told,
        Err(
            e @ (Error::SlowDown(_) | Error::Unavailable(_) | Error::Body(_) | Error::NoSuchUpload),
        ) => Told::Unknown(e.to_string()),
        Err(e) => Told::Refused(e.to_string()),
    }
}

fn address(key: &str) -> Address {
    Address {
        bucket: Bucket::new("bucket"),
        key: ObjectKey::parse(key).unwrap(),
    }
}

fn body(content: &Bytes) -> Body {
    let bytes = content.clone();
    Body {
        size: Some(content.len() as u64),
        bytes: futures::stream::once(async move { Ok(bytes) }).boxed(),
        trailer: None,
        md5: None,
        expected: Vec::new(),
        compute: None,
    }
}

fn plan() -> RepositoryPlan {
    RepositoryPlan {
        bucket: Bucket::new("bucket"),
        store: StoreName::new("store"),
        ..opened::plan(["p", "q"])
    }
}
