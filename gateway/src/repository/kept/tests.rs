use super::*;
use crate::repository::miniature::World;
use policies::format::build::Request;

/// Takes the bytes of all metadata but the root out of the store, behind the gateway.
fn lose_metadata(world: &World) {
    let mut lost = 0;
    let mut folders = vec![world.path("base")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let in_shard = path.components().count() > world.path("base/x").components().count();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".dat") || in_shard && name.starts_with("index-") {
                std::fs::remove_file(&path).unwrap();
                lost += 1;
            }
        }
    }
    assert!(lost > 5);
}

async fn delete(world: &World, key: &str) -> Result<(), Error> {
    let key = ObjectKey::parse(key).unwrap();
    let class = Class::Unknown;
    world.send(Request::Delete { key, class }).await
}

#[tokio::test]
async fn a_restart_reads_no_metadata_that_the_gateway_saw() {
    let mut world = World::new().await;
    for name in ["one", "two", "three"] {
        world.snapshot(name).await;
    }
    world.cluster.delete(&["two"], true);
    world.send_all().await;
    world.door.write_digests_now(&world.open).await;
    lose_metadata(&world);
    let world = world.restart().await;
    assert_eq!(world.warnings().await, [""; 0]);
    let snapshots = world.open.guarding.with(|guard| {
        let newest = guard.knowledge().newest();
        newest.map(|newest| newest.root.snapshots.len())
    });
    assert_eq!(snapshots, Some(2));
    for file in world.data_files() {
        let needed = world.open.guarding.with(|guard| {
            let mut members = guard.knowledge().members();
            members.any(|member| member.key.as_str() == file)
        });
        assert_eq!(delete(&world, &file).await.is_err(), needed, "{file}");
    }
}

#[tokio::test]
async fn what_an_adoption_read_is_not_read_again() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let world = world.forget().await;
    world.door.adopt(&world.open, &|_, _| {}).await.unwrap();
    lose_metadata(&world);
    let world = world.restart().await;
    assert_eq!(world.warnings().await, [""; 0]);
    let file = world.data_files().remove(0);
    assert!(delete(&world, &file).await.is_err());
}

#[tokio::test]
async fn a_digest_that_was_not_kept_is_read_from_its_object() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    world.door.write_digests_now(&world.open).await;
    let key = world.cluster_key("snap-");
    let stale = KeptDigest {
        key: key.clone(),
        content: vec![0; 32],
        body: b"of a newer program".to_vec(),
    };
    let bucket = world.open.bucket_id;
    world
        .door
        .state
        .keep_digests(bucket, vec![stale])
        .await
        .unwrap();
    let world = world.restart().await;
    assert_eq!(world.warnings().await, [""; 0]);
    let known = world.door.state.digests(bucket, &[key]).await.unwrap();
    assert_eq!(known.len(), 1, "and kept now");
}
