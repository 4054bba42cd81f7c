use policies::format::build::{Form, Request, Style};

use super::*;
use crate::repository::incarnation;
use crate::repository::miniature::World;

/// A cluster of 2.x took two snapshots, of which the first has files that the second lacks.
async fn world() -> World {
    let style = Style {
        form: Form::List,
        ..Style::default()
    };
    let mut world = World::styled(style).await;
    world.snapshot("one").await;
    world.snapshot("two").await;
    world
}

async fn delete(world: &World, key: &str) -> Result<(), Error> {
    let key = ObjectKey::parse(key).unwrap();
    let class = Class::Unknown;
    world.send(Request::Delete { key, class }).await
}

fn snapshots(world: &World) -> Vec<String> {
    let mut names = world.open.guarding.with(|guard| {
        let newest = guard.knowledge().newest();
        let all = newest.into_iter().flat_map(|n| &n.root.snapshots);
        all.map(|s| s.name.to_string()).collect::<Vec<_>>()
    });
    names.sort();
    names
}

/// Every object of the repository, deleted by hand one by one: what goes, and what the others' answer is.
async fn attack(world: &World, keep: &[&str]) -> (Vec<String>, Vec<String>) {
    let (mut gone, mut answers) = (Vec::new(), Vec::new());
    for key in world.objects() {
        if keep.iter().any(|kept| key.ends_with(kept)) {
            continue;
        }
        match delete(world, &key).await {
            Ok(()) => gone.push(key),
            Err(e) => answers.push(e.to_string()),
        }
    }
    (gone, answers)
}

#[tokio::test]
async fn what_a_snapshot_of_2_x_needs_is_not_deleted_by_hand_and_the_answer_names_it() {
    let world = world().await;
    let descriptions = ["snap-one.dat", "snap-two.dat"];
    // A shard's directory has descriptions too; the repository's own are the two that are kept.
    let before = world.objects();
    let (gone, answers) = attack(&world, &descriptions).await;
    assert!(
        gone.iter()
            .all(|key| key == "base/index" || key.contains("/index-")),
        "{gone:?}"
    );
    assert!(answers.len() > 10, "{answers:?}");
    for answer in &answers {
        assert!(answer.contains("is needed by snapshot '"), "{answer}");
    }
    let in_shards = before
        .iter()
        .filter(|key| key.contains("/indices/") && key.ends_with("snap-one.dat"));
    for key in in_shards {
        assert!(delete(&world, key).await.is_err(), "{key}");
    }
    assert_eq!(snapshots(&world), ["one", "two"]);
}

#[tokio::test]
async fn the_life_of_a_cluster_of_2_x_is_not_refused_and_names_are_used_again() {
    let mut world = world().await;
    for round in 0..3 {
        world.cluster.delete(&["two"], true);
        world.send_all().await;
        assert_eq!(snapshots(&world), ["one"], "round {round}");
        world.snapshot("two").await;
        assert_eq!(snapshots(&world), ["one", "two"], "round {round}");
    }
    world.cluster.delete(&["one", "two"], true);
    world.send_all().await;
    assert_eq!(snapshots(&world), [""; 0]);
    let (_, refused) = attack(&world, &[]).await;
    assert_eq!(refused, [""; 0], "nothing holds what nobody needs");
}

#[tokio::test]
async fn a_restart_and_an_adoption_know_the_snapshots_of_2_x() {
    let world = world().await.restart().await;
    assert_eq!(snapshots(&world), ["one", "two"]);
    let world = world.forget().await;
    world.door.adopt(&world.open, &|_, _| {}).await.unwrap();
    assert_eq!(snapshots(&world), ["one", "two"]);
    let file = world.data_files().remove(0);
    let refused = delete(&world, &file).await.unwrap_err().to_string();
    assert!(refused.contains("is needed by snapshot '"), "{refused}");
    let report = world.door.verify(&world.open, true, &|_, _| {}).await;
    let report = report.unwrap();
    assert_eq!((report.generation, report.snapshots), (None, 2));
    assert!(report.problems.is_empty() && report.blobs > 10);
}

#[tokio::test]
async fn a_snapshot_of_2_x_that_lacks_a_file_is_not_committed() {
    let mut world = world().await;
    world.take("three");
    let mut requests = world.cluster.requests();
    let data = |request: &Request| match request {
        Request::Put { class, .. } => matches!(class, Class::Data { .. }),
        Request::Delete { .. } => false,
    };
    let lost = requests.iter().position(data).unwrap();
    requests.remove(lost);
    let mut refused = Vec::new();
    for request in requests {
        refused.extend(world.send(request).await.err());
    }
    let [refused] = &refused[..] else {
        panic!("one refusal, not {refused:?}");
    };
    assert!(refused.to_string().contains("take the snapshot again"));
    assert_eq!(snapshots(&world), ["one", "two"]);
    assert_eq!(snapshots(&world.restart().await), ["one", "two"]);
}

#[tokio::test]
async fn the_first_root_takes_the_list_over() {
    let mut world = world().await;
    world.cluster.take_over();
    world.send_all().await;
    world.cluster.delete(&["one"], true);
    world.send_all().await;
    world.snapshot("three").await;
    assert_eq!(snapshots(&world), ["three", "two"]);
    let refused = delete(&world, "base/snap-two.dat").await.unwrap_err();
    assert!(refused.to_string().contains("snapshot 'two'"), "{refused}");
    assert_eq!(snapshots(&world.restart().await), ["three", "two"]);
}

#[tokio::test]
async fn no_description_is_committed_once_another_gateway_works_on_the_store() {
    let mut world = world().await;
    world.take("three");
    let described = "base/snap-three.dat";
    let mut requests = world.cluster.requests();
    let is_it = |r: &Request| matches!(r, Request::Put { key, .. } if key.as_str() == described);
    let at = requests.iter().position(is_it).unwrap();
    let commit = requests.remove(at);
    for before in requests.drain(..at) {
        world.send(before).await.unwrap();
    }
    let (other, at) = (World::new().await, &world.open.plan.store);
    let state = other.door.state().as_ref();
    let newer = incarnation::begin(state, at, world.store.as_ref()).await;
    newer.unwrap();
    let refused = world.send(commit).await;
    assert!(matches!(refused, Err(Error::SlowDown(_))), "{refused:?}");
    assert!(world.open.gate.is_frozen());
    assert!(!world.path(described).exists());
}
