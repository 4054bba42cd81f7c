use super::*;
use crate::repository::miniature::{World, caller};
use crate::repository::{RangeSpec, ReadCondition};
use policies::format::frame;
use policies::lock::{Freeze, Lock};

async fn sweep(world: &World) {
    let pace = Pace {
        objects_per_second: 1_000_000,
        ..Pace::default()
    };
    let name = StoreName::new("local");
    let swept = world.door.sweep(&name, world.store.as_ref(), pace);
    swept.await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_as_the_catalog_says_raises_nothing() {
    let mut world = World::new().await;
    for name in ["one", "two", "three"] {
        world.snapshot(name).await;
    }
    world.cluster.delete(&["two"], true);
    world.send_all().await;
    sweep(&world).await;
    assert_eq!(world.warnings().await, [""; 0]);
}

#[tokio::test]
async fn what_vanished_or_changed_in_the_store_is_found_without_being_read() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let files = world.data_files();
    let (gone, changed) = (&files[0], &files[1]);
    let old = std::fs::read(world.path(gone)).unwrap();
    std::fs::remove_file(world.path(gone)).unwrap();
    std::fs::write(world.path(changed), b"other").unwrap();
    sweep(&world).await;
    assert_eq!(
        world.warnings().await,
        [
            format!("object_changed {changed}"),
            format!("object_vanished {gone}")
        ]
    );
    let world = world.restart().await;
    assert_eq!(world.warnings().await.len(), 2, "a restart forgets nothing");
    std::fs::write(world.path(gone), old).unwrap();
    sweep(&world).await;
    assert_eq!(
        world.warnings().await,
        [
            format!("object_changed {gone}"),
            format!("object_changed {changed}")
        ],
        "the bytes are back, but nobody can say that they are the same"
    );
}

#[tokio::test]
async fn a_warning_closes_when_its_object_is_deleted_through_the_gateway() {
    let mut world = World::new().await;
    world
        .put("base/notes.txt", b"by hand".to_vec())
        .await
        .unwrap();
    world.snapshot("one").await;
    std::fs::write(world.path("base/notes.txt"), b"other").unwrap();
    sweep(&world).await;
    assert_eq!(world.warnings().await, ["object_changed base/notes.txt"]);
    let at = world.at("base/notes.txt");
    let caller = caller();
    let deleted = world.door.delete(&caller, &at.bucket, vec![at.key]);
    deleted.await.unwrap();
    sweep(&world).await;
    assert_eq!(world.warnings().await, [""; 0]);
}

#[tokio::test]
async fn a_read_of_what_vanished_is_a_warning_and_never_a_404() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let file = world.data_files().remove(0);
    std::fs::remove_file(world.path(&file)).unwrap();
    let at = world.at(&file);
    let (caller, always) = (caller(), ReadCondition::default());
    let read = world.door.get(&caller, &at, None::<RangeSpec>, &always);
    assert!(matches!(read.await, Err(Error::Unavailable(_))));
    assert_eq!(world.warnings().await, [format!("object_vanished {file}")]);
}

#[tokio::test]
async fn a_store_that_lost_everything_costs_a_bounded_number_of_warnings() {
    let mut world = World::new().await;
    for n in 0..5 {
        world.snapshot(&format!("s{n}")).await;
    }
    let files = world.data_files();
    assert!(files.len() as u64 > MOST);
    for file in &files {
        std::fs::remove_file(world.path(file)).unwrap();
    }
    sweep(&world).await;
    assert_eq!(world.warnings().await.len() as u64, MOST + 1);
}

#[tokio::test]
async fn a_root_that_appears_in_the_store_freezes_the_repository() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    world.door.look_at_roots(&world.open).await.unwrap();
    assert!(!world.open.gate.is_frozen());
    let body = std::fs::read(world.path("base/index-0")).unwrap();
    std::fs::write(world.path("base/index-5"), body).unwrap();
    world.door.look_at_roots(&world.open).await.unwrap();
    let lock = world.open.gate.row().lock;
    assert!(
        matches!(&lock, Lock::Frozen { reason: Freeze::RootAppeared(key), .. } if key == "base/index-5"),
        "{lock:?}"
    );
    assert_eq!(world.warnings().await, ["root_appeared base/index-5"]);
}

#[tokio::test]
async fn a_base_path_with_a_slash_too_many_is_a_warning() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let refused = world.put("base//index-0", b"{}".to_vec()).await;
    assert!(refused.is_err());
    assert_eq!(world.warnings().await, ["slash_twin base//"]);
    sweep(&world).await;
    assert_eq!(world.warnings().await, [""; 0], "nothing of it is stored");
}

#[tokio::test]
async fn a_refused_root_is_a_warning_until_the_next_root_is_committed() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let refused = world.put("base/index-7", b"{}".to_vec()).await;
    assert!(refused.is_err());
    assert_eq!(world.warnings().await, ["root_refused not_a_root"]);
    world.snapshot("two").await;
    assert_eq!(world.warnings().await, [""; 0]);
}

#[tokio::test]
async fn a_second_cluster_id_is_a_warning_until_it_is_read() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let mut body: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path("base/index-0")).unwrap()).unwrap();
    body["cluster_id"] = "another-cluster-entirely".into();
    let refused = world.put("base/index-1", body.to_string().into_bytes());
    assert!(refused.await.is_err());
    let found = ["second_cluster another-cluster-entirely"];
    assert_eq!(world.warnings().await, found);
    sweep(&world).await;
    assert_eq!(world.warnings().await, found, "looking does not close it");
    body["cluster_id"] = serde_json::Value::Null;
    body["uuid"] = "another-repository".into();
    let refused = world.put("base/index-1", body.to_string().into_bytes());
    assert!(refused.await.is_err());
    assert_eq!(
        world.warnings().await,
        ["other_uuid another-repository", found[0]]
    );
}

#[tokio::test]
async fn a_checksum_that_does_not_match_is_a_warning_and_no_refusal() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let folder = world.data_files().remove(0);
    let folder = folder.rsplit_once('/').unwrap().0.to_owned();
    let mut file = frame::close(vec![7; 50]);
    file[3] ^= 1;
    let bad = format!("{folder}/__AAAAAAAAAAAAAAAAAAAAAA");
    world.put(&bad, file).await.unwrap();
    let good = format!("{folder}/__BBBBBBBBBBBBBBBBBBBBBB");
    world.put(&good, frame::close(vec![7; 50])).await.unwrap();
    let plain = format!("{folder}/__CCCCCCCCCCCCCCCCCCCCCC");
    world.put(&plain, b"no Lucene file".to_vec()).await.unwrap();
    let metadata = "base/snap-AAAAAAAAAAAAAAAAAAAAAA.dat";
    world.put(metadata, b"nonsense".to_vec()).await.unwrap();
    assert_eq!(
        world.warnings().await,
        [
            format!("bad_checksum {folder}/__AAAAAAAAAAAAAAAAAAAAAA"),
            format!("bad_checksum {metadata}")
        ]
    );
}

#[tokio::test]
async fn a_newest_root_that_cannot_be_read_is_a_warning() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    std::fs::write(world.path("base/index-0"), b"{").unwrap();
    let world = world.restart().await;
    assert_eq!(world.warnings().await, ["damage base/index-0"]);
    sweep(&world).await;
    assert_eq!(
        world.warnings().await,
        ["damage base/index-0", "object_changed base/index-0"]
    );
}
