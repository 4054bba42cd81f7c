//! After a recovery: what was half done is done, and what is told as held is held.

use std::path::Path;
use std::time::Duration;

use policies::format::build::Style;
use policies::key::{Class, ObjectKey};

use super::super::Ask;
use super::life::Life;
use super::{deleted, styles, take};
use crate::repository::handover;
use crate::repository::miniature::{World, cut};

/// What a gateway has of its state database after it died in the middle of a roll-back.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Database {
    /// As it was before the roll-back.
    Older,
    Lost,
}

/// From one death to the next, in polls.
const STRIDE: usize = 3;

async fn recover(life: &Life) {
    let (door, open) = (&life.world().door, &life.world().open);
    let ask = handover::Ask::Thaw { recover: true };
    door.hand_over(open, ask, None).await.unwrap();
}

async fn newest(life: &Life) -> u64 {
    let (door, open) = (&life.world().door, &life.world().open);
    door.newest_root(open).await.unwrap().unwrap().0
}

/// What was left of a roll-back that was cut off.
struct Left {
    life: Life,
    /// Its root is the newest.
    root: bool,
    /// It was not cut off at all.
    whole: bool,
    /// Something of it was still to do.
    half: bool,
}

/// A repository that is recovered after a roll-back to root 1 was cut off.
async fn cut_off(style: Style, polls: usize, database: Database) -> Left {
    let mut life = deleted(style).await;
    if database == Database::Older {
        life.anew(async |world| world.copy_database("older.db").await)
            .await;
    }
    life.freeze().await;
    let whole = cut(polls, life.bring_back(&Ask::Rollback(1)))
        .await
        .is_some();
    let noted = life.world().path(".snapgate/brought-back/prod");
    let half = std::fs::read_dir(noted).is_ok_and(|mut notes| notes.next().is_some());
    match database {
        Database::Older => {
            life.anew(async |world| world.restart_on("older.db").await)
                .await;
        }
        Database::Lost => life.anew(World::empty_database).await,
    }
    recover(&life).await;
    let root = newest(&life).await == 3;
    Left {
        life,
        root,
        whole,
        half,
    }
}

#[tokio::test]
async fn a_roll_back_that_was_half_done_is_finished_by_a_recovery() {
    for database in [Database::Older, Database::Lost] {
        for style in styles() {
            let (mut done, mut undone) = (0, 0);
            for polls in (STRIDE..).step_by(STRIDE) {
                let left = cut_off(style, polls, database).await;
                let mut life = left.life;
                assert!(left.root || !left.whole, "{database:?} after {polls} polls");
                if left.root && !left.half {
                    break;
                }
                if left.root {
                    done += 1;
                    let cluster = life.points[&1].cluster.clone();
                    life.brought_back(3, cluster, 11).await;
                    life.check_same_as(1, 3);
                    life.points.retain(|generation, _| *generation == 3);
                    life.check_newest().await;
                    life.cluster().create("three", &[take(2)]);
                    life.perform().await;
                } else {
                    undone += 1;
                }
                life.check_newest().await;
            }
            println!("{database:?}, {style:?}: {undone} without the root, {done} with it");
            assert!(done > 0 && undone > 0, "{database:?}: {undone} and {done}");
        }
    }
}

/// Other content of the same length, as somebody who writes past the gateway leaves it.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

async fn complete(life: &Life) -> Vec<u64> {
    let (door, open) = (&life.world().door, &life.world().open);
    let points = door.restore_points(open, None, 10).await.unwrap();
    let complete = points.into_iter().filter(|point| point.root.complete);
    complete.map(|point| point.root.generation).collect()
}

/// A data file that root `with` needs and root `without` does not.
fn file(life: &Life, with: u64, without: u64) -> ObjectKey {
    let [with, without] = [with, without].map(|generation| &life.points[&generation]);
    let is_file = |key: &&ObjectKey| matches!(with.visible[*key].0, Class::Data { .. });
    let mut files = with.closure.difference(&without.closure).filter(is_file);
    files.next().unwrap().clone()
}

/// Roots 0 and 1 hold `one`, 1 and 2 hold `two`. What the newest root needs now is what lies there now.
#[tokio::test]
async fn a_recovery_leaves_no_restore_point_complete_whose_content_is_not_held() {
    for (with, without, is_gone, left) in [
        (0, 2, false, &[2_u64][..]),
        (0, 2, true, &[2]),
        (2, 0, false, &[2, 0]),
        (2, 0, true, &[0]),
    ] {
        let life = deleted(Style::default()).await;
        assert_eq!(complete(&life).await, [2, 1, 0]);
        let path = life.world().path(file(&life, with, without).as_str());
        if is_gone {
            std::fs::remove_file(path).unwrap();
        } else {
            spoil(&path);
        }
        life.freeze().await;
        recover(&life).await;
        assert_eq!(
            complete(&life).await,
            left,
            "{with} has it, gone: {is_gone}"
        );
        life.freeze().await;
        let refused = life.bring_back(&Ask::Rollback(1)).await.unwrap_err();
        assert!(refused.to_string().contains("not complete"), "{refused}");
    }
}

#[tokio::test]
async fn a_recovery_that_finds_everything_leaves_every_restore_point_as_it_was() {
    for style in styles() {
        let mut life = deleted(style).await;
        life.freeze().await;
        recover(&life).await;
        assert_eq!(complete(&life).await, [2, 1, 0]);
        life.check().await;
        life.freeze().await;
        let generation = life.bring_back(&Ask::Rollback(1)).await.unwrap();
        let cluster = life.points[&1].cluster.clone();
        life.brought_back(generation, cluster, 11).await;
        life.check_same_as(1, generation);
    }
}

/// A store that was put back to an earlier day: its newest root is one that the database knows as deleted.
#[tokio::test]
async fn a_recovery_forgets_restore_points_of_roots_that_the_store_has_no_more() {
    let world = World::lasting(5, Style::default(), Duration::from_mins(1)).await;
    let mut life = Life::new(world, 60_000);
    for name in ["one", "two"] {
        life.cluster().create(name, &[take(3)]);
        life.perform().await;
    }
    std::fs::remove_file(life.world().path("base/index-1")).unwrap();
    life.freeze().await;
    recover(&life).await;
    let (door, open) = (&life.world().door, &life.world().open);
    let points = door.restore_points(open, None, 10).await.unwrap();
    let told: Vec<_> = points
        .iter()
        .map(|point| (point.root.generation, point.root.complete))
        .collect();
    assert_eq!(told, [(0, true)]);
    assert_eq!(points[0].root.snapshots.len(), 1);
}
