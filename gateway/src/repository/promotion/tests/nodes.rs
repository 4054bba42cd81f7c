//! Several gateways on one database: one promotes, the others go where the repository is.

use super::*;

/// What a node does every two seconds.
async fn look_after(node: &Gateway) {
    let open = node.open();
    node.door
        .look_after(&open, &mut HashMap::new())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_through_one_node_moves_the_others_too() {
    let disks = Disks::new();
    let [one, two] = disks.nodes("eu").await;
    let mut writer = s1_mirrored(&one, &disks).await;
    let mirrored = one.contents().await;
    two.promote("us", "b").await.unwrap();
    assert_eq!(two.open().plan.store, StoreName::new("us"));

    look_after(&one).await;
    let open = one.open();
    assert_eq!(open.plan.store, StoreName::new("us"));
    assert_eq!(open.promoted_from, Some(StoreName::new("eu")));
    assert!(held_by(&one.lock(), "b"), "{:?}", one.lock());
    assert_eq!(one.contents().await, mirrored);
    writer.create("s2", &[take()]);
    one.perform("b", writer.requests()).await;
    assert_eq!(two.contents().await, one.contents().await);
    assert!(disks.path("us/base/index-1").exists());
    assert!(!disks.path("eu/base/index-1").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_know_of_a_promotion_yet_acknowledges_nothing() {
    let disks = Disks::new();
    let [one, two] = disks.nodes("eu").await;
    s1_mirrored(&one, &disks).await;
    let key = |name: &str| at(&format!("base/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/{name}")).key;
    two.promote("us", "b").await.unwrap();
    // The old holder, as the node still knows it, and the new one.
    for (cluster, name) in [
        ("a", "__aaaaaaaaaaaaaaaaaaaaaa"),
        ("b", "__bbbbbbbbbbbbbbbbbbbbbb"),
        ("a", "__cccccccccccccccccccccc"),
    ] {
        let refused = one.put(cluster, &key(name), b"bytes".to_vec()).await;
        refused.unwrap_err();
        let seen = two.state.object(two.open().bucket_id, &key(name)).await;
        assert_eq!(seen.unwrap().object, None);
    }
    assert!(one.open().gate.is_frozen());
    look_after(&one).await;
    let name = key("__dddddddddddddddddddddd");
    one.put("b", &name, b"bytes".to_vec()).await.unwrap();
    assert_eq!(two.get(name.as_str()).await.unwrap(), b"bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_take_its_own_databases_promotion_for_a_strangers() {
    let disks = Disks::new();
    let [one, two] = disks.nodes("eu").await;
    s1_mirrored(&one, &disks).await;
    two.promote("us", "b").await.unwrap();
    // It still believes that the repository is on 'eu', and mirrored to 'us'.
    assert_eq!(one.open().plan.store, StoreName::new("eu"));
    one.door.look_elsewhere(&one.open()).await.unwrap();
    let row = one.state.lock(one.open().id).await.unwrap();
    assert!(held_by(&row.lock, "b"), "{row:?}");
    look_after(&one).await;
    assert!(held_by(&one.lock(), "b"), "{:?}", one.lock());
}
