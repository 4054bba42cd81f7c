//! What a mirror does, one promise each.

use super::*;
use crate::checkpoint;

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
    let status = m.status().await;
    let newest = status.newest.unwrap();
    assert_eq!(newest.snapshots, ["one", "three", "four"]);
    assert_eq!(&*newest.newest.unwrap().name, "four");
    assert_eq!(status.lag.operations, 0);
    assert!(m.seen.lock().instants > 30);
}

#[tokio::test]
async fn while_the_target_is_away_the_lag_grows_and_nothing_waits() {
    let mut m = Mirrored::with_one().await;
    m.target.cut(true);
    m.snapshot("two").await;
    let status = m.status().await;
    assert_eq!(status.lag.restore_points, 1);
    assert_eq!(
        status.lag.operations,
        status.source_seq - status.row.applied
    );
    assert!(status.lag.seconds >= 1 && status.lag.bytes > 0);
    let newest = status.newest.unwrap();
    assert_eq!(newest.snapshots, ["one"]);
    assert_eq!(&*newest.newest.unwrap().name, "one");
    m.target.cut(false);
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn bytes_that_rotted_at_the_source_are_not_copied_and_the_mirror_says_so() {
    let mut m = Mirrored::with_one().await;
    m.pause().await;
    m.snapshot("two").await;
    let fresh = rot_fresh(&m);
    m.mirror.resume().await.unwrap();
    m.until(State::Stalled).await;
    let status = m.status().await;
    let stalled = status.row.stalled.unwrap();
    assert_eq!(stalled.key.as_deref(), Some(&*fresh), "{stalled:?}");
    assert_eq!(
        status.newest.unwrap().snapshots,
        ["one"],
        "it is never skipped"
    );
    assert!(m.seen.lock().wrong.is_empty());
}

/// The file has another first byte now, and is as long as before.
/// Spoils a data file of the source that the target does not have yet.
pub(super) fn rot_fresh(m: &Mirrored) -> String {
    let there = m.target.objects();
    let mut data = m.world.data_files().into_iter();
    let fresh = data.find(|name| !there.contains_key(&ObjectKey::parse(name).unwrap()));
    let fresh = fresh.unwrap();
    rot(&m.world.path(&fresh));
    fresh
}

pub(super) fn rot(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_target_that_was_promoted_or_taken_by_another_gateway_is_never_written_again() {
    use policies::identity::{Cluster, StoreName};
    for holder in [
        Cluster::new("dr"),
        policies::lock::promotion::mirror_of(&StoreName::new("local")),
    ] {
        is_fenced_by(holder).await;
    }
}

async fn is_fenced_by(holder: policies::identity::Cluster) {
    use policies::identity::{Epoch, Handover};
    use policies::lock::anchor::{self, Anchor};
    let mut m = Mirrored::with_one().await;
    let name = m.world.open.name.clone();
    let last = anchor::name(&name, m.row().await.epoch);
    let objects = m.target.objects();
    let previous = anchor::hash(&objects[&ObjectKey::parse(&last).unwrap()]);
    let promoted = Anchor {
        repository: name.clone(),
        epoch: Epoch(2),
        holder: Some(holder),
        handover: Handover::new("promotion"),
        previous: Some(previous),
    };
    let key = ObjectKey::parse(&anchor::name(&name, Epoch(2))).unwrap();
    m.target.spoil(&key, Some(anchor::encode(&promoted).into()));
    let before = m.target.objects();
    m.snapshot("two").await;
    m.until(State::Stalled).await;
    let stalled = m.stalled().await.unwrap();
    assert!(stalled.fenced, "{stalled:?}");
    m.kill().await;
    m.until(State::Stalled).await;
    // What was under way when the fence fell may still come, under names that are written once; no root does.
    let roots = |objects: &Objects| {
        let keys = objects
            .keys()
            .filter(|key| key.as_str().starts_with("base/index-"));
        keys.cloned().collect::<Vec<_>>()
    };
    assert_eq!(roots(&m.target.objects()), roots(&before));
}

#[tokio::test]
async fn a_target_hears_how_far_its_source_is_ahead_of_all_copying() {
    use crate::checkpoint::Horizon;
    let mut m = Mirrored::with_one().await;
    let (link, name) = (Arc::clone(&m.mirror.link), m.world.open.name.clone());
    let tenure = m.mirror.control.tenure().unwrap();
    let epoch = tenure.epoch;
    let heard = async || Horizon::read(&*link.target, &name, epoch).await.unwrap();
    let noted = link.note_horizon(&tenure, None).await.unwrap();
    assert_eq!(heard().await.unwrap().snapshots, ["one"]);
    assert_eq!(link.note_horizon(&tenure, noted).await.unwrap(), noted);
    // Nothing is copied, for the link's rate is next to nothing.
    link.throttle.set(Some(1));
    m.snapshot("two").await;
    link.note_horizon(&tenure, noted).await.unwrap();
    let heard = heard().await.unwrap();
    assert_eq!(
        (heard.generation, heard.snapshots),
        (1, vec!["one".into(), "two".into()])
    );
    assert_eq!(newest(&m.target.objects(), "base"), Some(0));
}

#[tokio::test]
async fn the_lag_is_what_a_count_of_the_journal_says() {
    let mut m = Mirrored::with_one().await;
    m.pause().await;
    for name in ["two", "three"] {
        m.snapshot(name).await;
    }
    m.delete_snapshot("two").await;
    let status = m.status().await;
    let (state, id) = (m.world.door.state(), m.world.open.id);
    let journal = state.journal(id, status.row.applied, 10_000).await.unwrap();
    let mut counted = (journal.len() as u64, 0, 0);
    for entry in &journal {
        let crate::state::Change::Put { size, .. } = entry.change else {
            continue;
        };
        counted.1 += size;
        let class = m.mirror.link.source.class(&entry.key);
        counted.2 += u64::from(matches!(class, Some(policies::key::Class::Root(_))));
    }
    let lag = status.lag;
    assert_eq!((lag.operations, lag.bytes, lag.restore_points), counted);
    assert_eq!(status.newest.unwrap().snapshots, ["one"]);
    m.mirror.resume().await.unwrap();
    m.until(State::InSync).await;
    let status = m.status().await;
    assert_eq!(status.newest.unwrap().snapshots, ["one", "three"]);
}

#[tokio::test]
async fn a_target_that_is_full_or_refuses_stalls_alone_and_goes_on_when_it_is_mended() {
    let mut m = Mirrored::with_one().await;
    let well = Memory::new(2);
    let plan = TargetPlan::onto(StoreName::new("near"));
    let near = Mirror::start(
        source(&m.world),
        Arc::new(well),
        plan,
        DEFAULT_JOURNAL_LIMIT,
    );
    let near = near.await.unwrap();
    for refusal in [crate::stores::Error::Full, crate::stores::Error::Denied] {
        m.target.refuse(Some(refusal.clone()));
        let name = format!("while {refusal}");
        m.snapshot(&name.replace(' ', "-")).await;
        m.until(State::Stalled).await;
        let stalled = m.stalled().await.unwrap();
        assert!(stalled.reason.contains(&refusal.to_string()), "{stalled:?}");
        let status = m.status().await;
        assert!(near.has(status.source_seq, Duration::from_secs(30)).await);
        m.target.refuse(None);
        m.until(State::InSync).await;
        m.equal().await;
    }
}

#[tokio::test]
async fn the_scrub_mends_either_side_from_the_other() {
    let m = Mirrored::with_one().await;
    let data = m.world.data_files();
    let key = |at: usize| ObjectKey::parse(&data[at]).unwrap();
    m.target.spoil(&key(0), None);
    let rotten = bytes::Bytes::from(vec![0; m.target.objects()[&key(1)].len()]);
    m.target.spoil(&key(1), Some(rotten));
    rot(&m.world.path(&data[2]));
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

/// Registrations and analyses are not mirrored, and may be many.
#[tokio::test]
async fn what_lies_behind_a_page_of_registrations_is_verified_and_scrubbed() {
    let m = Mirrored::with_one().await;
    for at in 0..2000 {
        let name = format!("base/tests-Zq3sGkWcTfSf6Y1nC3mBvw/{at:04}");
        m.world.put(&name, vec![1]).await.unwrap();
    }
    let last = ObjectKey::parse("base/zzz").unwrap();
    m.world.put(last.as_str(), vec![1]).await.unwrap();
    m.until(State::InSync).await;
    m.target.spoil(&last, None);
    let report = m.mirror.verify(false, &|_, _| {}).await.unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let throttle = crate::mirror::throttle::Throttle::new(None);
    let round = m.mirror.scrub(&throttle).await.unwrap();
    assert_eq!(round.mended_target, 1, "{round:?}");
    assert!(m.target.objects().contains_key(&last));
}

/// The pins that the target's own record tells.
async fn pins_there(m: &Mirrored) -> usize {
    let name = &m.world.open.name;
    let found = checkpoint::find(&m.target, name).await.unwrap().unwrap();
    let (mut position, mut pins) = (checkpoint::Position::default(), 0);
    while let Some(rows) = found.rows(&m.target, &mut position).await.unwrap() {
        for row in rows {
            if let checkpoint::Row::Pins(all) = row {
                pins = all.len();
            }
        }
    }
    pins
}

#[tokio::test]
async fn a_pin_reaches_a_mirror_to_which_nothing_is_written() {
    let m = Mirrored::with_one().await;
    assert_eq!(pins_there(&m).await, 0);
    let (door, open) = (&m.world.door, &m.world.open);
    door.pin(open, "one", None, "ops").await.unwrap();
    for _ in 0..6000 {
        if pins_there(&m).await == 1 {
            return m.equal().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the target does not know of the pin");
}
