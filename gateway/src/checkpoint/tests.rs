//! A checkpoint says what the catalog said, whole, or says that it is damaged.

use std::collections::BTreeMap;

use policies::format::closure::NewestSnapshot;
use policies::identity::{Bucket, Cluster, StoreName};
use policies::lock::{self, Lock};
use tempfile::TempDir;

use super::*;
use crate::state::sqlite::Database;
use crate::state::{
    AuditEntry, CommittedRoot, NewLock, Put, Removal, RepositoryIdentity, RepositoryRow,
    SnapshotName, State,
};
use crate::stores::directory::Directory;
use crate::stores::{Identity, Store};

struct World {
    state: Arc<dyn State>,
    store: Arc<dyn Store>,
    name: Repository,
    row: RepositoryRow,
    files: TempDir,
}

impl World {
    async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let state: Arc<dyn State> =
            Arc::new(Database::open(&files.path().join("state.db")).unwrap());
        let root = files.path().join("store");
        std::fs::create_dir(&root).unwrap();
        let store: Arc<dyn Store> = Arc::new(Directory::open(root).await.unwrap());
        let name = Repository::new("prod");
        let identity = RepositoryIdentity {
            name: name.clone(),
            bucket: Bucket::new("backup"),
            base_path: "base".into(),
            store: StoreName::new("disk"),
        };
        let row = state.open_repository(&identity).await.unwrap();
        let to = NewLock {
            lock: Lock::Held {
                epoch: Epoch(1),
                holder: Cluster::new("a"),
            },
            now_ms: 1,
            reason: None,
        };
        let audit = AuditEntry {
            at_ms: 1,
            principal: "test".into(),
            action: "lock".into(),
            repository: Some(name.clone()),
            epoch: None,
            detail: serde_json::Value::Null,
        };
        let version = row.lock.version;
        state.move_lock(row.id, version, to, audit).await.unwrap();
        Self {
            state,
            store,
            name,
            row,
            files,
        }
    }

    fn follower(&self, epoch: u64) -> Follower {
        Follower::new(
            Arc::clone(&self.state),
            Arc::clone(&self.store),
            self.name.clone(),
            (self.row.id, self.row.bucket),
            Epoch(epoch),
        )
    }

    fn permit(&self) -> lock::Permit {
        lock::upkeep(&self.name, Epoch(1))
    }

    async fn put(&self, key: &str, root: Option<CommittedRoot>) -> u64 {
        let there = self.state.object(self.row.bucket, &own(key)).await.unwrap();
        let put = Put {
            repository: self.row.id,
            bucket: self.row.bucket,
            key: own(key),
            size: key.len() as u64,
            etag: "5d41402abc4b2a76b9719d911017c592".into(),
            hash: Some([7; 32]),
            identity: Identity("42:1000".into()),
            now_ms: 5,
            details: Some(Arc::new(crate::state::Details {
                headers: vec![("content-type".into(), key.into())],
                ..Default::default()
            })),
            replaces: there.object.map(|o| o.sequence),
            kept: None,
            journalled: true,
            completes: None,
            root,
            answer: None,
        };
        let recorded = self.state.record(&self.permit(), put).await;
        recorded.unwrap().sequence
    }

    async fn remove(&self, key: &str) -> u64 {
        let removal = Removal {
            bucket: self.row.bucket,
            repository: self.row.id,
            key: own(key),
            retain_ms: Some(1000),
            journalled: true,
            now_ms: 6,
        };
        let removed = self.state.remove(&self.permit(), vec![removal]).await;
        removed.unwrap();
        self.sequence().await
    }

    async fn sequence(&self) -> u64 {
        self.state.usage(self.row.id).await.unwrap().sequence
    }

    /// What the newest checkpoint says: sequence, objects (with the proof that their details are there), points.
    async fn told(&self) -> (u64, BTreeMap<String, u64>, Vec<u64>) {
        let found = find(self.store.as_ref(), &self.name)
            .await
            .unwrap()
            .unwrap();
        let (mut objects, mut points) = (BTreeMap::new(), Vec::new());
        let mut position = Position::default();
        while let Some(rows) = found
            .rows(self.store.as_ref(), &mut position)
            .await
            .unwrap()
        {
            for row in rows {
                match row {
                    Row::Put(stored) => {
                        let details = stored.details.as_ref().unwrap();
                        assert_eq!(details.headers[0].1, stored.key);
                        objects.insert(stored.key, stored.sequence);
                    }
                    Row::Delete(key) => {
                        objects.remove(&key);
                    }
                    Row::Point(point) => points.push(point.generation),
                    Row::Pins(_) => {}
                }
            }
        }
        (found.sequence, objects, points)
    }

    fn pieces(&self) -> Vec<std::path::PathBuf> {
        let mut pieces = Vec::new();
        let mut folders = vec![self.files.path().join("store/.snapgate/checkpoints/prod")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    pieces.push(path);
                }
            }
        }
        pieces.sort();
        pieces
    }
}

