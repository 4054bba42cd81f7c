//! Two writers of one write-once name, in one gateway and on two nodes, stopped at every step.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use policies::identity::{Bucket, Cluster, Repository, StoreName};
use policies::key::{Configured, Layout, ObjectKey};
use policies::lock::Mode;
use tokio::task::JoinHandle;

use super::*;
use crate::repository::miniature::caller;
use crate::repository::plan::{Readers, RepositoryPlan};
use crate::repository::{Body, ReadCondition, WriteCondition, Written};
use crate::state::sqlite::Database;
use crate::state::{Details, RepositoryIdentity, State};
use crate::stores::Store;
use crate::stores::directory::Directory;
use crate::stores::faults::{Fault, Faulty, Gate};
use crate::stores::metrics::Operation;

const KEY: &str = "base/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__Zq3sGkWcTfSf6Y1nC3mBvw";
const FIRST: &str = "what the first writer sent";
const SECOND: &str = "and the second";

/// Where the two writers are: at doors of their own, or at one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    OneGateway,
    TwoNodes,
}

struct Side {
    door: Arc<Door>,
    store: Arc<Faulty<dyn Store>>,
    open: Arc<OpenRepository>,
}

struct World {
    first: Side,
    second: Side,
    _files: tempfile::TempDir,
}

async fn side(state: Arc<dyn State>, bytes: &Arc<dyn Store>) -> Side {
    let store = Arc::new(Faulty::new(Arc::clone(bytes)));
    let plan = RepositoryPlan {
        bucket: Bucket::new("backups"),
        base_path: "base".into(),
        store: StoreName::new("local"),
        writers: BTreeSet::from([Cluster::new("a")]),
        readers: Readers::Everyone,
        mode: Mode::Auto,
        retention: Duration::ZERO,
    };
    let identity = RepositoryIdentity {
        name: Repository::new("prod"),
        bucket: plan.bucket.clone(),
        base_path: plan.base_path.clone(),
        store: plan.store.clone(),
    };
    let layout = Layout::new([Configured {
        repository: identity.name.clone(),
        bucket: plan.bucket.clone(),
        base_path: plan.base_path.clone(),
    }])
    .unwrap();
    let row = state.open_repository(&identity).await.unwrap();
    let seen = Arc::clone(&store) as Arc<dyn Store>;
    let open = Arc::new(OpenRepository::new(identity.name, &row, plan, seen, true));
    let door = Arc::new(Door::new(layout, state, vec![Arc::clone(&open)]));
    door.recover().await.unwrap();
    Side { door, store, open }
}

impl Side {
    fn again(&self) -> Self {
        Self {
            door: Arc::clone(&self.door),
            store: Arc::clone(&self.store),
            open: Arc::clone(&self.open),
        }
    }

    fn put(&self, text: &'static str, condition: WriteCondition) -> JoinHandle<Put> {
        let door = Arc::clone(&self.door);
        tokio::spawn(async move {
            let body = Body {
                size: Some(text.len() as u64),
                bytes: Box::pin(futures::stream::iter([Ok(Bytes::from(text))])),
                trailer: None,
                md5: None,
                expected: Vec::new(),
                compute: None,
            };
            let details = Details::default();
            door.put(&caller(), &at(), body, details, condition).await
        })
    }

    /// As a client writes: what it is told to repeat, it repeats.
    async fn write(&self, text: &'static str) -> Put {
        let mut last = self.put(text, WriteCondition::Always).await.unwrap();
        for _ in 0..3 {
            if !matches!(last, Err(Error::SlowDown(_))) {
                break;
            }
            last = self.put(text, WriteCondition::Always).await.unwrap();
        }
        last
    }

    async fn content(&self) -> Option<String> {
        let condition = ReadCondition::default();
        match self.door.get(&caller(), &at(), None, &condition).await {
            Ok(found) => {
                let bytes: Vec<Bytes> = found.bytes.try_collect().await.unwrap();
                Some(String::from_utf8(bytes.concat()).unwrap())
            }
            Err(Error::NoSuchKey) => None,
            Err(e) => panic!("{e}"),
        }
    }

