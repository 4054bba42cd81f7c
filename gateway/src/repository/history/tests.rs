//! Going back, as an operator does it: every promise by name, and a model of random lives.

use std::time::Duration;

use policies::format::build::{Form, Request, Style, Take};
use policies::key::{Class, ObjectKey};

use super::Ask;
use crate::repository::miniature::{World, caller};
use crate::repository::{Error, ListRequest};
use crate::state::Entry;

mod checks;
mod life;
mod model;
mod operator;
mod recovered;
mod steps;

use life::Life;

const MINUTE: u64 = 60_000;
/// What passes between two reports of uptime counts as well.
const SLACK: u64 = 30_000;

fn take(new_files: u32) -> Take<'static> {
    Take {
        index: "logs",
        shards: 2,
        new_files,
        merged_away: 1,
        failed_shard: None,
    }
}

/// Snapshots `one` and `two`, and then `one` is deleted: roots 0, 1 and 2.
async fn deleted(style: Style) -> Life {
    let world = World::lasting(5, style, Duration::from_millis(MINUTE)).await;
    let mut life = Life::new(world, MINUTE);
    for name in ["one", "two"] {
        life.cluster().create(name, &[take(3)]);
        life.perform().await;
    }
    life.cluster().delete(&["one"], true);
    life.perform().await;
    life
}

fn styles() -> [Style; 4] {
    [
        Form::Legacy { sequential: true },
        Form::Legacy { sequential: false },
        Form::Uuid { identified: false },
        Form::Uuid { identified: true },
    ]
    .map(|form| Style {
        form,
        part_size: Some(40),
        ..Style::default()
    })
}

async fn passes(life: &mut Life, ms: u64) {
    life.uptime += ms;
    let world = life.world();
    world.door.reap(&world.open, ms).await.unwrap();
}

#[tokio::test]
async fn a_rolled_back_repository_is_what_it_was_and_the_cluster_goes_on() {
    for style in styles() {
        let mut life = deleted(style).await;
        life.freeze().await;
        let generation = life.bring_back(&Ask::Rollback(1)).await.unwrap();
        assert_eq!(generation, 3);
        let cluster = life.points[&1].cluster.clone();
        life.brought_back(generation, cluster, 11).await;
        life.check_same_as(1, generation);
        life.thaw().await;
        life.cluster().create("three", &[take(2)]);
        life.perform().await;
        life.check().await;
    }
}

#[tokio::test]
async fn an_undeleted_snapshot_comes_back_and_later_ones_stay() {
    for style in styles() {
        let mut life = deleted(style).await;
        life.cluster().create("three", &[take(2)]);
        life.perform().await;
        life.freeze().await;
        let ask = Ask::Undelete("one".into());
        let generation = match life.bring_back(&ask).await {
            Ok(generation) => generation,
            Err(e) => {
                let told = e.to_string();
                let reused = style.form == (Form::Legacy { sequential: true });
                assert!(
                    reused && told.contains("both contents are needed"),
                    "{told}"
                );
                continue;
            }
        };
        let mut cluster = life.cluster().clone();
        cluster.regain(&life.points[&1].cluster, "one");
        life.brought_back(generation, cluster, 11).await;
        life.check_undeleted("one", 1, 3, generation);
        life.thaw().await;
        life.cluster().delete(&["two"], true);
        life.perform().await;
        life.cluster().create("four", &[take(2)]);
        life.perform().await;
        life.check().await;
    }
}

#[tokio::test]
async fn nothing_is_brought_back_while_a_cluster_may_write() {
    let life = deleted(Style::default()).await;
    for ask in [Ask::Rollback(1), Ask::Undelete("one".into())] {
        let told = life.bring_back(&ask).await.unwrap_err().to_string();
        assert!(told.contains("must be frozen first"), "{told}");
    }
}

#[tokio::test]
async fn a_rehearsal_changes_nothing_and_says_what_would_come() {
    let life = deleted(Style::default()).await;
    life.freeze().await;
    let world = life.world();
    let ask = Ask::Rollback(1);
    let done = world
        .door
        .bring_back(&world.open, &ask, true, "test", &|_, _| {})
        .await
        .unwrap();
    assert_eq!((done.plan.from, done.plan.generation), (1, 3));
    assert_eq!(done.plan.came, ["one".into()]);
    let newest = world.door.newest_root(&world.open).await.unwrap();
    assert_eq!(newest.unwrap().0, 2);
    life.check().await;
}

#[tokio::test]
async fn a_pinned_snapshot_is_neither_deleted_nor_rolled_over() {
    let mut life = deleted(Style::default()).await;
    let world = life.world();
    world.door.pin(&world.open, "two", None, "t").await.unwrap();
    life.freeze().await;
    let told = life.bring_back(&Ask::Rollback(0)).await.unwrap_err();
    assert!(told.to_string().contains("two"), "{told}");
    life.thaw().await;
    life.cluster().delete(&["two"], true);
    let mut refused = None;
    for request in life.cluster().requests() {
        refused = refused.or(life.send(request).await.err());
    }
    let told = refused.unwrap().to_string();
    assert!(told.contains("two") && told.contains("pin"), "{told}");
}

