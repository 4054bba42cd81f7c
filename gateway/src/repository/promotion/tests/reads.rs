//! Reads from the mirror while the store fails; and the rehearsal.

use super::*;

async fn with_failing_store(disks: &Disks) -> (Gateway, Arc<Faulty<dyn Store>>) {
    let (gateway, _) = region_a(disks).await;
    gateway.gone().await;
    let failing = Arc::new(Faulty::new(disks.store("eu").await));
    let us = disks.store("us").await;
    let gateway = disks
        .gateway_with("a", "eu", [("eu", failing.clone()), ("us", us)])
        .await;
    (gateway, failing)
}

fn fail(store: &Faulty<dyn Store>) {
    store.plan(
        Operation::Read,
        Fault::FailBefore(crate::stores::Error::Unknown),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_store_fails_is_served_from_the_mirror() {
    let disks = Disks::new();
    let (gateway, failing) = with_failing_store(&disks).await;
    for key in gateway.contents().await.into_keys() {
        let bytes = gateway.get(&key).await.unwrap();
        fail(&failing);
        assert!(gateway.get(&key).await.unwrap() == bytes, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_content_on_the_mirror_is_never_served_whole() {
    let disks = Disks::new();
    let (gateway, failing) = with_failing_store(&disks).await;
    for key in gateway.contents().await.into_keys() {
        let bytes = gateway.get(&key).await.unwrap();
        if bytes.is_empty() {
            continue;
        }
        let mut other = bytes.clone();
        other[0] ^= 1;
        std::fs::write(disks.path("us").join(&key), other).unwrap();
        fail(&failing);
        gateway.get(&key).await.unwrap_err();
        fail(&failing);
        std::fs::write(disks.path("us").join(&key), &bytes[1..]).unwrap();
        gateway.get(&key).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_mirror_has_not_applied_is_not_read_from_it() {
    let disks = Disks::new();
    let (gateway, failing) = with_failing_store(&disks).await;
    let mut later = cluster();
    later.create("s1", &[take()]);
    later.requests();
    later.create("s2", &[take()]);
    gateway.perform("a", later.requests()).await;
    let pointer = gateway.get("base/index.latest").await.unwrap();
    fail(&failing);
    gateway.get("base/index.latest").await.unwrap_err();
    assert_eq!(gateway.get("base/index.latest").await.unwrap(), pointer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_reads_the_mirror_alone_and_finds_what_is_not_there() {
    let disks = Disks::new();
    let (gateway, failing) = with_failing_store(&disks).await;
    for _ in 0..1000 {
        fail(&failing);
    }
    let us = StoreName::new("us");
    let report = gateway
        .door
        .drill(&gateway.open(), &us, None, &|_, _| {})
        .await
        .unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.snapshots, ["s1"]);
    assert_eq!(&*report.newest.as_ref().unwrap().name, "s1");
    assert!(report.objects > 0 && report.bytes > 0 && report.restore_seconds().is_some());
    let unknown = gateway
        .door
        .drill(&gateway.open(), &us, Some("s9"), &|_, _| {})
        .await;
    assert!(unknown.unwrap_err().to_string().contains("it has: s1"));

    let mut folder = disks.path("us/base/indices");
    while folder.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        entries.sort();
        let data = entries
            .iter()
            .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("__"));
        folder = data.unwrap_or(&entries[0]).clone();
    }
    std::fs::remove_file(&folder).unwrap();
    let report = gateway
        .door
        .drill(&gateway.open(), &us, Some("s1"), &|_, _| {})
        .await
        .unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(&*report.problems[0].snapshots[0], "s1");
}