    async fn delete(&self) {
        let bucket = Bucket::new("backups");
        let verdicts = self.door.delete(&caller(), &bucket, vec![at().key]).await;
        verdicts.unwrap().into_iter().for_each(|v| v.unwrap());
    }
}

type Put = Result<Written, Error>;

fn at() -> Address {
    Address {
        bucket: Bucket::new("backups"),
        key: ObjectKey::parse(KEY).unwrap(),
    }
}

impl World {
    async fn new(place: Place) -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::create_dir(files.path().join("store")).unwrap();
        let directory = Directory::open(files.path().join("store")).await.unwrap();
        let bytes: Arc<dyn Store> = Arc::new(directory);
        let (first, second) = match place {
            Place::OneGateway => {
                let state = Database::open(&files.path().join("state.db")).unwrap();
                let only = side(Arc::new(state), &bytes).await;
                (only.again(), only)
            }
            Place::TwoNodes => {
                let [one, other] = crate::state::postgres::tests::nodes().await;
                (side(one, &bytes).await, side(other, &bytes).await)
            }
        };
        // The lock is taken, so that it is no part of what follows.
        let free = first.door.may_write(&caller(), &at()).await;
        free.unwrap();
        Self {
            first,
            second,
            _files: files,
        }
    }

    /// A writer that published and does not go on.
    async fn paused(&self) -> (JoinHandle<Put>, Arc<Gate>) {
        let gate = Gate::closed();
        let fault = Fault::HoldAfter(Arc::clone(&gate));
        self.first.store.plan(Operation::Publish, fault);
        let put = self.first.put(FIRST, WriteCondition::Always);
        gate.reached().await;
        (put, gate)
    }

    /// Whoever was told that its write is done reads it.
    async fn judge(&self, first: &Put, second: &Put) {
        let there = self.second.content().await;
        assert_eq!(there, self.first.content().await);
        assert!(
            first.is_err() || there.as_deref() == Some(FIRST),
            "{there:?}"
        );
        assert!(
            second.is_err() || there.as_deref() == Some(SECOND),
            "{there:?}"
        );
    }
}

#[tokio::test]
async fn of_two_writes_of_one_name_the_acknowledged_one_is_there() {
    for place in [Place::OneGateway, Place::TwoNodes] {
        for condition in [WriteCondition::Always, WriteCondition::IfAbsent] {
            let world = World::new(place).await;
            let (first, gate) = world.paused().await;
            let second = match condition {
                WriteCondition::IfAbsent => world.second.put(SECOND, condition).await.unwrap(),
                WriteCondition::Always | WriteCondition::IfMatch(_) => {
                    world.second.write(SECOND).await
                }
            };
            second.as_ref().unwrap();
            gate.open();
            let first = first.await.unwrap();
            assert!(first.is_err(), "{place:?}");
            world.judge(&first, &second).await;
            assert_eq!(world.first.content().await.as_deref(), Some(SECOND));
        }
    }
}

#[tokio::test]
async fn a_writer_that_was_paused_over_a_removal_is_not_acknowledged() {
    for place in [Place::OneGateway, Place::TwoNodes] {
        for text in [FIRST, SECOND] {
            let world = World::new(place).await;
            let (first, gate) = world.paused().await;
            world.second.write(text).await.unwrap();
            world.second.delete().await;
            gate.open();
            let first = first.await.unwrap();
            assert!(matches!(first, Err(Error::SlowDown(_))), "{place:?}");
            assert_eq!(world.first.content().await, None);
            world.first.write(FIRST).await.unwrap();
            assert_eq!(world.second.content().await.as_deref(), Some(FIRST));
        }
    }
}

