//! What becomes of a step when the service fails it.

use std::time::Duration;

use super::{LARGE, begin, body, create, store, unhurried_store};
use crate::stores::conformance::{key, pattern, permit};
use crate::stores::s3::fake::{Fault, error_body};
use crate::stores::{Error, Publish, Store};

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
async fn a_repetition_that_is_called_done_and_is_not_is_seen_through() {
    let (fake, store) = store().await;
    for mode in [Publish::CreateOnly, Publish::Replace] {
        let name = format!("{mode:?}");
        let before = (mode == Publish::Replace).then(|| pattern(9, 8));
        if let Some(before) = &before {
            fake.put(&name, before);
        }
        let upload = begin(&store, &name, &pattern(1, 8), true).await;
        let id = upload.id().clone();
        let done =
            "<CompleteMultipartUploadResult><ETag>\"7-1\"</ETag></CompleteMultipartUploadResult>";
        fake.fault("CompleteMultipartUpload", Fault::LoseRequest);
        fake.fault("CompleteMultipartUpload", Fault::Answer(200, done.into()));
        let outcome = upload.publish(mode).await;
        assert!(matches!(outcome, Err(Error::Unknown)), "{outcome:?}");
        assert_eq!(fake.get(&name), before);
        store.abort(&permit(), &key(&name), &id).await.unwrap();
        let again = begin(&store, &name, &pattern(1, 8), true).await;
        again.publish(mode).await.unwrap();
        assert_eq!(fake.get(&name).unwrap(), pattern(1, 8));
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
    for length in [1, 999] {
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
    let (fake, store) = unhurried_store().await;
    for _ in 0..100 {
        fake.fault("GetObject", Fault::Answer(503, error_body("SlowDown")));
    }
    let outcome = store.read(&key("x"), None, None).await;
    assert!(matches!(outcome, Err(Error::Busy)));
    assert_eq!(fake.count("GetObject"), 8);
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
