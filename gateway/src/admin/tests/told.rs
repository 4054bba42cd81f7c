//! What an operator is told of a repository.

use policies::format::build::Take;
use policies::identity::{Repository, StoreName};
use policies::key::ObjectKey;
use policies::mirror_order::Mode;
use serde_json::Value;

use super::*;
use crate::mirror::Asleep;
use crate::repository::miniature::World;

impl Api {
    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let said = format!("Bearer {TOKEN}");
        let answer = self.ask(&Method::GET, path, Some(&said)).await;
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20);
        (
            status,
            serde_json::from_slice(&body.await.unwrap()).unwrap(),
        )
    }

    async fn explained(&self, key: &str) -> (StatusCode, Value) {
        let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/v1/repositories/prod/explain?key={key}");
        self.get(&path).await
    }
}

fn api(world: &World) -> Api {
    Api::of(Arc::clone(&world.door), "127.0.0.1:9001")
}

/// Snapshots `one` and `two`, and then `one` is deleted: roots 0, 1 and 2.
async fn deleted() -> World {
    let mut world = World::new().await;
    for name in ["one", "two"] {
        let take = Take {
            index: "logs",
            shards: 2,
            new_files: 3,
            merged_away: 1,
            failed_shard: None,
        };
        world.cluster.create(name, &[take]);
        world.send_all().await;
    }
    world.cluster.delete(&["one"], true);
    world.send_all().await;
    world
}

#[tokio::test]
async fn snapshots_are_told_with_what_they_hold_by_name_where_they_ended_at_once() {
    let mut world = World::new().await;
    for name in ["b", "a", "c"] {
        world.snapshot(name).await;
    }
    let (_, told) = api(&world).get("/v1/repositories/prod/snapshots").await;
    let names: Vec<&str> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    let objects: Vec<u64> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["objects"].as_u64().unwrap())
        .collect();
    assert_eq!(
        objects,
        [12, 6, 18],
        "of two shards, three new files each time: b, a, c"
    );
    assert!(told[1]["bytes"].as_u64().unwrap() < told[0]["bytes"].as_u64().unwrap());
}

#[tokio::test]
async fn nothing_is_told_of_a_repository_that_nobody_has_read_but_what_to_do() {
    let world = deleted().await.forget().await;
    let api = api(&world);
    for what in ["snapshots", "restore-points", "explain?key=base%2Findex-2"] {
        let (status, told) = api.get(&format!("/v1/repositories/prod/{what}")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
        let why = told["detail"].as_str().unwrap();
        assert!(why.contains("snapgate adopt prod"), "{what}: {why}");
    }
    let (_, told) = api.get("/v1/repositories/prod").await;
    assert_eq!(told["snapshots"], Value::Null);
    let remedy = told["lock"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("snapgate adopt prod"), "{remedy}");
    world.door.adopt(&world.open, &|_, _| {}).await.unwrap();
    let (_, told) = api.get("/v1/repositories/prod").await;
    assert_eq!(told["snapshots"], 1);
    assert_eq!(told["lock"]["remedy"], Value::Null);
}

#[tokio::test]
async fn a_job_is_told_with_its_repository_while_it_runs() {
    let world = World::new().await;
    let api = api(&world);
    let job = api.admin.jobs.begin("verify", world.open.name.clone());
    job.progress(5, 9);
    let (_, told) = api.get("/v1/repositories/prod").await;
    assert_eq!(told["jobs"][0]["kind"], "verify");
    assert_eq!(told["jobs"][0]["progress"]["done"], 5);
    job.end(Ok(Value::Null));
    let (_, told) = api.get("/v1/repositories/prod").await;
    assert_eq!(told["jobs"], serde_json::json!([]));
}

#[tokio::test]
async fn an_object_is_explained_by_who_needs_it_and_by_what_the_store_holds() {
    let world = deleted().await;
    let api = api(&world);
    let (_, told) = api.explained("base/index-2").await;
    assert_eq!(told["needed_by"][0]["snapshot"], "two");
    assert_eq!(
        (&told["in_store"], &told["delete"]["allowed"]),
        (&"as_recorded".into(), &false.into())
    );
    std::fs::remove_file(world.path("base/index-2")).unwrap();
    assert_eq!(api.explained("base/index-2").await.1["in_store"], "missing");
    let (_, told) = api.explained("base/index.latest").await;
    assert_eq!(told["delete"]["effect"], "kept");
    let (status, told) = api.explained("elsewhere/index-2").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let why = told["detail"].as_str().unwrap();
    assert!(
        why.ends_with("whose names in bucket 'backups' begin with 'base/'"),
        "{why}"
    );
}

#[tokio::test]
async fn what_was_deleted_is_explained_by_the_restore_points_that_still_see_it() {
    let world = deleted().await;
    let (_, told) = api(&world).explained("base/index-1").await;
    assert_eq!(
        (&told["visible"], &told["in_store"]),
        (&false.into(), &Value::Null)
    );
    let seen = serde_json::json!([2, 1]);
    assert_eq!(
        told["held"][0]["restore_points"], seen,
        "a cluster deletes it after it wrote the next one"
    );
    assert!(
        told["held"][0]["seconds_left"].as_u64().unwrap() > 50,
        "{told}"
    );
    let object = ObjectKey::parse("base/index-9").unwrap();
    assert_eq!(world.door.held(&world.open, &object).await.unwrap(), []);
}

#[tokio::test]
async fn a_mirror_that_does_not_run_is_told_as_stalled_and_takes_no_orders() {
    let world = World::new().await;
    let api = api(&world);
    let asleep = Asleep {
        store: StoreName::new("us"),
        mode: Mode::Barrier,
        why: "the repository is frozen".to_owned(),
    };
    let repository = Repository::new("prod");
    api.admin.mirrors.let_sleep(&repository, vec![asleep]);
    let (_, one) = api.get("/v1/repositories/prod/mirrors/us").await;
    assert_eq!(one["state"], "stalled");
    assert_eq!(one["stalled_on"]["reason"], "the repository is frozen");
    for number in ["restore_points", "seconds", "operations", "bytes"] {
        assert_eq!(one["lag"][number], Value::Null, "{number}");
    }
    let (_, all) = api.get("/v1/repositories/prod").await;
    assert_eq!(all["mirrors"], serde_json::json!([one]));
    let said = format!("Bearer {TOKEN}");
    for order in ["pause", "resume", "resync", "verify"] {
        let path = format!("/v1/repositories/prod/mirrors/us/{order}");
        let answer = api.ask(&Method::POST, &path, Some(&said)).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT, "{order}");
    }
}
