use super::*;
use crate::state::RepositoryIdentity;
use crate::state::sqlite::Database;
use policies::identity::{Bucket, StoreName};
use policies::key::ObjectKey;

struct World {
    _folder: tempfile::TempDir,
    watch: Watch,
    id: RepositoryId,
    name: Repository,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let state: Arc<dyn State> = Arc::new(Database::open(&folder.path().join("state")).unwrap());
    let identity = RepositoryIdentity {
        name: Repository::new("prod"),
        bucket: Bucket::new("backups"),
        base_path: String::new(),
        store: StoreName::new("local"),
    };
    let id = state.open_repository(&identity).await.unwrap().id;
    World {
        _folder: folder,
        watch: Watch::new(state),
        id,
        name: identity.name,
    }
}

fn vanished(key: &str) -> Warning {
    let key = ObjectKey::parse(key).unwrap();
    Warning::ObjectVanished { key }
}

#[tokio::test]
async fn a_warning_is_told_once_kept_and_told_again_when_its_cause_is_gone() {
    let world = world().await;
    let mut listener = world.watch.listen();
    for _ in 0..3 {
        world
            .watch
            .raise(world.id, &world.name, vanished("a"))
            .await;
    }
    let told = listener.try_recv().unwrap();
    assert_eq!(told.event.kind(), "warning_raised");
    assert_eq!(told.body()["subject"], "a");
    assert!(listener.try_recv().is_err(), "one event");
    assert_eq!(world.watch.open(world.id).await.unwrap().len(), 1);
    let kind = Kind::ObjectVanished;
    world
        .watch
        .clear(world.id, &world.name, kind, Some("a"))
        .await;
    assert_eq!(listener.try_recv().unwrap().event.kind(), "warning_cleared");
    assert_eq!(world.watch.open(world.id).await.unwrap(), []);
    world
        .watch
        .raise(world.id, &world.name, vanished("a"))
        .await;
    assert_eq!(listener.try_recv().unwrap().event.kind(), "warning_raised");
}

#[tokio::test]
async fn reading_closes_what_happened_and_quiets_what_lasts() {
    let world = world().await;
    let (watch, id, name) = (&world.watch, world.id, &world.name);
    watch.raise(id, name, vanished("a")).await;
    let refused = Warning::RootRefused {
        reason: "not_newer",
        sentence: "it is old".into(),
    };
    watch.raise(id, name, refused).await;
    let read = watch.acknowledge(id, name, "root_refused", None).await;
    assert_eq!(read.unwrap(), 1);
    let read = watch
        .acknowledge(id, name, "object_vanished", Some("a"))
        .await;
    assert_eq!(read.unwrap(), 1);
    let rows = watch.open(id).await.unwrap();
    assert_eq!(rows.len(), 1, "what is so stays until it is no longer so");
    assert!(rows[0].acknowledged_ms.is_some());
}

#[tokio::test]
async fn a_listener_that_is_slow_learns_that_it_missed_some() {
    let world = world().await;
    let mut listener = world.watch.listen();
    for n in 0..BEHIND + 10 {
        world.watch.tell(Event::Job {
            repository: world.name.clone(),
            id: n.to_string(),
            kind: "verify",
            state: "running",
        });
    }
    let lost = listener.try_recv().unwrap_err();
    assert!(matches!(lost, broadcast::error::TryRecvError::Lagged(10)));
}

#[test]
fn every_kind_has_one_label_and_is_found_by_it() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
    }
}

#[test]
fn sentences_say_what_why_and_what_to_do() {
    let key = ObjectKey::parse("base/index-7").unwrap();
    let sentences = [
        Warning::SecondCluster {
            generation: 7,
            bound: "Cu1".into(),
            found: "Cu2".into(),
        },
        Warning::OtherUuid {
            generation: 7,
            expected: "Ru1".into(),
            found: None,
        },
        Warning::SnapshotsLost {
            generation: 7,
            lost: ["a", "b", "c", "d"].map(Arc::from).to_vec(),
        },
        Warning::SlashTwin {
            prefix: "base//".into(),
            key: ObjectKey::parse("base//index-0").unwrap(),
        },
        vanished("base/__a"),
        Warning::ObjectChanged { key: key.clone() },
        Warning::RootAppeared { key: key.clone() },
        Warning::BadChecksum {
            key: key.clone(),
            what: "its footer says 1 but its bytes have 2".into(),
        },
        Warning::Rotten {
            key: key.clone(),
            what: "its bytes are not what they should be",
        },
        Warning::Damage {
            key,
            what: "is missing".into(),
            snapshots: vec!["a".into()],
        },
    ]
    .map(|warning| warning.to_string());
    for sentence in &sentences {
        assert!(sentence.ends_with('.'), "{sentence}");
    }
    assert_eq!(
        sentences[2],
        "'index-7' adds snapshots but lacks snapshots 'a', 'b', 'c' and 1 more, which the root before it had: \
         its writer did not know that root."
    );
    assert_eq!(
        sentences[9],
        "'base/index-7' is missing; it was so before this gateway guarded it (hits snapshot 'a')."
    );
}
