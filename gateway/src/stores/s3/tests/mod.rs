//! The store against a service that misbehaves, and against real ones when asked for.
//!
//! `SNAPGATE_TEST_S3=http://host:port/bucket SNAPGATE_TEST_S3_ID=… SNAPGATE_TEST_S3_SECRET=…
//! cargo test -p snapgate a_real_service -- --ignored` runs the conformance suite against a bucket
//! that may be emptied.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use tempfile::NamedTempFile;

use super::fake::{Fake, Fault, error_body};
use super::{CredentialSettings, S3Store, Settings};
use crate::stores::conformance::{get, key, pattern, permit, put, suite};
use crate::stores::{Error, Plan, Publish, Published, Result, Store, Upload};

mod outcomes;

const LARGE: usize = 300_000;

fn settings(endpoint: &str, url: &str, secret: &NamedTempFile) -> Settings {
    let path = secret.path().display();
    toml::from_str(&format!(
        "url = '{url}'\nendpoint = '{endpoint}'\ncredentials = {{ id = 'test', secret_file = '{path}' }}\nanswer_seconds = 1\nidle_seconds = 1\nstep_seconds = 3"
    ))
    .unwrap()
}

fn secret(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

async fn store_at(url: &str) -> (Fake, Arc<S3Store>) {
    let fake = Fake::start().await;
    let secret = secret("s3cret");
    let settings = settings(&format!("http://{}", fake.address), url, &secret);
    (fake, Arc::new(S3Store::open(&settings).unwrap()))
}

async fn store() -> (Fake, Arc<S3Store>) {
    store_at("s3://bucket").await
}

/// One whose attempts end by their number, however slow the machine is.
async fn unhurried_store() -> (Fake, Arc<S3Store>) {
    let fake = Fake::start().await;
    let secret = secret("s3cret");
    let endpoint = format!("http://{}", fake.address);
    let mut settings = settings(&endpoint, "s3://bucket", &secret);
    (settings.answer_seconds, settings.idle_seconds) = (3600, 3600);
    settings.step_seconds = 3600;
    (fake, Arc::new(S3Store::open(&settings).unwrap()))
}

/// A bucket of a service that loses a share of its requests and answers; it is there as long as the first of the two.
pub(crate) async fn lossy(seed: u64, share: f64) -> (Fake, Arc<dyn Store>) {
    let (fake, store) = store().await;
    fake.lose(seed, share);
    (fake, store)
}

async fn begin(store: &S3Store, name: &str, content: &Bytes, fenced: bool) -> Box<dyn Upload> {
    let size = Some(content.len() as u64);
    let mut upload = store
        .begin(&permit(), &key(name), Plan { size, fenced })
        .await
        .unwrap();
    for piece in content.chunks(50_000) {
        upload.write(content.slice_ref(piece)).await.unwrap();
    }
    upload
}

async fn create(store: &S3Store, name: &str, size: usize) -> Result<Published> {
    put(store, name, &pattern(1, size), Publish::CreateOnly).await
}

async fn body(store: &S3Store, name: &str) -> Result<Vec<Bytes>> {
    let content = store.read(&key(name), None, None).await?.expect("present");
    content.bytes.try_collect().await
}

#[tokio::test]
async fn a_bucket_keeps_what_every_store_promises() {
    let (fake, store) = store().await;
    fake.world.lock().page = 7;
    store.probe().await.unwrap();
    suite(store).await;
}

#[tokio::test]
async fn a_prefix_in_a_bucket_keeps_what_every_store_promises() {
    let (fake, store) = store_at("s3://bucket/some/prefix").await;
    fake.put("some/other", b"not ours");
    fake.put("some/prefix-not", b"not ours");
    suite(store.clone()).await;
    let world = fake.world.lock();
    assert!(world.objects.keys().all(|key| key.starts_with("some/")));
}

#[tokio::test]
#[ignore = "needs a service: set SNAPGATE_TEST_S3"]
async fn a_real_service_keeps_what_every_store_promises() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("set {name}"));
    let url = variable("SNAPGATE_TEST_S3");
    let (endpoint, bucket) = url.rsplit_once('/').unwrap();
    let secret = secret(&variable("SNAPGATE_TEST_S3_SECRET"));
    let url = format!("s3://{bucket}/run-{:08x}", rand::random::<u32>());
    let mut settings = settings(endpoint, &url, &secret);
    settings.credentials = Some(CredentialSettings {
        id: variable("SNAPGATE_TEST_S3_ID"),
        secret_file: secret.path().to_owned(),
    });
    settings.answer_seconds = 30;
    settings.step_seconds = 30;
    let store = Arc::new(S3Store::open(&settings).unwrap());
    println!("{:?}", store.probe().await.unwrap());
    assert!(
        store
            .list(".snapgate/probe/", None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    suite(store).await;
}

#[tokio::test]
async fn nothing_is_visible_while_the_end_is_held_back() {
    let (fake, store) = store().await;
    for size in [1000, LARGE] {
        let upload = begin(&store, "x", &pattern(1, size), false).await;
        assert!(fake.get("x").is_none());
        upload.abort().await.unwrap();
        drop(begin(&store, "x", &pattern(1, size), false).await);
    }
    // Whatever the service made of the broken connections is over when it answers again.
    create(&store, "y", 10).await.unwrap();
    assert!(fake.get("x").is_none());
}

#[tokio::test]
async fn an_upload_that_is_shorter_or_longer_than_announced_is_not_published() {
    let (fake, store) = store().await;
    for (size, fenced) in [(1000, false), (LARGE, false), (1000, true), (LARGE, true)] {
        let plan = Plan {
            size: Some(size as u64),
            fenced,
        };
        let mut short = store.begin(&permit(), &key("x"), plan).await.unwrap();
        short.write(pattern(1, size - 1)).await.unwrap();
        assert!(short.publish(Publish::CreateOnly).await.is_err());
        let mut long = store.begin(&permit(), &key("x"), plan).await.unwrap();
        assert!(long.write(pattern(1, size + 1)).await.is_err());
        drop(long);
    }
    assert!(fake.get("x").is_none());
}

#[tokio::test]
async fn the_probe_finds_what_a_service_can_do_and_leaves_nothing() {
    let (fake, store) = store().await;
    let found = store.probe().await.unwrap().clone();
    assert!(found.create_only && found.compare_and_set);
    assert!(found.abort_beats_complete && found.checksums);
    assert!(fake.world.lock().objects.is_empty());
    assert_eq!(fake.open_uploads(), 0);
    let published = create(&store, "x", 10).await.unwrap();
    assert_eq!(published.md5.as_deref(), Some(&*published.identity.0));
}

#[tokio::test]
async fn the_probe_is_not_deceived_by_a_service_that_ignores_conditions_and_checksums() {
    let (fake, store) = store().await;
    fake.world.lock().lacks.conditions = true;
    fake.world.lock().lacks.checksums = true;
    let found = store.probe().await.unwrap().clone();
    assert!(!found.create_only && !found.compare_and_set && !found.checksums);
    assert!(fake.world.lock().objects.is_empty());
    // The stronger way that is left: look first.
    for (name, size) in [("small", 10), ("large", LARGE)] {
        create(&store, name, size).await.unwrap();
        let again = create(&store, name, size).await;
        assert!(matches!(again, Err(Error::Exists)), "{again:?}");
    }
}

#[tokio::test]
async fn the_probe_sees_that_an_aborted_upload_can_be_completed() {
    let (fake, store) = store().await;
    fake.world.lock().lacks.aborting = true;
    // What the probe itself has to abort on its way is no use to it here.
    fake.fault(
        "CompleteMultipartUpload",
        Fault::Answer(412, error_body("PreconditionFailed")),
    );
    fake.fault("ListParts", Fault::Answer(404, error_body("NoSuchUpload")));
    let found = store.probe().await.unwrap();
    assert!(found.create_only && !found.abort_beats_complete);
    assert!(fake.world.lock().objects.is_empty());
}

#[tokio::test]
async fn an_abort_is_not_believed_before_the_upload_is_gone() {
    let (fake, store) = store().await;
    fake.world.lock().lacks.aborting = true;
    let upload = begin(&store, "x", &pattern(1, 10), true).await;
    let id = upload.id().clone();
    assert!(store.abort(&permit(), &key("x"), &id).await.is_err());
    fake.world.lock().lacks.aborting = false;
    store.abort(&permit(), &key("x"), &id).await.unwrap();
    assert_eq!(fake.open_uploads(), 0);
}

#[tokio::test]
async fn a_service_without_batches_gets_single_deletes() {
    let (fake, store) = store().await;
    fake.world.lock().lacks.batches = true;
    for name in ["a", "b", "c"] {
        fake.put(name, b"1");
    }
    for _ in 0..2 {
        let outcomes = store.delete(&permit(), &[key("a"), key("b")]).await;
        assert!(outcomes.iter().all(Result::is_ok));
    }
    assert_eq!(fake.count("DeleteObjects"), 1);
    assert!(fake.get("a").is_none() && fake.get("c").is_some());
}

#[tokio::test]
async fn a_delete_counts_only_when_the_answer_names_it() {
    let (fake, store) = store().await;
    let answer = "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>c</Key><Code>AccessDenied</Code></Error></DeleteResult>";
    fake.fault("DeleteObjects", Fault::Answer(200, answer.to_owned()));
    let outcomes = store
        .delete(&permit(), &[key("a"), key("b"), key("c")])
        .await;
    assert!(
        matches!(
            outcomes[..],
            [Ok(()), Err(Error::Failed(_)), Err(Error::Denied)]
        ),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn all_uploads_are_listed_over_pages() {
    let (fake, store) = store().await;
    fake.world.lock().page = 2;
    for number in 0..5 {
        store
            .begin_multipart(&permit(), &key(&format!("k{number}")))
            .await
            .unwrap();
    }
    assert_eq!(store.uploads().await.unwrap().len(), 5);
}

#[tokio::test]
async fn connections_are_used_again() {
    let (fake, store) = store().await;
    for number in 0..50 {
        create(&store, &format!("k{number}"), 10).await.unwrap();
        assert!(get(&*store, &format!("k{number}")).await.is_some());
        assert!(store.stat(&key("absent")).await.unwrap().is_none());
    }
    assert_eq!(fake.connections(), 1);
}
