//! The store against a service that misbehaves, and against real ones when asked for.
//!
//! `SNAPGATE_TEST_S3=http://host:port/bucket SNAPGATE_TEST_S3_ID=… SNAPGATE_TEST_S3_SECRET=…
//! cargo test -p snapgate a_real_service -- --ignored` runs the conformance suite against a bucket
//! that may be emptied.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use tempfile::NamedTempFile;

use super::fake::{Fake, Fault, error_body};
use super::{CredentialSettings, S3Store, Settings};
use crate::stores::conformance::{get, key, pattern, permit, put, suite};
use crate::stores::{Error, Plan, Publish, Published, Result, Store, Upload};

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
async fn a_lost_answer_is_looked_up() {
    let (fake, store) = store().await;
    for (size, fenced, operation) in [
        (1000, false, "PutObject"),
        (LARGE, false, "PutObject"),
        (1000, true, "CompleteMultipartUpload"),
        (LARGE, true, "CompleteMultipartUpload"),
    ] {
        for mode in [Publish::CreateOnly, Publish::Replace] {
            if mode == Publish::Replace && size == LARGE && !fenced {
                continue;
            }
            let name = format!("{size}/{fenced}/{mode:?}");
            let content = pattern(2, size);
            let upload = begin(&store, &name, &content, fenced).await;
            fake.fault(operation, Fault::LoseAnswer);
            let published = upload
                .publish(mode)
                .await
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let stat = store.stat(&key(&name)).await.unwrap().unwrap();
            assert_eq!(published.identity, stat.identity, "{name}");
            assert_eq!(fake.get(&name).unwrap(), content);
        }
    }
}

#[tokio::test]
async fn a_lost_streamed_request_stays_unknown() {
    let (fake, store) = store().await;
    let upload = begin(&store, "x", &pattern(1, LARGE), false).await;
    fake.fault("PutObject", Fault::LoseRequest);
    let outcome = upload.publish(Publish::CreateOnly).await;
    assert!(matches!(outcome, Err(Error::Unknown)), "{outcome:?}");
}

#[tokio::test]
async fn a_lost_small_request_is_made_again() {
    let (fake, store) = store().await;
    fake.fault("PutObject", Fault::LoseRequest);
    create(&store, "x", 1000).await.unwrap();
    assert_eq!(fake.count("PutObject"), 2);
}

#[tokio::test]
async fn after_a_lost_answer_anothers_object_is_not_taken_for_ours() {
    let (fake, store) = store().await;
    for size in [1000, LARGE] {
        fake.put("x", &pattern(9, size));
        let upload = begin(&store, "x", &pattern(1, size), false).await;
        fake.fault("PutObject", Fault::LoseRequest);
        let outcome = upload.publish(Publish::CreateOnly).await;
        assert!(matches!(outcome, Err(Error::Exists)), "{outcome:?}");
        assert_eq!(fake.get("x").unwrap(), pattern(9, size));
    }
}

#[tokio::test]
async fn an_error_inside_a_success_is_an_error() {
    let (fake, store) = store().await;
    let upload = begin(&store, "x", &pattern(1, 10), true).await;
    for _ in 0..20 {
        fake.fault(
            "CompleteMultipartUpload",
            Fault::Answer(200, error_body("InternalError")),
        );
    }
    let outcome = upload.publish(Publish::CreateOnly).await;
    assert!(matches!(outcome, Err(Error::Unknown)), "{outcome:?}");

    create(&store, "a", 10).await.unwrap();
    fake.fault("CopyObject", Fault::Answer(200, error_body("AccessDenied")));
    let outcome = store.set_aside(&permit(), &key("a"), &key("b")).await;
    assert!(matches!(outcome, Err(Error::Denied)), "{outcome:?}");

    fake.fault(
        "DeleteObjects",
        Fault::Answer(200, error_body("AccessDenied")),
    );
    let outcomes = store.delete(&permit(), &[key("a"), key("b")]).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::Denied)))
    );
}

#[tokio::test]
async fn a_short_body_is_an_error_in_the_stream() {
    let (fake, store) = store().await;
    fake.put("x", &pattern(1, 1000));
    for length in [0, 1, 999] {
        fake.fault("GetObject", Fault::CutBody(length));
        assert!(body(&store, "x").await.is_err(), "cut at {length}");
    }
    assert_eq!(body(&store, "x").await.unwrap().concat(), pattern(1, 1000));
}

