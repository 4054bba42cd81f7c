//! For tests: two writers at one repository, each with its own way to the store, which can be held and cut.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use policies::identity::Bucket;
use policies::key::ObjectKey;
use tokio::task::JoinHandle;

use super::miniature::caller;
use super::plan::RepositoryPlan;
use super::{
    Address, Body, Door, Error, OpenRepository, ReadCondition, WriteCondition, Written, opened,
};
use crate::state::sqlite::Database;
use crate::state::{Details, State};
use crate::stores::Store;
use crate::stores::directory::Directory;
use crate::stores::faults::Faulty;

/// A key that nothing is written to: the lock is taken for it.
const ANY: &str = "base/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__0000000000000000000000";

/// Where the two writers are: at doors of their own, or at one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    OneGateway,
    TwoNodes,
}

pub struct Side {
    pub door: Arc<Door>,
    pub store: Arc<Faulty<dyn Store>>,
    pub open: Arc<OpenRepository>,
}

pub struct Pair {
    pub first: Side,
    pub second: Side,
    files: tempfile::TempDir,
}

async fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
    let files = tempfile::tempdir().unwrap();
    std::fs::create_dir(files.path().join("store")).unwrap();
    let directory = Directory::open(files.path().join("store")).await;
    (files, Arc::new(directory.unwrap()))
}

async fn side(state: Arc<dyn State>, bytes: &Arc<dyn Store>) -> Side {
    let store = Arc::new(Faulty::new(Arc::clone(bytes)));
    let plan = RepositoryPlan {
        retention: Duration::ZERO,
        ..opened::plan(["a", "b"])
    };
    let seen = Arc::clone(&store) as Arc<dyn Store>;
    let (door, open) = opened::one(state, "prod", plan, seen).await;
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

    pub fn put(&self, key: &str, text: &'static str, condition: WriteCondition) -> JoinHandle<Put> {
        let (door, to) = (Arc::clone(&self.door), at(key));
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
            door.put(&caller(), &to, body, details, condition).await
        })
    }

    /// As a client writes: what it is told to repeat, it repeats.
    pub async fn write(&self, key: &str, text: &'static str) -> Put {
        let mut last = self.put(key, text, WriteCondition::Always).await.unwrap();
        for _ in 0..3 {
            if !matches!(last, Err(Error::SlowDown(_))) {
                break;
            }
            last = self.put(key, text, WriteCondition::Always).await.unwrap();
        }
        last
    }

    pub async fn content(&self, key: &str) -> Option<String> {
        let condition = ReadCondition::default();
        match self.door.get(&caller(), &at(key), None, &condition).await {
            Ok(found) => {
                let bytes: Vec<Bytes> = found.bytes.try_collect().await.unwrap();
                Some(String::from_utf8(bytes.concat()).unwrap())
            }
            Err(Error::NoSuchKey) => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// What lies in the store, whatever the catalog says.
    pub async fn in_store(&self, key: &str) -> Option<String> {
        let found = self.store.read(&at(key).key, None, None).await.unwrap()?;
        let bytes: Vec<Bytes> = found.bytes.try_collect().await.unwrap();
        Some(String::from_utf8(bytes.concat()).unwrap())
    }

    pub async fn delete(&self, key: &str) {
        let bucket = Bucket::new("backups");
        let verdicts = self
            .door
            .delete(&caller(), &bucket, vec![at(key).key])
            .await;
        verdicts.unwrap().into_iter().for_each(|v| v.unwrap());
    }
}

pub type Put = Result<Written, Error>;

pub fn at(key: &str) -> Address {
    Address {
        bucket: Bucket::new("backups"),
        key: ObjectKey::parse(key).unwrap(),
    }
}

impl Pair {
    pub async fn new(place: Place) -> Self {
        match place {
            Place::OneGateway => {
                let (files, bytes) = store().await;
                let state = Database::open(&files.path().join("state.db")).unwrap();
                let only = side(Arc::new(state), &bytes).await;
                Self::of(only.again(), only, files).await
            }
            Place::TwoNodes => Self::of_nodes(crate::state::postgres::tests::nodes().await).await,
        }
    }

    /// Two nodes that have these ways to their state database.
    pub async fn of_nodes([one, other]: [Arc<dyn State>; 2]) -> Self {
        let (files, bytes) = store().await;
        let (first, second) = (side(one, &bytes).await, side(other, &bytes).await);
        Self::of(first, second, files).await
    }

    async fn of(first: Side, second: Side, files: tempfile::TempDir) -> Self {
        // The lock is taken, so that it is no part of what follows.
        let free = first.door.may_write(&caller(), &at(ANY)).await;
        free.unwrap();
        Self {
            first,
            second,
            files,
        }
    }

    /// Names of what is kept aside.
    pub fn kept(&self) -> Vec<String> {
        let folder = self.files.path().join("store/.snapgate/kept/prod");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.unwrap().file_name();
            name.into_string().unwrap()
        };
        entries.map(name).collect()
    }
}
