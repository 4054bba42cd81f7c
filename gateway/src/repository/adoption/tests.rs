use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::repository::miniature::{World, cut};
use crate::repository::pair::{Pair, Place};
use crate::repository::{WriteCondition, handover};
use crate::stores::faults::{Fault, Gate};
use crate::stores::metrics::Operation;

async fn adopt(world: &World) -> Result<Scan, handover::Error> {
    let adopted = world.door.adopt(&world.open, &|_, _| {}).await;
    adopted.map(|(_, scan)| scan)
}

async fn position(world: &World) -> Option<Scan> {
    let kept = world.door.state.position(world.open.id, WORK).await;
    kept.unwrap()
        .map(|text| serde_json::from_str(&text).unwrap())
}

/// A repository with two snapshots, a note that somebody put there, and a gateway that knows nothing of them.
async fn unadopted() -> World {
    let mut world = World::new().await;
    world.snapshot("one").await;
    world.snapshot("two").await;
    world
        .put("base/notes.txt", b"by hand".to_vec())
        .await
        .unwrap();
    world.forget().await
}

#[tokio::test]
async fn an_adopted_repository_is_guarded_and_what_was_found_is_told() {
    let mut world = unadopted().await;
    assert!(world.open.gate.is_frozen());
    let files = world.data_files();
    let told = AtomicU64::new(0);
    let progress = |objects, _| told.store(objects, Ordering::Relaxed);
    let (_, scan) = world.door.adopt(&world.open, &progress).await.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), scan.objects);
    assert_eq!(scan.unknown_keys, ["base/notes.txt"]);
    assert_eq!((scan.unknown, scan.resumed_at), (1, 0));
    assert!(!world.open.gate.is_frozen());
    assert_eq!(position(&world).await, None);
    let refused = world
        .send(policies::format::build::Request::Delete {
            key: ObjectKey::parse(&files[0]).unwrap(),
            class: Class::Unknown,
        })
        .await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    world.snapshot("three").await;
    assert_eq!(world.warnings().await, [""; 0]);
}

#[tokio::test]
async fn an_adoption_that_was_cut_short_is_carried_on_from_where_it_stood() {
    let world = unadopted().await;
    let mut cut = Scan {
        version: VERSION,
        objects: 7,
        bytes: 70,
        after: Some("base/indices".into()),
        ..Scan::default()
    };
    let text = serde_json::to_string(&cut).unwrap();
    let kept = world
        .door
        .state
        .keep_position(world.open.id, WORK, Some(text));
    kept.await.unwrap();
    let world = world.restart().await;
    assert!(world.open.gate.is_frozen());
    assert!(world.door.is_half_adopted(&world.open).await);
    cut.resumed_at = 0;
    assert_eq!(position(&world).await, Some(cut));
    world.door.forget_scan(&world.open).await.unwrap();
    let whole = adopt(&world).await.unwrap();
    assert!(!world.door.is_half_adopted(&world.open).await);
    assert_eq!(whole.resumed_at, 0);
}

#[tokio::test]
async fn a_resumed_adoption_counts_what_the_first_try_had_read() {
    let world = unadopted().await;
    let mut scan = Scan::default();
    world.door.scan_page(&world.open, &mut scan).await.unwrap();
    let (first, bytes) = (scan.objects, scan.bytes);
    scan.done = false;
    let text = serde_json::to_string(&scan).unwrap();
    let kept = world
        .door
        .state
        .keep_position(world.open.id, WORK, Some(text));
    kept.await.unwrap();
    let world = world.restart().await;
    let scan = adopt(&world).await.unwrap();
    assert_eq!(
        (scan.objects, scan.bytes, scan.resumed_at),
        (first, bytes, first)
    );
    assert!(!world.open.gate.is_frozen());
}

#[tokio::test]
async fn damage_that_was_there_before_is_reported_and_not_made_worse() {
    let world = unadopted().await;
    let file = world.data_files().remove(0);
    std::fs::remove_file(world.path(&file)).unwrap();
    let mut world = world;
    adopt(&world).await.unwrap();
    assert_eq!(world.warnings().await, [format!("damage {file}")]);
    world.snapshot("three").await;
    world.cluster.delete(&["one", "two", "three"], true);
    world.send_all().await;
    let world = world.restart().await;
    assert_eq!(world.warnings().await, [""; 0], "nobody needs it any more");
}

#[tokio::test]
async fn a_repository_that_is_known_is_not_adopted_again() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let refused = adopt(&world).await;
    assert!(matches!(refused, Err(handover::Error::Refused(_))));
}