/// The second writer's process ends at this step; another one resolves its intent, and the first writer goes on.
#[tokio::test]
async fn a_second_writer_that_dies_at_any_step_takes_nothing_from_the_first() {
    let steps = || {
        let held: fn(Arc<Gate>) -> Fault = Fault::Hold;
        [
            (Operation::SetAside, held, FIRST),
            (Operation::SetAside, Fault::HoldAfter, FIRST),
            (Operation::Publish, held, FIRST),
            (Operation::Publish, Fault::HoldAfter, SECOND),
        ]
    };
    for place in [Place::OneGateway, Place::TwoNodes] {
        for (operation, fault, remains) in steps() {
            let world = World::new(place).await;
            let (first, gate) = world.paused().await;
            world.second.open.contest(&at().key);
            let dead = Gate::closed();
            world.second.store.plan(operation, fault(Arc::clone(&dead)));
            let second = world.second.put(SECOND, WriteCondition::Always);
            dead.reached().await;
            second.abort();
            assert!(second.await.unwrap_err().is_cancelled());
            let Side { door, open, .. } = &world.first;
            door.resolve_all(open).await.unwrap();
            gate.open();
            let first = first.await.unwrap();
            assert_eq!(first.is_ok(), remains == FIRST, "{place:?} {operation:?}");
            assert_eq!(world.first.content().await.as_deref(), Some(remains));
            assert_eq!(world.second.content().await.as_deref(), Some(remains));
        }
    }
}

/// The second writer's node is only slow: what it does after another one resolved its intent has no effect.
#[tokio::test]
async fn a_second_writer_that_wakes_up_late_takes_nothing_from_the_first() {
    for operation in [Operation::SetAside, Operation::Publish] {
        let world = World::new(Place::TwoNodes).await;
        let (first, gate) = world.paused().await;
        world.second.open.contest(&at().key);
        let asleep = Gate::closed();
        let fault = Fault::Hold(Arc::clone(&asleep));
        world.second.store.plan(operation, fault);
        let second = world.second.put(SECOND, WriteCondition::Always);
        asleep.reached().await;
        let Side { door, open, .. } = &world.first;
        door.resolve_all(open).await.unwrap();
        gate.open();
        let first = first.await.unwrap();
        assert!(first.is_ok(), "{operation:?}");
        asleep.open();
        let second = second.await.unwrap();
        assert!(second.is_err(), "{operation:?}");
        world.judge(&first, &second).await;
    }
}

#[tokio::test]
async fn a_completed_upload_takes_nothing_from_a_writer_that_is_paused() {
    for place in [Place::OneGateway, Place::TwoNodes] {
        let world = World::new(place).await;
        let (first, gate) = world.paused().await;
        let (door, caller) = (&world.second.door, caller());
        let details = Details::default();
        let upload = door
            .create_upload(&caller, &at(), details, None)
            .await
            .unwrap();
        let body = Body {
            size: Some(SECOND.len() as u64),
            bytes: Box::pin(futures::stream::iter([Ok(Bytes::from(SECOND))])),
            trailer: None,
            md5: None,
            expected: Vec::new(),
            compute: None,
        };
        let part = door
            .put_part(&caller, &at(), &upload.id, 1, body)
            .await
            .unwrap();
        let parts = vec![crate::repository::CompletedPart {
            number: 1,
            etag: part.etag.to_string(),
            checksum: None,
        }];
        let second = door
            .complete(
                &caller,
                &at(),
                &upload.id,
                parts,
                None,
                WriteCondition::Always,
            )
            .await;
        second.as_ref().unwrap();
        gate.open();
        let first = first.await.unwrap();
        assert!(first.is_err(), "{place:?}");
        world.judge(&first, &second).await;
    }
}

/// The write that was to replace deleted content dies before it takes effect; a recovery reads the store anew.
#[tokio::test]
async fn what_was_deleted_stays_deleted_when_the_write_that_was_to_replace_it_dies() {
    for place in [Place::OneGateway, Place::TwoNodes] {
        let world = World::new(place).await;
        world.first.write(FIRST).await.unwrap();
        world.first.delete().await;
        world.second.open.contest(&at().key);
        let dead = Gate::closed();
        let fault = Fault::Hold(Arc::clone(&dead));
        world.second.store.plan(Operation::Publish, fault);
        let second = world.second.put(SECOND, WriteCondition::Always);
        dead.reached().await;
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        let Side { door, open, .. } = &world.first;
        door.resolve_all(open).await.unwrap();
        door.scan(open).await.unwrap();
        assert_eq!(world.first.content().await, None, "{place:?}");
        world.second.write(SECOND).await.unwrap();
        assert_eq!(world.first.content().await.as_deref(), Some(SECOND));
    }
}