fn own(key: &str) -> ObjectKey {
    ObjectKey::parse(key).unwrap()
}

fn root(generation: u64) -> CommittedRoot {
    CommittedRoot {
        generation,
        cluster: Some(Cluster::new("a")),
        epoch: Epoch(1),
        snapshots: [SnapshotName {
            name: "nightly".into(),
            uuid: "u1".into(),
        }]
        .into(),
        newest: Some(NewestSnapshot {
            name: "nightly".into(),
            ended_ms: 7,
        }),
        complete: true,
    }
}

#[tokio::test]
async fn a_checkpoint_says_what_the_catalog_said_at_its_sequence() {
    let world = World::new().await;
    let mut follower = world.follower(1);
    let a = world.put("base/a", None).await;
    let b = world.put("base/b", None).await;
    follower.advance_to(b).await.unwrap();
    let both = BTreeMap::from([("base/a".to_owned(), a), ("base/b".to_owned(), b)]);
    assert_eq!(world.told().await, (b, both, vec![]));

    let again = world.put("base/a", None).await;
    world.remove("base/b").await;
    let committed = world.put("base/index-1", Some(root(1))).await;
    follower.advance_to(committed).await.unwrap();
    let now = BTreeMap::from([
        ("base/a".to_owned(), again),
        ("base/index-1".to_owned(), committed),
    ]);
    assert_eq!(world.told().await, (committed, now, vec![1]));
}

#[tokio::test]
async fn a_checkpoint_can_be_behind_the_catalog() {
    let world = World::new().await;
    let a = world.put("base/a", None).await;
    world.put("base/a", None).await;
    world.put("base/b", None).await;
    world.follower(1).advance_to(a).await.unwrap();
    let (sequence, objects, _) = world.told().await;
    assert_eq!(sequence, a);
    assert!(!objects.contains_key("base/b"), "{objects:?}");
}

#[tokio::test]
async fn a_follower_goes_on_where_the_one_before_it_ended() {
    let world = World::new().await;
    let a = world.put("base/a", None).await;
    world.follower(1).advance_to(a).await.unwrap();
    let b = world.put("base/b", None).await;
    world.follower(1).advance_to(b).await.unwrap();
    let c = world.put("base/c", None).await;
    world.follower(2).advance_to(c).await.unwrap();
    let all = [("base/a", a), ("base/b", b), ("base/c", c)];
    let all = all.map(|(key, sequence)| (key.to_owned(), sequence));
    assert_eq!(world.told().await, (c, BTreeMap::from(all), vec![]));
    assert_eq!(world.pieces().len(), 3, "one base and two pieces");
}

#[tokio::test]
async fn what_a_fenced_writer_adds_is_not_the_newest() {
    let world = World::new().await;
    let mut fenced = world.follower(1);
    let a = world.put("base/a", None).await;
    fenced.advance_to(a).await.unwrap();
    let b = world.put("base/b", None).await;
    world.follower(2).advance_to(b).await.unwrap();
    world.put("base/c", None).await;
    let later = world.put("base/d", None).await;
    fenced.advance_to(later).await.unwrap();
    assert_eq!(world.told().await.0, b);
}