#[tokio::test]
async fn a_root_written_while_it_is_read_makes_the_adoption_begin_anew() {
    let world = unadopted().await;
    let newest = std::fs::read(world.path("base/index-1")).unwrap();
    let scan = Scan {
        version: VERSION,
        after: Some("base/zzz".into()),
        ..Scan::default()
    };
    let text = serde_json::to_string(&scan).unwrap();
    let kept = world
        .door
        .state
        .keep_position(world.open.id, WORK, Some(text));
    kept.await.unwrap();
    std::fs::write(world.path("base/index-9"), newest).unwrap();
    let refused = adopt(&world).await;
    assert!(matches!(refused, Err(handover::Error::Refused(_))));
    assert!(world.open.gate.is_frozen());
    assert_eq!(position(&world).await, None);
}

#[tokio::test]
async fn a_recovery_takes_out_what_the_store_lost() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let files = world.data_files();
    std::fs::remove_file(world.path(&files[0])).unwrap();
    std::fs::write(world.path("base/extra"), b"x").unwrap();
    let before = world.door.state.usage(world.open.id).await.unwrap();
    world.door.scan(&world.open).await.unwrap();
    let after = world.door.state.usage(world.open.id).await.unwrap();
    assert_eq!(after.objects, before.objects, "one gone, one new");
    let at = ObjectKey::parse(&files[0]).unwrap();
    assert_eq!(
        world.door.lookup(&world.open, &at).await.unwrap().object,
        None
    );
}

#[tokio::test]
async fn repositories_of_every_form_are_adopted_guarded_and_found_again() {
    use policies::format::build::{Form, Style};
    use policies::format::paths::PathType;
    let forms = [
        (Form::Legacy { sequential: true }, PathType::Fixed),
        (Form::Legacy { sequential: false }, PathType::Fixed),
        (Form::Uuid { identified: false }, PathType::Fixed),
        (Form::Uuid { identified: false }, PathType::HashedPrefix),
        (Form::Uuid { identified: false }, PathType::HashedInfix),
        (Form::Uuid { identified: true }, PathType::Fixed),
    ];
    for (form, path_type) in forms {
        let style = Style {
            form,
            path_type,
            deflate: true,
            part_size: Some(40),
        };
        let mut world = World::styled(style).await;
        for name in ["one", "two"] {
            world.snapshot(name).await;
        }
        let mut world = world.forget().await;
        adopt(&world).await.unwrap();
        assert_eq!(world.warnings().await, [""; 0], "{style:?}");
        world.snapshot("three").await;
        world.cluster.delete(&["one"], true);
        world.send_all().await;
        let mut world = world.restart().await;
        world.snapshot("four").await;
        assert_eq!(world.warnings().await, [""; 0], "{style:?}");
        let report = world.door.verify(&world.open, true, &|_, _| {}).await;
        assert!(report.unwrap().problems.is_empty(), "{style:?}");
    }
}

/// Generation and completeness of the restore points, the newest first.
async fn points(world: &World) -> Vec<(u64, bool)> {
    let points = world.door.restore_points(&world.open, None, 10).await;
    let points = points.unwrap().into_iter();
    points
        .map(|point| (point.root.generation, point.root.complete))
        .collect()
}

fn before_7_6() -> policies::format::build::Style {
    use policies::format::build::{Form, Style};
    Style {
        form: Form::Legacy { sequential: false },
        ..Style::default()
    }
}

#[tokio::test]
async fn an_older_root_that_is_complete_can_be_gone_back_to_after_an_adoption() {
    let mut world = World::styled(before_7_6()).await;
    for name in ["one", "two"] {
        world.snapshot(name).await;
    }
    let mut world = world.forget().await;
    adopt(&world).await.unwrap();
    assert_eq!(points(&world).await, [(1, true), (0, true)]);
    world.cluster.delete(&["one"], true);
    world.send_all().await;
    world.snapshot("three").await;
    assert_eq!(
        points(&world).await,
        [(3, true), (2, true), (1, true), (0, true)]
    );
    let (door, open) = (&world.door, &world.open);
    door.hand_over(open, handover::Ask::Freeze, Some("a test".into()))
        .await
        .unwrap();
    let back = crate::repository::history::Ask::Rollback(0);
    let done = door
        .bring_back(open, &back, false, "test", &|_, _| {})
        .await;
    assert_eq!(done.unwrap().plan.generation, 4);
    let report = door.verify(open, true, &|_, _| {}).await.unwrap();
    assert_eq!((report.snapshots, report.problems.len()), (1, 0));
    let newest = open.guarding.with(|guard| {
        let newest = guard.knowledge().newest().unwrap();
        newest.root.snapshots[0].name.to_string()
    });
    assert_eq!(newest, "one");
}