#[tokio::test]
async fn a_second_pin_is_answered_with_the_first_one_which_stays() {
    let life = deleted(Style::default()).await;
    let (door, open) = (&life.world().door, &life.world().open);
    let reason = |text: &str| Some(text.to_owned());
    let (first, new) = door.pin(open, "two", reason("audit"), "t").await.unwrap();
    assert!(new);
    let (second, new) = door.pin(open, "two", reason("other"), "u").await.unwrap();
    assert!(!new);
    assert_eq!((&second.reason, &second.by), (&reason("audit"), &first.by));
}

#[tokio::test]
async fn what_the_retention_holds_no_longer_is_refused_with_a_sentence() {
    let mut life = deleted(Style::default()).await;
    passes(&mut life, MINUTE + SLACK).await;
    life.check().await;
    life.freeze().await;
    let told = life.bring_back(&Ask::Rollback(1)).await.unwrap_err();
    assert!(told.to_string().contains("restore-points"), "{told}");
    let ask = Ask::Undelete("one".into());
    let told = life.bring_back(&ask).await.unwrap_err();
    assert!(told.to_string().contains("still held"), "{told}");
    let told = life.read("base@1/index-1").await.unwrap_err();
    assert!(matches!(told, Error::Refused(_)), "{told}");
}

/// What its predecessors left behind is reaped while it is the newest; nothing of it is lost by that.
#[tokio::test]
async fn the_newest_restore_point_stays_complete_however_long_it_is_the_newest() {
    for style in styles() {
        let mut life = deleted(style).await;
        passes(&mut life, 5 * MINUTE).await;
        life.cluster().create("three", &[take(2)]);
        life.perform().await;
        life.check().await;
        life.freeze().await;
        let generation = life.bring_back(&Ask::Rollback(2)).await.unwrap();
        let cluster = life.points[&2].cluster.clone();
        life.brought_back(generation, cluster, 3).await;
        life.check_same_as(2, generation);
    }
}

#[tokio::test]
async fn without_retention_what_is_deleted_is_gone_and_the_newest_root_stays() {
    let world = World::lasting(5, Style::default(), Duration::ZERO).await;
    let mut life = Life::new(world, 0);
    for name in ["one", "two"] {
        life.cluster().create(name, &[take(3)]);
        life.perform().await;
    }
    life.cluster().delete(&["one"], true);
    life.perform().await;
    let before = life.world().data_files().len();
    passes(&mut life, SLACK).await;
    assert!(life.world().data_files().len() < before);
    life.check().await;
}

#[tokio::test]
async fn a_difference_names_what_came_and_what_went() {
    let life = deleted(Style::default()).await;
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        life.check_difference(from, to).await;
    }
}

async fn page(life: &Life, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
    let request = ListRequest {
        bucket: life.world().open.plan.bucket.clone(),
        prefix: prefix.into(),
        delimiter: Some("/".into()),
        after: after.map(Into::into),
        limit,
    };
    let page = life.world().door.list(&caller(), request).await.unwrap();
    let names = page.entries.iter().map(|entry| match entry {
        Entry::Object(object) => object.key.to_string(),
        Entry::Prefix(prefix) => prefix.clone(),
    });
    (names.collect(), page.truncated)
}

/// Before 7.6 two roots lie side by side, and a view shows one.
#[tokio::test]
async fn pages_of_a_view_are_whole_although_other_roots_are_left_out() {
    let life = deleted(Style {
        form: Form::Legacy { sequential: false },
        ..Style::default()
    })
    .await;
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let one = page(&life, "base@1/index-", None, 1).await;
    assert_eq!(one, (owned(&["base@1/index-1"]), false));
    let first = page(&life, "base@1/", None, 1).await;
    assert_eq!(first, (owned(&["base@1/index-1"]), true));
    let second = page(&life, "base@1/", Some("base@1/index-1"), 1).await;
    assert_eq!(second, (owned(&["base@1/index.latest"]), true));
    let third = page(&life, "base@1/", Some("base@1/index.latest"), 1).await;
    assert_eq!(third, (owned(&["base@1/indices/"]), true));
    let (rest, more) = page(&life, "base@1/", Some("base@1/indices/"), 9).await;
    assert!(!more && rest.len() == 4, "two of two snapshots: {rest:?}");
}

#[tokio::test]
async fn a_view_is_never_written() {
    let life = deleted(Style::default()).await;
    let key = ObjectKey::parse("base@1/index-9").unwrap();
    let class = Class::Root(9);
    for request in [
        Request::Put {
            key: key.clone(),
            class: class.clone(),
            bytes: vec![1],
        },
        Request::Delete { key, class },
    ] {
        let told = life.world().send(request).await.unwrap_err();
        assert!(told.to_string().contains("read-only view"), "{told}");
    }
}
