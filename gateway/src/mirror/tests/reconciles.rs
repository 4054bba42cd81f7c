//! Reconciling from listings, and what a process that died left on the target.

use policies::format::build::{Form, Style};
use policies::identity::{Epoch, Repository};
use policies::lock;

use super::*;
use crate::stores::directory::Directory;

#[tokio::test]
async fn a_new_mirror_of_an_old_repository_is_reconciled_and_restores_throughout() {
    let mut m = Mirrored::new().await;
    m.mirror.pause().await.unwrap();
    for name in ["one", "two", "three"] {
        m.snapshot(name).await;
    }
    m.delete_snapshot("one").await;
    m.until(State::Paused).await;
    m.mirror.resync("a test", false).await.unwrap();
    assert!(m.status().await.lag.operations > 0);
    m.mirror.resume().await.unwrap();
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn a_mirror_that_is_reconciled_tells_no_newest_snapshot_until_it_is_done() {
    let m = Mirrored::with_one().await;
    m.pause().await;
    assert!(m.status().await.newest.is_some());
    m.mirror.resync("a test", false).await.unwrap();
    assert_eq!(m.status().await.newest, None);
    m.mirror.resume().await.unwrap();
    m.until(State::InSync).await;
    let newest = m.status().await.newest.unwrap();
    assert_eq!(&*newest.newest.unwrap().name, "one");
}

#[tokio::test]
async fn a_lost_journal_is_noticed_and_reconciled() {
    let mut m = Mirrored::with_one().await;
    m.pause().await;
    m.snapshot("two").await;
    let state = m.world.door.state();
    while state.bound_journal(m.world.open.id, 3, 5).await.unwrap() {}
    m.mirror.resume().await.unwrap();
    m.until(State::InSync).await;
    m.equal().await;
}

/// OpenSearch's roots bear no uuid: which repository they are of, only their snapshots tell.
fn unidentified() -> Style {
    Style {
        form: Form::Uuid { identified: false },
        ..Style::default()
    }
}

#[tokio::test]
async fn a_mirror_so_far_behind_that_it_shares_no_snapshot_with_its_source_is_reconciled() {
    let mut m = Mirrored::onto(World::styled(unidentified()).await, Memory::new(1)).await;
    m.snapshot("one").await;
    m.until(State::InSync).await;
    m.target.cut(true);
    m.snapshot("two").await;
    m.delete_snapshot("one").await;
    m.mirror.resync("a test", false).await.unwrap();
    m.target.cut(false);
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn a_target_that_holds_another_repository_is_never_written() {
    let mut other = Mirrored::onto(World::styled(unidentified()).await, Memory::new(1)).await;
    other.snapshot("of-another").await;
    other.until(State::InSync).await;
    other.mirror.stop().await;
    let target = Memory::new(2);
    for (key, bytes) in other.target.objects() {
        if key.as_str().starts_with("base/") {
            target.spoil(&key, Some(bytes));
        }
    }
    let before = target.objects();
    let mut m = Mirrored::onto(World::styled(unidentified()).await, target).await;
    m.world.cluster.reseed(99);
    m.snapshot("ours").await;
    m.until(State::Stalled).await;
    let stalled = m.stalled().await.unwrap();
    assert!(
        stalled.reason.contains("holds another repository"),
        "{stalled:?}"
    );
    let mut now = m.target.objects();
    now.retain(|key, _| key.as_str().starts_with("base/"));
    assert_eq!(now, before);
}

#[tokio::test]
async fn a_root_that_only_an_old_primary_had_is_moved_aside_and_every_instant_restores() {
    let mut m = Mirrored::with_one().await;
    m.pause().await;
    // The target went on alone for one snapshot.
    let mut alone = m.world.cluster.clone();
    alone.reseed(99);
    std::mem::swap(&mut alone, &mut m.world.cluster);
    m.world.take("theirs");
    std::mem::swap(&mut alone, &mut m.world.cluster);
    for request in alone.requests() {
        m.note(&request);
        match request {
            Request::Put { key, bytes, .. } => m.target.spoil(&key, Some(bytes.into())),
            Request::Delete { key, .. } => m.target.spoil(&key, None),
        }
    }
    assert_eq!(newest(&m.target.objects(), "base"), Some(1));
    m.snapshot("ours").await;
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&wrong);
    m.target.look(Box::new(move |objects| {
        found.lock().extend(broken(objects, "base"));
    }));
    m.mirror.resync("it returns", true).await.unwrap();
    m.mirror.resume().await.unwrap();
    m.until(State::InSync).await;
    assert_eq!(*wrong.lock(), Vec::<String>::new());
    m.equal().await;
    let kept = m.target.objects().into_keys().filter(|key| {
        let key = key.as_str();
        key.starts_with(".snapgate/kept/prod/divergent-") && key.ends_with("-index-1")
    });
    assert_eq!(kept.count(), 1);
}

#[tokio::test]
async fn what_a_dead_process_left_hidden_on_a_target_is_removed() {
    let mut m = Mirrored::new().await;
    m.snapshot("one").await;
    let files = tempfile::tempdir().unwrap();
    let target: Arc<dyn Store> = Arc::new(Directory::open(files.path().to_owned()).await.unwrap());
    let permit = |name: &str| lock::upkeep(&Repository::new(name), Epoch(1));
    let key = m.world.at("base/index-7").key;
    let plan = crate::stores::Plan {
        size: Some(1),
        fenced: true,
    };
    let ours = target.begin(&permit("prod"), &key, plan).await.unwrap();
    target.begin_multipart(&permit("prod"), &key).await.unwrap();
    // Where a gateway is primary, or mirrors another repository, uploads are open that are not this mirror's.
    let kept = target
        .begin_multipart(&permit("other"), &key)
        .await
        .unwrap();
    mirrored_once(&m, "near", &target).await;
    let left: Vec<_> = target.uploads().await.unwrap();
    assert_eq!(
        left.into_iter().map(|(_, id)| id).collect::<Vec<_>>(),
        [kept]
    );
    let late = ours.publish(crate::stores::Publish::Replace).await;
    assert!(
        matches!(late, Err(crate::stores::Error::UploadGone)),
        "{late:?}"
    );
}

/// A mirror of another process onto that store, until it has everything.
async fn mirrored_once(m: &Mirrored, name: &str, target: &Arc<dyn Store>) {
    let plan = TargetPlan::onto(StoreName::new(name));
    let mirror = Mirror::start(
        source(&m.world),
        Arc::clone(target),
        plan,
        DEFAULT_JOURNAL_LIMIT,
    );
    let mirror = mirror.await.unwrap();
    let upto = m.status().await.source_seq;
    assert!(mirror.has(upto, Duration::from_secs(30)).await);
    mirror.stop().await;
}

#[tokio::test]
async fn what_a_dead_process_left_hidden_in_a_bucket_is_removed_by_its_keys() {
    let mut m = Mirrored::new().await;
    m.snapshot("one").await;
    let (_service, bucket) = crate::stores::s3::lossy(1, 0.0).await;
    let permit = lock::upkeep(&Repository::new("prod"), Epoch(1));
    let ours = m.world.at("base/index-7").key;
    let elsewhere = ObjectKey::parse("elsewhere/index-7").unwrap();
    bucket.begin_multipart(&permit, &ours).await.unwrap();
    let kept = bucket.begin_multipart(&permit, &elsewhere).await.unwrap();
    mirrored_once(&m, "bucket", &bucket).await;
    assert_eq!(bucket.uploads().await.unwrap(), [(elsewhere, kept)]);
}

#[tokio::test]
async fn a_resync_that_is_ordered_does_not_forget_since_when_the_mirror_is_behind() {
    let mut m = Mirrored::with_one().await;
    m.pause().await;
    m.snapshot("two").await;
    let state = m.world.door.state();
    let applied = m.row().await.applied;
    let backlog = state.backlog(m.world.open.id, applied).await.unwrap();
    for _ in 0..2 {
        m.mirror
            .resync("an operator asked for it", false)
            .await
            .unwrap();
        let resync = m.row().await.resync.unwrap();
        assert_eq!(Some(resync.behind_since()), backlog.oldest_ms);
    }
    m.mirror.resume().await.unwrap();
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn a_reconciliation_tells_how_much_there_is_before_its_first_page_is_done() {
    let mut m = Mirrored::with_one().await;
    m.pause().await;
    m.snapshot("two").await;
    super::follows::rot_fresh(&m);
    m.mirror.resync("a test", false).await.unwrap();
    m.mirror.resume().await.unwrap();
    m.until(State::Stalled).await;
    let resync = m.row().await.resync.unwrap();
    assert!(resync.total > 0 && resync.done == 0, "{resync:?}");
}
