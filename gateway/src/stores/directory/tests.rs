//! What only the directory store promises.

use std::os::unix::fs::symlink;
use std::path::Path;

use futures::TryStreamExt;

use super::*;
use crate::stores::Publish;
use crate::stores::conformance::{self, get, key, pattern, permit, put};

async fn store(root: &Path) -> Arc<Directory> {
    Arc::new(Directory::open(root.to_owned()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_keeps_every_promise_of_a_store() {
    let root = tempfile::tempdir().unwrap();
    conformance::suite(store(root.path()).await).await;
}

#[tokio::test]
async fn a_directory_in_memory_keeps_every_promise_of_a_store() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    conformance::suite(store(root.path()).await).await;
}

#[tokio::test]
async fn the_file_for_a_key_has_the_keys_own_path() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    let content = pattern(1, 1000);
    put(
        &*store,
        "base/indices/x/0/__y",
        &content,
        Publish::CreateOnly,
    )
    .await
    .unwrap();
    assert_eq!(
        std::fs::read(root.path().join("base/indices/x/0/__y")).unwrap(),
        content
    );
}

#[tokio::test]
async fn symlinks_are_never_followed() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let store = store(root.path()).await;
    symlink(outside.path(), root.path().join("way")).unwrap();
    symlink(outside.path().join("secret"), root.path().join("secret")).unwrap();
    for name in ["way/secret", "secret"] {
        let read = store.read(&key(name), None, None).await;
        assert!(matches!(read.err(), Some(Error::Failed(_))), "{name}");
    }
    let content = pattern(1, 10);
    assert!(
        put(&*store, "way/new", &content, Publish::CreateOnly)
            .await
            .is_err()
    );
    assert!(!outside.path().join("new").exists());
    assert!(
        store.list("", None, 10).await.is_err(),
        "a tree with a symlink is not silently listed short"
    );
    put(&*store, "secret", &content, Publish::Replace)
        .await
        .unwrap();
    assert_eq!(
        std::fs::read(outside.path().join("secret")).unwrap(),
        b"secret"
    );
    for outcome in store.delete(&permit(), &[key("way/secret")]).await {
        assert!(outcome.is_err());
    }
    assert!(outside.path().join("secret").exists());
}

#[tokio::test]
async fn the_stores_own_area_holds_no_objects() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    for name in [".snapgate/tmp/x", ".snapgate/escaped/x"] {
        let refused = put(&*store, name, &pattern(1, 1), Publish::CreateOnly).await;
        assert!(matches!(refused, Err(Error::Unstorable(_))), "{name}");
    }
}

#[tokio::test]
async fn an_upload_that_is_dropped_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    for (size, fenced) in [(10, false), (10, true), (600_000, false), (600_000, true)] {
        let mut upload = store
            .begin(&permit(), &key("x"), Plan { size: None, fenced })
            .await
            .unwrap();
        for _ in 0..3 {
            upload.write(pattern(1, size)).await.unwrap();
        }
        drop(upload);
    }
    let refused = {
        put(&*store, "y", &pattern(1, 10), Publish::CreateOnly)
            .await
            .unwrap();
        put(&*store, "y", &pattern(1, 10), Publish::CreateOnly).await
    };
    assert!(matches!(refused, Err(Error::Exists)));
    for _ in 0..200 {
        if store.uploads().await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", store.uploads().await);
}

#[tokio::test]
async fn parts_side_by_side_become_one_file_without_a_copy() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    let id = store.begin_multipart(&permit(), &key("x")).await.unwrap();
    let contents = [pattern(1, 300_000), pattern(2, 300_000), pattern(3, 1000)];
    let mut sealed = Vec::new();
    for number in [2_u16, 1, 3] {
        let content = &contents[usize::from(number) - 1];
        let plan = Plan {
            size: Some(content.len() as u64),
            fenced: false,
        };
        let mut part = store
            .begin_part(&permit(), &key("x"), &id, number, plan)
            .await
            .unwrap();
        part.write(content.clone()).await.unwrap();
        sealed.push(part.seal().await.unwrap());
    }
    sealed.sort_by_key(|part| part.number);
    assert!(sealed.iter().all(|part| part.locator.starts_with("slot:")));
    let assembly = root
        .path()
        .join(".snapgate/tmp")
        .join(&*id.0)
        .join("assembly");
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&assembly).unwrap());
    let whole = store
        .assemble(&permit(), &key("x"), &id, &sealed)
        .await
        .unwrap();
    whole.publish(Publish::CreateOnly).await.unwrap();
    let published = std::fs::metadata(root.path().join("x")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&published), inode);
    assert_eq!(get(&*store, "x").await.unwrap(), contents.concat());
    assert!(store.uploads().await.unwrap().is_empty());
}