#[tokio::test]
async fn a_listing_that_is_no_listing_is_an_error() {
    let (fake, store) = store().await;
    fake.put("a", b"1");
    let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let garbage = [
        error_body("InternalError"),
        "<html>welcome</html>".to_owned(),
        String::new(),
        empty[..empty.len() - 5].to_owned(),
        empty.replace("false", "true"),
    ];
    for text in garbage {
        for _ in 0..10 {
            fake.fault("ListObjectsV2", Fault::Answer(200, text.clone()));
        }
        let listed = store.list("", None, 10).await;
        assert!(listed.is_err(), "{text}: {listed:?}");
        fake.world.lock().faults.clear();
    }
    fake.fault("ListObjectsV2", Fault::CutBody(40));
    assert_eq!(store.list("", None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn unordered_or_foreign_keys_in_a_listing_are_an_error() {
    let (fake, store) = store().await;
    let object = |key: &str| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-25T16:00:00Z</LastModified><ETag>e</ETag><Size>1</Size></Contents>"
        )
    };
    for keys in [["p/b", "p/a"], ["p/a", "p/a"], ["p/a", "q"]] {
        let contents: String = keys.iter().map(|key| object(key)).collect();
        let page = format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        );
        fake.fault("ListObjectsV2", Fault::Answer(200, page));
        assert!(store.list("p/", None, 10).await.is_err(), "{keys:?}");
    }
}

#[tokio::test]
async fn a_missing_bucket_is_not_an_absent_object() {
    let (fake, store) = store().await;
    fake.fault("GetObject", Fault::Answer(404, error_body("NoSuchBucket")));
    assert!(store.read(&key("x"), None, None).await.is_err());
    fake.fault("GetObject", Fault::Answer(404, String::new()));
    assert!(store.read(&key("x"), None, None).await.is_err());
    fake.fault("HeadBucket", Fault::Answer(404, String::new()));
    assert!(store.stat(&key("x")).await.is_err());
    assert!(store.stat(&key("x")).await.unwrap().is_none());
    fake.fault(
        "DeleteObject",
        Fault::Answer(404, error_body("NoSuchBucket")),
    );
    let deleted = store.delete(&permit(), &[key("x")]).await;
    assert!(deleted[0].is_err());
}

#[tokio::test]
async fn a_storm_of_slow_down_is_busy_after_few_attempts() {
    let (fake, store) = store().await;
    for _ in 0..100 {
        fake.fault("GetObject", Fault::Answer(503, error_body("SlowDown")));
    }
    let outcome = store.read(&key("x"), None, None).await;
    assert!(matches!(outcome, Err(Error::Busy)));
    assert!((2..=8).contains(&fake.count("GetObject")));
}

#[tokio::test]
async fn revoked_keys_and_skewed_clocks_are_not_tried_again() {
    let (fake, store) = store().await;
    fake.fault(
        "PutObject",
        Fault::Answer(403, error_body("InvalidAccessKeyId")),
    );
    let denied = create(&store, "x", 10).await;
    assert!(matches!(denied, Err(Error::Denied)), "{denied:?}");
    fake.fault(
        "PutObject",
        Fault::Answer(403, error_body("RequestTimeTooSkewed")),
    );
    let skewed = create(&store, "x", 10).await;
    assert!(
        matches!(&skewed, Err(Error::Failed(text)) if text.contains("clock")),
        "{skewed:?}"
    );
    fake.fault(
        "PutObject",
        Fault::Answer(507, error_body("XMinioStorageFull")),
    );
    assert!(matches!(create(&store, "x", 10).await, Err(Error::Full)));
    assert_eq!(fake.count("PutObject"), 3);
}

#[tokio::test]
async fn an_early_refusal_of_a_stream_is_its_outcome() {
    let (fake, store) = store().await;
    fake.fault("PutObject", Fault::Answer(403, error_body("AccessDenied")));
    let denied = create(&store, "x", LARGE).await;
    assert!(matches!(denied, Err(Error::Denied)), "{denied:?}");
}

#[tokio::test]
async fn the_services_own_words_are_not_passed_on() {
    let (fake, store) = store().await;
    for status in [301, 400, 404, 405, 500] {
        for _ in 0..10 {
            fake.fault("GetObject", Fault::Answer(status, error_body("SomeCode")));
        }
        let error = store
            .read(&key("x"), None, None)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            !error.contains("secret") && !error.contains("10.0"),
            "{error}"
        );
        fake.world.lock().faults.clear();
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let (fake, store) = store().await;
    fake.put("x", b"1");
    fake.fault(
        "GetObject",
        Fault::Answer(307, error_body("TemporaryRedirect")),
    );
    let error = store
        .read(&key("x"), None, None)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("redirect"), "{error}");
    assert_eq!(fake.count("GetObject"), 1);
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_not_waited_for() {
    let (fake, store) = store().await;
    fake.put("x", b"1");
    for _ in 0..20 {
        fake.fault("GetObject", Fault::Hang);
    }
    let name = key("x");
    let reading = store.read(&name, None, None);
    let outcome = tokio::time::timeout(Duration::from_secs(10), reading).await;
    assert!(matches!(outcome.expect("a deadline"), Err(Error::Unknown)));
}

#[tokio::test]
async fn an_unreachable_service_is_an_error_that_says_so() {
    let (fake, store) = store().await;
    let world = fake.world.clone();
    drop(fake);
    tokio::task::yield_now().await;
    let outcome = create(&store, "x", 10).await;
    assert!(
        matches!(&outcome, Err(Error::Failed(text)) if text.contains("connection")),
        "{outcome:?}"
    );
    assert!(store.stat(&key("x")).await.is_err());
    assert!(store.list("", None, 1).await.is_err());
    assert!(world.lock().seen.is_empty());
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
