//! What a mirror does, one promise each.

use super::*;

#[tokio::test]
async fn a_mirror_follows_snapshots_and_deletes_and_ends_equal() {
    let mut m = Mirrored::new().await;
    for name in ["one", "two", "three"] {
        m.snapshot(name).await;
    }
    m.until(State::InSync).await;
    m.equal().await;
    m.delete_snapshot("two").await;
    m.snapshot("four").await;
    m.until(State::InSync).await;
    m.equal().await;
    let status = m.mirror.status().await.unwrap().unwrap();
    let newest = status.newest.unwrap();
    assert_eq!(newest.snapshots, ["one", "three", "four"]);
    assert_eq!(status.lag.operations, 0);
    assert!(m.seen.lock().instants > 30);
}

#[tokio::test]
async fn a_new_mirror_of_an_old_repository_is_reconciled_and_restores_throughout() {
    let world = World::new().await;
    let mut m = Mirrored::seeded(world, 1).await;
    m.mirror.pause().await.unwrap();
    for name in ["one", "two", "three"] {
        m.snapshot(name).await;
    }
    m.delete_snapshot("one").await;
    m.until(State::Paused).await;
    m.mirror.resync("a test", false).await.unwrap();
    assert!(m.mirror.status().await.unwrap().unwrap().lag.operations > 0);
    m.mirror.resume().await.unwrap();
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn while_the_target_is_away_the_lag_grows_and_nothing_waits() {
    let mut m = Mirrored::new().await;
    m.snapshot("one").await;
    m.until(State::InSync).await;
    m.target.cut(true);
    m.snapshot("two").await;
    let status = m.mirror.status().await.unwrap().unwrap();
    assert_eq!(status.lag.restore_points, 1);
    assert_eq!(
        status.lag.operations,
        status.source_seq - status.row.applied
    );
    assert!(status.lag.seconds >= 1 && status.lag.bytes > 0);
    assert_eq!(status.newest.unwrap().snapshots, ["one"]);
    m.target.cut(false);
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn bytes_that_rotted_at_the_source_are_not_copied_and_the_mirror_says_so() {
    let mut m = Mirrored::new().await;
    m.snapshot("one").await;
    m.until(State::InSync).await;
    m.mirror.pause().await.unwrap();
    m.until(State::Paused).await;
    m.snapshot("two").await;
    let there = m.target.objects();
    let data = m.world.data_files();
    let fresh = data
        .iter()
        .find(|name| !there.contains_key(&ObjectKey::parse(name).unwrap()));
    let path = m.world.path(fresh.unwrap());
    let good = std::fs::read(&path).unwrap();
    let mut rotten = good.clone();
    rotten[0] ^= 1;
    overwrite_in_place(&path, &rotten);
    m.mirror.resume().await.unwrap();
    m.until(State::Stalled).await;
    let status = m.mirror.status().await.unwrap().unwrap();
    let stalled = status.row.stalled.unwrap();
    assert_eq!(
        stalled.key.as_deref(),
        fresh.map(String::as_str),
        "{stalled:?}"
    );
    assert_eq!(
        status.newest.unwrap().snapshots,
        ["one"],
        "it is never skipped"
    );
    assert!(m.seen.lock().wrong.is_empty());
}

/// Rot changes bytes, not what the file system says about them.
fn overwrite_in_place(path: &std::path::Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_promoted_target_is_never_written_again() {
    use policies::identity::{Cluster, Epoch, Handover};
    use policies::lock::anchor::{self, Anchor};
    let mut m = Mirrored::new().await;
    m.snapshot("one").await;
    m.until(State::InSync).await;
    let name = m.world.open.name.clone();
    let last = anchor::name(&name, m.mirror.row().await.unwrap().unwrap().epoch);
    let objects = m.target.objects();
    let previous = anchor::hash(&objects[&ObjectKey::parse(&last).unwrap()]);
    let promoted = Anchor {
        repository: name.clone(),
        epoch: Epoch(2),
        holder: Some(Cluster::new("dr")),
        handover: Handover::new("promotion"),
        previous: Some(previous),
    };
    let key = ObjectKey::parse(&anchor::name(&name, Epoch(2))).unwrap();
    m.target.spoil(&key, Some(anchor::encode(&promoted).into()));
    let before = m
        .target
        .objects()
        .keys()
        .filter(|k| k.as_str().contains("/index-"))
        .count();
    m.snapshot("two").await;
    m.until(State::Stalled).await;
    let stalled = m.mirror.row().await.unwrap().unwrap().stalled.unwrap();
    assert!(stalled.fenced, "{stalled:?}");
    let roots = |m: &Mirrored| {
        m.target
            .objects()
            .keys()
            .filter(|k| k.as_str().contains("/index-"))
            .count()
    };
    m.kill().await;
    m.until(State::Stalled).await;
    assert!(roots(&m) >= before && newest(&m.target.objects()) == Some(0));
}

#[tokio::test]
async fn a_lost_journal_is_noticed_and_reconciled() {
    let mut m = Mirrored::new().await;
    m.snapshot("one").await;
    m.until(State::InSync).await;
    m.mirror.pause().await.unwrap();
    m.until(State::Paused).await;
    m.snapshot("two").await;
    let state = m.world.door.state();
    while state.bound_journal(m.world.open.id, 3, 5).await.unwrap() {}
    m.mirror.resume().await.unwrap();
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn a_barrier_holds_the_answer_until_the_mirror_has_the_root() {
    use crate::repository::witness::Witness;
    let mut m = Mirrored::new().await;
    m.mirror.link.plan.write().mode = policies::mirror_order::Mode::Barrier;
    let mirrors = Arc::new(crate::mirror::Mirrors::default());
    mirrors.add(Arc::clone(&m.mirror));
    m.world.door.await_witness(mirrors.clone());
    m.snapshot("one").await;
    let status = m.mirror.status().await.unwrap().unwrap();
    assert_eq!(
        status.lag.restore_points, 0,
        "acknowledged means that the mirror has it"
    );
    m.target.cut(true);
    let (name, upto) = (m.world.open.name.clone(), status.source_seq + 1);
    let waiting = tokio::spawn(async move { mirrors.has(&name, upto).await });
    m.world
        .put("base/incompatible-snapshots", b"{}".to_vec())
        .await
        .unwrap();
    m.seen.lock().written.insert(
        ObjectKey::parse("base/incompatible-snapshots").unwrap(),
        vec![b"{}".to_vec()],
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    m.target.cut(false);
    waiting.await.unwrap().unwrap();
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn the_scrub_mends_either_side_from_the_other() {
    let mut m = Mirrored::new().await;
    m.snapshot("one").await;
    m.until(State::InSync).await;
    let data = m.world.data_files();
    let key = |at: usize| ObjectKey::parse(&data[at]).unwrap();
    m.target.spoil(&key(0), None);
    let rotten = bytes::Bytes::from(vec![0; m.target.objects()[&key(1)].len()]);
    m.target.spoil(&key(1), Some(rotten));
    let path = m.world.path(&data[2]);
    let good = std::fs::read(&path).unwrap();
    overwrite_in_place(&path, &vec![1; good.len()]);
    std::fs::remove_file(m.world.path(&data[3])).unwrap();
    m.seen.lock().wrong.clear();
    let report = m.mirror.verify(true, &|_, _| {}).await.unwrap();
    assert_eq!(report.problems.len(), 2, "{report:?}");
    let throttle = crate::mirror::throttle::Throttle::new(None);
    let round = m.mirror.scrub(&throttle).await.unwrap();
    assert_eq!(
        (round.mended_target, round.mended_source, round.lost),
        (2, 2, 0),
        "{round:?}"
    );
    let round = m.mirror.scrub(&throttle).await.unwrap();
    assert_eq!(
        (round.mended_target, round.mended_source, round.lost),
        (0, 0, 0),
        "{round:?}"
    );
    m.seen.lock().wrong.clear();
    m.equal().await;
    assert!(
        m.mirror
            .verify(true, &|_, _| {})
            .await
            .unwrap()
            .problems
            .is_empty()
    );
}
