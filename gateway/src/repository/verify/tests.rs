use policies::format::build::{Form, Style};
use policies::format::frame::{self, Codec};
use policies::format::smile::{Flags, Value, encode};

use super::*;
use crate::repository::miniature::World;

/// Two snapshots, written through the door.
async fn written() -> World {
    let mut world = World::new().await;
    world.snapshot("one").await;
    world.snapshot("two").await;
    world
}

fn members(world: &World) -> Vec<Member> {
    let guarding = &world.open.guarding;
    guarding.with(|guard| guard.knowledge().members().collect())
}

/// What is wrong, as keys and the snapshots that are hit.
async fn found(world: &World, deep: bool) -> Vec<(ObjectKey, Vec<Arc<str>>)> {
    let report = world.door.verify(&world.open, deep, &|_, _| {}).await;
    let problems = report.unwrap().problems.into_iter();
    let mut found: Vec<_> = problems.map(|p| (p.key, p.snapshots)).collect();
    found.sort();
    found
}

fn named(members: &[&Member]) -> Vec<(ObjectKey, Vec<Arc<str>>)> {
    let of = |member: &&Member| (member.key.clone(), member.snapshots.clone());
    let mut named: Vec<_> = members.iter().map(of).collect();
    named.sort();
    named
}

#[tokio::test]
async fn damage_behind_the_gateway_names_the_object_and_the_snapshots_hit() {
    let world = written().await;
    let members = members(&world);
    assert_eq!(found(&world, true).await, []);
    for member in &members {
        let path = world.path(member.key.as_str());
        let good = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found(&world, false).await, named(&[member]), "removed");
        std::fs::write(path.with_extension("renamed"), &good).unwrap();
        assert_eq!(found(&world, false).await, named(&[member]), "renamed");
        std::fs::remove_file(path.with_extension("renamed")).unwrap();
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert_eq!(found(&world, true).await, named(&[member]), "truncated");
        for bit in [0, 7] {
            let mut flipped = good.clone();
            flipped[good.len() / 2] ^= 1 << bit;
            std::fs::write(&path, flipped).unwrap();
            assert_eq!(found(&world, true).await, named(&[member]), "bit {bit}");
        }
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(found(&world, true).await, []);
}

#[tokio::test]
async fn what_was_wrong_when_it_was_adopted_is_found_too() {
    for (form, is_gone) in [
        (Form::Legacy { sequential: false }, true),
        (Form::Legacy { sequential: false }, false),
        (Form::Uuid { identified: true }, true),
        (Form::Uuid { identified: true }, false),
    ] {
        let mut world = World::styled(Style {
            form,
            ..Style::default()
        })
        .await;
        world.snapshot("one").await;
        world.snapshot("two").await;
        let members = members(&world);
        let is_list = |m: &&Member| m.class.label() == "shard_snapshot";
        let list = members.iter().find(is_list).unwrap();
        let path = world.path(list.key.as_str());
        let good = std::fs::read(&path).unwrap();
        if is_gone {
            std::fs::remove_file(&path).unwrap();
        } else {
            let mut flipped = good.clone();
            flipped[good.len() / 2] ^= 1;
            std::fs::write(&path, flipped).unwrap();
        }
        let world = world.forget().await;
        world.door.adopt(&world.open, &|_, _| {}).await.unwrap();
        let what = format!("{form:?}, gone: {is_gone}");
        assert_eq!(found(&world, false).await, named(&[list]), "{what}");
        let points = world.door.restore_points(&world.open, None, 9).await;
        assert!(!points.unwrap()[0].root.complete, "{what}");
        std::fs::write(&path, good).unwrap();
        assert_eq!(found(&world, true).await, [], "{what}, put back by hand");
    }
}