#[tokio::test]
async fn parts_survive_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let before = store(root.path()).await;
    let id = before.begin_multipart(&permit(), &key("x")).await.unwrap();
    let contents = [pattern(1, 300_000), pattern(2, 300_000), pattern(3, 1000)];
    let mut sealed = Vec::new();
    let mut running = before;
    for (number, content) in (1..).zip(&contents) {
        let plan = Plan {
            size: Some(content.len() as u64),
            fenced: false,
        };
        let mut part = running
            .begin_part(&permit(), &key("x"), &id, number, plan)
            .await
            .unwrap();
        part.write(content.clone()).await.unwrap();
        sealed.push(part.seal().await.unwrap());
        running = store(root.path()).await;
    }
    let whole = running
        .assemble(&permit(), &key("x"), &id, &sealed)
        .await
        .unwrap();
    whole.publish(Publish::CreateOnly).await.unwrap();
    assert_eq!(get(&*running, "x").await.unwrap(), contents.concat());
}

#[tokio::test]
async fn a_conflicting_key_stays_where_it_is_when_the_conflict_goes() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    let (below, first, second) = (pattern(1, 10), pattern(2, 20), pattern(3, 30));
    put(&*store, "a/b", &below, Publish::CreateOnly)
        .await
        .unwrap();
    put(&*store, "a", &first, Publish::CreateOnly)
        .await
        .unwrap();
    store
        .delete(&permit(), &[key("a/b")])
        .await
        .pop()
        .unwrap()
        .unwrap();
    let taken = put(&*store, "a", &second, Publish::CreateOnly).await;
    assert!(matches!(taken, Err(Error::Exists)), "{taken:?}");
    put(&*store, "a", &second, Publish::Replace).await.unwrap();
    assert_eq!(get(&*store, "a").await.unwrap(), second);
    assert_eq!(store.list("", None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn publishers_and_deleters_of_one_directory_do_not_lose_objects() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store(root.path()).await;
    let worker = |number: u32| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let name = format!("deep/er/{number}");
            for round in 0..200 {
                put(&*store, &name, &pattern(round, 10), Publish::CreateOnly)
                    .await
                    .unwrap();
                assert_eq!(get(&*store, &name).await.unwrap(), pattern(round, 10));
                store
                    .delete(&permit(), &[key(&name)])
                    .await
                    .pop()
                    .unwrap()
                    .unwrap();
            }
        })
    };
    futures::future::try_join_all((0..4).map(worker))
        .await
        .unwrap();
    assert!(
        !root.path().join("deep").exists(),
        "empty directories go away"
    );
}

#[tokio::test]
async fn a_copied_tree_keeps_its_identities() {
    let root = tempfile::tempdir().unwrap();
    let published = put(
        &*store(root.path()).await,
        "x/y",
        &pattern(1, 10),
        Publish::CreateOnly,
    )
    .await
    .unwrap();
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("copy");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(root.path())
        .arg(&to)
        .status()
        .unwrap();
    assert!(status.success());
    let content = store(&to)
        .await
        .read(&key("x/y"), None, Some(&published.identity))
        .await
        .unwrap()
        .unwrap();
    let pieces: Vec<bytes::Bytes> = content.bytes.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), pattern(1, 10));
}

#[tokio::test]
async fn a_listing_does_not_hold_a_directory_in_memory() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store(root.path()).await;
    std::fs::create_dir(root.path().join("many")).unwrap();
    for number in 0..9000 {
        std::fs::create_dir(root.path().join(format!("many/{number:05}"))).unwrap();
    }
    std::fs::write(root.path().join("many/zz"), "x").unwrap();
    let listed = store.list("many/", None, 10).await.unwrap();
    assert_eq!(
        listed.len(),
        1,
        "empty directories beyond one batch are passed"
    );
}
