//! Accepts connections, a bounded number of them, and ends them in good order.
//!
//! HTTP/1.1 only, on purpose: the clusters' clients speak nothing else to a plain endpoint, and the
//! floods that HTTP/2 allows (CONTINUATION, rapid reset, empty frames) need not be bounded where they
//! cannot be sent. TLS offers `http/1.1` alone for the same reason (the configuration sets ALPN).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Clocks, Phase, Watched};
use super::limits::Limits;
use super::outbox::{Outbox, SendFile};
use super::service::Service;
use crate::tls::Shown;

/// hyper's read buffer; large bodies are read in pieces up to this size.
const READ_BUFFER: usize = 128 * 1024;

/// Runs until `shutdown` and until the requests under way are done, at most `shutdown_seconds` longer.
pub async fn run(
    service: Arc<Service>,
    listener: TcpListener,
    tls: Option<Shown>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let limits = service.limits.clone();
    let places = Arc::new(Places::new(&limits));
    let tasks = TaskTracker::new();
    let (finish, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: some will be free again soon.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = places.take(peer) else {
            tracing::debug!(%peer, "too many connections");
            continue;
        };
        let connection = Connection {
            service: Arc::clone(&service),
            tls: tls.as_ref().map(Shown::acceptor),
            finish: finish.clone(),
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection.serve(stream) => {}
            }
            drop(place);
        });
    }
    drop(listener);
    finish.cancel();
    tasks.close();
    let patience = Duration::from_secs(limits.shutdown_seconds);
    if tokio::time::timeout(patience, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "requests under way are cut off");
        stop.cancel();
        tasks.wait().await;
    }
    Ok(())
}

struct Connection {
    service: Arc<Service>,
    tls: Option<TlsAcceptor>,
    finish: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
        match self.tls.clone() {
            None => self.serve_http(stream).await,
            Some(tls) => {
                let patience = Duration::from_secs(self.service.limits.header_seconds);
                match tokio::time::timeout(patience, tls.accept(stream)).await {
                    Ok(Ok(stream)) => self.serve_http(stream).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
            }
        }
    }

    async fn serve_http<S: AsyncRead + AsyncWrite + SendFile + Unpin>(self, stream: S) {
        let limits = &self.service.limits;
        let clocks = Clocks {
            head: Duration::from_secs(limits.header_seconds),
            idle: Duration::from_secs(limits.keep_alive_seconds),
            write: Duration::from_secs(limits.write_idle_seconds),
        };
        let phase = Arc::new(Phase::new(Outbox::of(&stream)));
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&phase), clocks));
        let service = service_fn(|request| self.service.call(Arc::clone(&phase), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // The second line behind the clocks of `Watched`: it covers idle time as well.
            .header_read_timeout(clocks.idle + clocks.head)
            .max_headers(limits.header_count)
            .max_header_size(limits.header_bytes)
            .max_buf_size(READ_BUFFER.max(limits.header_bytes))
            .serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.finish.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Counts connections, in all and from each address.
#[derive(Debug)]
struct Places {
    most: usize,
    most_per_ip: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    ip: IpAddr,
}

impl Places {
    fn new(limits: &Limits) -> Self {
        Self {
            most: limits.connections,
            most_per_ip: limits.connections_per_ip,
            taken: Mutex::default(),
        }
    }

    fn take(self: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let ip = peer.ip().to_canonical();
        let mut taken = self.taken.lock();
        let (all, by_ip) = &mut *taken;
        if *all >= self.most {
            return None;
        }
        let here = by_ip.entry(ip).or_default();
        if *here >= self.most_per_ip {
            return None;
        }
        *here += 1;
        *all += 1;
        Some(Place {
            places: Arc::clone(self),
            ip,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        let (all, by_ip) = &mut *taken;
        *all -= 1;
        if let Some(here) = by_ip.get_mut(&self.ip) {
            *here -= 1;
            if *here == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let limits = Limits {
            connections: 3,
            connections_per_ip: 2,
            ..Limits::default()
        };
        let places = Arc::new(Places::new(&limits));
        let (a, b) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 2], 1).into());
        let first = places.take(a);
        let second = places.take(a);
        assert!(first.is_some() && second.is_some());
        assert!(places.take(a).is_none());
        let third = places.take(b);
        assert!(third.is_some());
        assert!(places.take(b).is_none());
        drop(first);
        assert!(places.take(a).is_some());
    }
}
