//! The S3 listener over TLS, spoken to by a client that checks certificate and name.

use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt;

use super::gateway::{A, Gateway};
use crate::stores::conformance::{key, permit};
use crate::stores::s3::{CredentialSettings, S3Store, Settings};
use crate::stores::{Plan, Publish, Result, Store};
use crate::telemetry::clock;
use crate::tls;
use crate::tls::{Shown, Tls};

async fn gateway_with_tls(certificates: &Path) -> (Gateway, certs::Paths, Shown) {
    let paths = certs::development(certificates, &[], clock::now()).unwrap();
    let pair = Tls {
        cert: paths.server.certificate.clone(),
        key: paths.server.key.clone(),
    };
    let shown = Shown::new(tls::server(&pair, None).unwrap());
    let gateway = Gateway::with(|settings| settings.tls = Some(shown.clone())).await;
    (gateway, paths, shown)
}

/// The gateway's own client of S3 stores, as a client of this gateway.
fn client(gateway: &Gateway, secrets: &Path, authority: &Path) -> S3Store {
    let secret_file = secrets.join("secret");
    std::fs::write(&secret_file, A.secret).unwrap();
    S3Store::open(&Settings {
        url: "s3://snapshots/base".into(),
        endpoint: Some(format!("https://localhost:{}", gateway.address.port())),
        credentials: Some(CredentialSettings {
            id: A.id.into(),
            secret_file,
        }),
        ca_file: Some(authority.to_owned()),
        step_seconds: 2,
        ..Settings::default()
    })
    .unwrap()
}

async fn write(store: &S3Store, content: &Bytes) -> Result<()> {
    let plan = Plan {
        size: Some(content.len() as u64),
        fenced: false,
    };
    let name = key("indices/LFZ3GeksQtukGiXr5ZXdrw/0/__a");
    let mut upload = store.begin(&permit(), &name, plan).await?;
    for piece in content.chunks(50_000) {
        upload.write(Bytes::copy_from_slice(piece)).await?;
    }
    upload.publish(Publish::CreateOnly).await.map(|_| ())
}

#[tokio::test]
async fn objects_travel_over_tls_to_a_client_that_trusts_the_authority() {
    let files = tempfile::tempdir().unwrap();
    let (gateway, paths, _) = gateway_with_tls(&files.path().join("certs")).await;
    let store = client(&gateway, files.path(), &paths.authority.certificate);
    let content = Bytes::from(vec![7; 400_000]);
    write(&store, &content).await.unwrap();
    let name = key("indices/LFZ3GeksQtukGiXr5ZXdrw/0/__a");
    let read = store.read(&name, Some(100..300_000), None).await.unwrap();
    let pieces: Vec<Bytes> = read.unwrap().bytes.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), content[100..300_000]);
    let listed = store.list("indices/", None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_sends_nothing() {
    let files = tempfile::tempdir().unwrap();
    let (gateway, _, _) = gateway_with_tls(&files.path().join("certs")).await;
    let other = certs::development(&files.path().join("other"), &[], clock::now()).unwrap();
    let store = client(&gateway, files.path(), &other.authority.certificate);
    assert!(write(&store, &Bytes::from_static(b"x")).await.is_err());
    gateway.stop().await;
}

#[tokio::test]
async fn the_next_connection_is_shown_the_new_certificate_and_the_last_one_stays() {
    let files = tempfile::tempdir().unwrap();
    let (gateway, paths, shown) = gateway_with_tls(&files.path().join("certs")).await;
    let before = client(&gateway, files.path(), &paths.authority.certificate);
    write(&before, &Bytes::from_static(b"x")).await.unwrap();
    let other = certs::development(&files.path().join("other"), &[], clock::now()).unwrap();
    let pair = Tls {
        cert: other.server.certificate.clone(),
        key: other.server.key.clone(),
    };
    shown.replace(tls::server(&pair, None).unwrap());
    let after = client(&gateway, files.path(), &other.authority.certificate);
    assert_eq!(after.list("indices/", None, 10).await.unwrap().len(), 1);
    assert_eq!(before.list("indices/", None, 10).await.unwrap().len(), 1);
    gateway.stop().await;
}