#[tokio::test]
async fn what_is_found_is_a_warning_until_it_is_found_well() {
    let world = written().await;
    let members = members(&world);
    let [gone, rotten] = [&members[0], &members[1]].map(|m| m.key.clone());
    std::fs::remove_file(world.path(gone.as_str())).unwrap();
    let path = world.path(rotten.as_str());
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    assert_eq!(found(&world, true).await.len(), 2);
    let expected = [
        format!("object_vanished {gone}"),
        format!("rotten {rotten}"),
    ];
    assert_eq!(world.warnings().await, expected);
    std::fs::write(&path, good).unwrap();
    found(&world, false).await;
    assert_eq!(world.warnings().await, expected, "nothing was read");
    found(&world, true).await;
    assert_eq!(world.warnings().await, expected[..1]);
}

#[tokio::test]
async fn what_the_format_cannot_tell_the_hash_does() {
    let world = written().await;
    let members = members(&world);
    let of = |label: &str| {
        let mut of_class = members.iter().filter(|m| m.class.label() == label);
        of_class.next().unwrap()
    };
    let replaced = async |member: &Member, bytes: &[u8]| {
        let path = world.path(member.key.as_str());
        let good = std::fs::read(&path).unwrap();
        assert_ne!(good, bytes);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(
            found(&world, true).await,
            named(&[member]),
            "{}",
            member.key
        );
        std::fs::write(&path, good).unwrap();
    };
    let root = of("root");
    let text = std::fs::read_to_string(world.path(root.key.as_str())).unwrap();
    let other = text.replacen("\"state\":1", "\"state\":0", 1);
    replaced(root, other.as_bytes()).await;
    let body = Value::Object(vec![("meta-data".into(), Value::Object(Vec::new()))]);
    let document = encode(&body, Flags::CLUSTER);
    let metadata = frame::seal(Codec::Metadata, &document, true);
    replaced(of("global_metadata"), &metadata).await;
    let pairs = swapped(&world, &members, |_| true).await;
    assert!(pairs > 5, "{pairs} pairs");
}

/// Swaps any two neighbours of one class that differ, and finds both.
async fn swapped(world: &World, members: &[Member], tried: impl Fn(&Class) -> bool) -> usize {
    let path = |member: &Member| world.path(member.key.as_str());
    let mut pairs = 0;
    for pair in members.windows(2) {
        let [first, second] = pair else { continue };
        let (a, b) = (
            std::fs::read(path(first)).unwrap(),
            std::fs::read(path(second)).unwrap(),
        );
        if first.class.label() != second.class.label() || a == b || !tried(&first.class) {
            continue;
        }
        std::fs::write(path(first), &b).unwrap();
        std::fs::write(path(second), &a).unwrap();
        assert_eq!(found(world, true).await, named(&[first, second]));
        std::fs::write(path(first), &a).unwrap();
        std::fs::write(path(second), &b).unwrap();
        pairs += 1;
    }
    pairs
}

/// Of what was adopted the catalog has no hash, but how metadata and the root were then is kept.
#[tokio::test]
async fn of_an_adopted_repository_what_was_read_then_is_compared() {
    let world = written().await.forget().await;
    world.door.adopt(&world.open, &|_, _| {}).await.unwrap();
    let members = members(&world);
    assert_eq!(found(&world, true).await, []);
    let pairs = swapped(&world, &members, |_| true).await;
    assert!(pairs > 5, "{pairs} pairs");
    let world = world.restart().await;
    assert_eq!(found(&world, true).await, []);
    let root = members.iter().find(|m| m.class.label() == "root").unwrap();
    let path = world.path(root.key.as_str());
    let text = std::fs::read_to_string(&path).unwrap();
    let other = text.replacen("\"state\":1", "\"state\":0", 1);
    assert_ne!(text, other);
    std::fs::write(&path, other).unwrap();
    assert_eq!(found(&world, true).await, named(&[root]));
    let world = world.restart().await;
    assert_eq!(
        found(&world, true).await,
        named(&[root]),
        "what a start reads is not taken for what was adopted"
    );
}