#[tokio::test]
async fn a_damaged_or_missing_piece_is_noticed_wherever_it_is() {
    let world = World::new().await;
    let mut follower = world.follower(1);
    for n in 0..4 {
        let sequence = world.put(&format!("base/{n}"), None).await;
        follower.advance_to(sequence).await.unwrap();
    }
    let check = async || match find(world.store.as_ref(), &world.name).await {
        Ok(Some(found)) => found.check(world.store.as_ref()).await.map(|_| ()),
        Ok(None) => panic!("there is a checkpoint"),
        Err(e) => Err(e),
    };
    check().await.unwrap();
    for piece in world.pieces() {
        let whole = std::fs::read(&piece).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 2] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&piece, &damaged).unwrap();
            let refused = check().await.unwrap_err();
            assert!(
                refused.is_damage(),
                "{}: byte {at}: {refused}",
                piece.display()
            );
        }
        std::fs::write(&piece, &whole[..whole.len() / 2]).unwrap();
        assert!(check().await.unwrap_err().is_damage());
        std::fs::write(&piece, &whole).unwrap();
    }
    let pieces = world.pieces();
    let middle = std::fs::read(&pieces[1]).unwrap();
    std::fs::remove_file(&pieces[1]).unwrap();
    assert!(check().await.unwrap_err().is_damage());
    std::fs::write(&pieces[1], std::fs::read(&pieces[2]).unwrap()).unwrap();
    assert!(check().await.unwrap_err().is_damage(), "a swapped piece");
    std::fs::write(&pieces[1], middle).unwrap();
    check().await.unwrap();
}

#[tokio::test]
async fn a_damaged_end_makes_the_follower_begin_anew() {
    let world = World::new().await;
    let a = world.put("base/a", None).await;
    world.follower(1).advance_to(a).await.unwrap();
    let last = world.pieces().pop().unwrap();
    std::fs::write(&last, b"{}").unwrap();
    let b = world.put("base/b", None).await;
    world.follower(1).advance_to(b).await.unwrap();
    let (sequence, objects, _) = world.told().await;
    assert_eq!((sequence, objects.len()), (b, 2));
    assert_eq!(world.pieces().len(), 1, "the damaged series is gone");
}

#[tokio::test]
async fn pieces_are_bounded_and_a_new_base_takes_the_place_of_many() {
    let world = World::new().await;
    let mut last = 0;
    for n in 0..6_000 {
        last = world.put(&format!("base/{n:06}"), None).await;
    }
    let mut follower = world.follower(1);
    follower.advance_to(last).await.unwrap();
    assert_eq!(world.pieces().len(), 2, "more than one piece of 5,000 rows");
    let (sequence, objects, _) = world.told().await;
    assert_eq!((sequence, objects.len()), (last, 6_000));
    for n in 0..2_100 {
        let sequence = world.put(&format!("base/{:06}", n % 10), None).await;
        follower.advance_to(sequence).await.unwrap();
    }
    assert!(world.pieces().len() < 2_000, "{}", world.pieces().len());
    assert_eq!(world.told().await.0, world.sequence().await);
}

#[tokio::test]
async fn another_databases_numbers_make_a_new_base() {
    let world = World::new().await;
    let a = world.put("base/a", None).await;
    let mut follower = world.follower(1);
    follower.advance_to(a).await.unwrap();
    // Another database's store: its checkpoint is ahead of all that this one counted.
    let other = World::new().await;
    let mut stranger = Follower::new(
        Arc::clone(&other.state),
        Arc::clone(&world.store),
        world.name.clone(),
        (other.row.id, other.row.bucket),
        Epoch(2),
    );
    stranger.advance_to(0).await.unwrap();
    assert_eq!(world.told().await, (0, BTreeMap::new(), vec![]));
}

/// The mirror of a new primary finds the record of the old one, which was further than what both had.
#[tokio::test]
async fn what_an_old_primary_had_alone_is_not_taken_for_this_ones() {
    let world = World::new().await;
    let both = world.put("base/a", None).await;
    let alone = world.put("base/b", None).await;
    world.follower(1).advance_to(alone).await.unwrap();
    world.follower(2).advance_to(both).await.unwrap();
    let (sequence, objects, _) = world.told().await;
    assert_eq!(sequence, both);
    assert_eq!(objects.into_keys().collect::<Vec<_>>(), ["base/a"]);
}