#[tokio::test]
async fn an_older_root_whose_snapshot_was_deleted_is_told_as_incomplete() {
    let none = std::time::Duration::ZERO;
    let mut world = World::lasting(11, before_7_6(), none).await;
    for name in ["one", "two"] {
        world.snapshot(name).await;
    }
    world.cluster.delete(&["one"], true);
    world.send_all().await;
    world.door.reap(&world.open, 60_000).await.unwrap();
    let world = world.forget().await;
    adopt(&world).await.unwrap();
    assert_eq!(points(&world).await, [(2, true), (1, false)]);
    assert_eq!(world.warnings().await, [""; 0], "no damage of what is now");
    assert_eq!(
        points(&world.restart().await).await,
        [(2, true), (1, false)]
    );
}

#[tokio::test]
async fn an_older_root_is_incomplete_once_the_retention_holds_it_no_more() {
    let minute = std::time::Duration::from_secs(60);
    let mut world = World::lasting(12, before_7_6(), minute).await;
    for name in ["one", "two"] {
        world.snapshot(name).await;
    }
    world
        .put("base/notes.txt", b"of no snapshot".to_vec())
        .await
        .unwrap();
    let world = world.forget().await;
    adopt(&world).await.unwrap();
    let notes = policies::format::build::Request::Delete {
        key: ObjectKey::parse("base/notes.txt").unwrap(),
        class: Class::Unknown,
    };
    world.send(notes).await.unwrap();
    for (passes, complete) in [(50_000, true), (70_000, false)] {
        world.door.reap(&world.open, passes).await.unwrap();
        assert_eq!(points(&world).await, [(1, true), (0, complete)]);
    }
}

/// What a cluster writes when it registers a repository.
const REGISTRATION: &str = "base/tests-Zq3sGkWcTfSf6Y1nC3mBvw/master.dat";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_while_a_cluster_registers_at_another_has_nothing_to_adopt() {
    for dies in [false, true] {
        let pair = Pair::new(Place::TwoNodes).await;
        // Vacant again, as before a repository's first snapshot.
        let ask = handover::Ask::Unlock;
        let unlocked = pair.first.door.hand_over(&pair.first.open, ask, None).await;
        unlocked.unwrap();
        let asleep = Gate::closed();
        let hold = Fault::HoldAfter(Arc::clone(&asleep));
        pair.first.store.plan(Operation::Publish, hold);
        let put = pair.first.put(REGISTRATION, "seed", WriteCondition::Always);
        asleep.reached().await;
        if dies {
            put.abort();
            pair.first.door.recover().await.unwrap();
            let row = pair.first.open.gate.row();
            assert!(matches!(row.lock, Lock::Vacant { .. }), "{row:?}");
        }
        pair.second.door.recover().await.unwrap();
        let row = pair.second.open.gate.row();
        assert!(matches!(row.lock, Lock::Vacant { .. }), "{row:?}");
        if !dies {
            asleep.open();
            put.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_while_a_cluster_registers_comes_back_serving() {
    let asleep = Gate::closed();
    let (world, faulty) = World::new().await.restart_faulty().await;
    let hold = Fault::HoldAfter(Arc::clone(&asleep));
    faulty.plan(Operation::Publish, hold);
    tokio::select! {
        answered = world.put(REGISTRATION, b"seed".to_vec()) => panic!("{answered:?}"),
        () = asleep.reached() => {}
    }
    assert_eq!(world.objects(), [REGISTRATION], "it lies in the store");
    let mut world = world.restart().await;
    let row = world.open.gate.row();
    assert!(matches!(row.lock, Lock::Vacant { .. }), "{row:?}");
    world.put(REGISTRATION, b"seed".to_vec()).await.unwrap();
    world.snapshot("one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_at_any_step_of_a_registration_comes_back_serving() {
    for polls in 1.. {
        let world = World::new().await;
        let written = cut(polls, world.put(REGISTRATION, b"seed".to_vec())).await;
        let mut world = world.restart().await;
        let row = world.open.gate.row();
        assert!(
            matches!(row.lock, Lock::Vacant { .. }),
            "killed after {polls} polls: {row:?}"
        );
        world.snapshot("one").await;
        if let Some(written) = written {
            written.unwrap();
            break;
        }
    }
}
