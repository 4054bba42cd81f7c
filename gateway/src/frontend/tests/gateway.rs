//! A gateway with two repositories: `prod` (bucket `snapshots`, base path `base`, writer `a`) and
//! `private` (bucket `private`, for `b` alone).

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use policies::identity::{Bucket, Cluster};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::client::Client;
use super::signer::{Key, Sent};
use crate::frontend::{Credentials, Frontend, Limits, Settings};
use crate::repository::opened;
use crate::repository::plan::{Readers, RepositoryPlan};
use crate::state::State;
use crate::state::sqlite::Database;
use crate::stores::Store;
use crate::stores::directory::Directory;

pub const A: Key = Key {
    id: "KEYA",
    secret: "secret-of-a",
};
pub const B: Key = Key {
    id: "KEYB",
    secret: "secret-of-b",
};

#[derive(Debug)]
struct Known(HashMap<&'static str, (&'static str, &'static str)>);

impl Credentials for Known {
    fn find(&self, access_key: &str) -> Option<(Cluster, Zeroizing<String>)> {
        let (cluster, secret) = self.0.get(access_key)?;
        Some((Cluster::new(*cluster), Zeroizing::new((*secret).to_owned())))
    }
}

pub struct Gateway {
    pub address: SocketAddr,
    files: tempfile::TempDir,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let files = tempfile::tempdir().unwrap();
        let state = Database::open(&files.path().join("state.db")).unwrap();
        let state: Arc<dyn State> = Arc::new(state);
        let root = files.path().join("store");
        std::fs::create_dir(&root).unwrap();
        let store: Arc<dyn Store> = Arc::new(Directory::open(root).await.unwrap());
        let prod = plan("snapshots", "base", "a", Readers::Everyone);
        let private = plan("private", "", "b", Readers::These(BTreeSet::new()));
        let repositories = [
            ("prod", prod, Arc::clone(&store)),
            ("private", private, store),
        ];
        let door = opened::door(state, repositories).await;
        door.recover().await.unwrap();
        let mut settings = Settings {
            domain: Some("s3.example".to_owned()),
            region: None,
            allow_unsigned_payload: None,
            tls: None,
            token_secret: [1; 32],
            limits: Limits::default(),
        };
        change(&mut settings);
        let known = Known(HashMap::from([
            (A.id, ("a", A.secret)),
            (B.id, ("b", B.secret)),
        ]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let frontend = Frontend::new(door, settings, Arc::new(known));
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move {
                frontend
                    .serve(listener, stop.cancelled_owned())
                    .await
                    .unwrap();
            }
        });
        Self {
            address,
            files,
            stop,
            serving,
        }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One request of cluster `a` on a connection of its own.
    pub async fn ask(&self, sent: Sent) -> super::client::Answer {
        let mut client = self.connect().await;
        client.send(&sent.sign(A).bytes()).await;
        client.answer(sent.method()).await
    }

    /// As somebody does who works on the store's files: the object's file now ends after `len` bytes.
    pub fn cut_short(&self, name: &str, len: u64) {
        let name = Path::new(name).file_name().unwrap();
        let mut folders = vec![self.files.path().join("store")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name() == Some(name) {
                    let file = std::fs::File::options().write(true).open(path).unwrap();
                    return file.set_len(len).unwrap();
                }
            }
        }
        panic!("no such file");
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

fn plan(bucket: &str, base_path: &str, writer: &str, readers: Readers) -> RepositoryPlan {
    RepositoryPlan {
        bucket: Bucket::new(bucket),
        base_path: base_path.to_owned(),
        readers,
        retention: Duration::from_secs(60),
        ..opened::plan([writer])
    }
}
