//! Accepts admin connections, with TLS where configured, and ends them within 10 s when told to stop.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::tls::Shown;

const CONNECTIONS: usize = 256;
const GRACE: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

pub async fn serve(
    router: Router,
    tls: Option<Shown>,
    listener: TcpListener,
    stop: CancellationToken,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let acceptor = tls.as_ref().map(Shown::acceptor);
        let (router, watcher) = (router.clone(), graceful.watcher());
        connections.spawn(async move {
            let _place = place;
            connection(router, acceptor, stream, watcher).await;
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    graceful_end(graceful, drained).await;
}

async fn graceful_end(graceful: Arc<GracefulShutdown>, drained: impl Future<Output = ()>) {
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _unfinished = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    }
    let _unfinished = tokio::time::timeout(GRACE, drained).await;
}

async fn connection(
    router: Router,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    stream: TcpStream,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 << 10);
    let service = TowerToHyperService::new(router);
    let ended = match acceptor {
        None => {
            watcher
                .watch(http.serve_connection(TokioIo::new(stream), service))
                .await
        }
        Some(acceptor) => match tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await
        {
            Ok(Ok(stream)) => {
                watcher
                    .watch(http.serve_connection(TokioIo::new(stream), service))
                    .await
            }
            Ok(Err(e)) => return tracing::debug!(cause = %e, "an admin TLS handshake failed"),
            Err(_) => return,
        },
    };
    if let Err(e) = ended {
        tracing::debug!(cause = %e, "an admin connection broke");
    }
}
