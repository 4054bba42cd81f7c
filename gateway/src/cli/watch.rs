//! Looks at one answer of the admin API again and again, for `status --watch`.
//!
//! Decides what becomes of a look that fails. A gateway that was seen once is waited for: whoever watches a restart
//! wants to see it come back. One that does not answer the first look, or refuses, ends the watch: that is a wrong
//! address or token.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, Failure};

pub const INTERVAL: Duration = Duration::from_secs(1);
/// A gateway that does not answer for so long is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one look saw.
pub enum Look<'a> {
    Answer(&'a Value),
    /// Told once, until it answers again.
    Away(&'a Failure),
}

/// Until a look fails for good, or until what is seen cannot be shown any more (then nobody looks).
pub async fn watch(
    client: &Client,
    path: &str,
    interval: Duration,
    mut show: impl FnMut(Look<'_>) -> io::Result<()>,
) -> Result<(), Failure> {
    let (mut seen, mut away) = (false, false);
    loop {
        let shown = match look(client, path).await {
            Ok(answer) => {
                (seen, away) = (true, false);
                show(Look::Answer(&answer))
            }
            Err(failure @ Failure::Unreachable(_)) if seen => {
                if std::mem::replace(&mut away, true) {
                    Ok(())
                } else {
                    show(Look::Away(&failure))
                }
            }
            Err(failure) => return Err(failure),
        };
        if shown.is_err() {
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
}

async fn look(client: &Client, path: &str) -> Result<Value, Failure> {
    let late = |_| Failure::Unreachable("the gateway does not answer".into());
    tokio::time::timeout(PATIENCE, client.get(path))
        .await
        .map_err(late)?
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;

    use super::*;

    const SOON: Duration = Duration::from_millis(5);

    /// Answers every request so, until it is aborted.
    async fn gateway(at: SocketAddr, answer: &'static str) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(connection.read_u8().await.unwrap());
                }
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (at, serving)
    }

    const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]";
    const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 25\r\nConnection: close\r\n\r\n{\"detail\":\"wrong token\"}\r\n";

    fn anywhere() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    fn client(at: SocketAddr) -> Client {
        Client::at(&format!("http://{at}"))
    }

    #[tokio::test]
    async fn a_gateway_that_goes_away_is_said_to_once_and_seen_again_when_it_is_back() {
        let (at, serving) = gateway(anywhere(), FINE).await;
        let (told, mut shown) = mpsc::channel(1000);
        let watching = tokio::spawn(async move {
            let show = |look: Look<'_>| {
                let told = told.try_send(match look {
                    Look::Answer(answer) => answer.to_string(),
                    Look::Away(failure) => failure.to_string(),
                });
                told.map_err(io::Error::other)
            };
            watch(&client(at), "/v1/repositories", SOON, show).await
        });
        assert_eq!(shown.recv().await.unwrap(), "[]");
        serving.abort();
        drop(serving.await);
        let away = loop {
            let next = shown.recv().await.unwrap();
            if next != "[]" {
                break next;
            }
        };
        assert!(
            away.contains(&format!("does not answer at http://{at}")),
            "{away}"
        );
        let (_, serving) = gateway(at, FINE).await;
        assert_eq!(shown.recv().await.unwrap(), "[]", "it is told once");
        // Nobody looks any more.
        drop(shown);
        assert!(watching.await.unwrap().is_ok());
        serving.abort();
    }

    #[tokio::test]
    async fn a_first_look_that_fails_and_a_refusal_end_the_watch() {
        let (at, serving) = gateway(anywhere(), REFUSED).await;
        let nothing = |_: Look<'_>| -> io::Result<()> { panic!("there is nothing to show") };
        let refused = watch(&client(at), "/", SOON, nothing).await;
        assert!(matches!(&refused, Err(Failure::Refused(why)) if why == "wrong token"));
        serving.abort();
        drop(serving.await);
        let away = watch(&client(at), "/", SOON, nothing).await;
        assert!(matches!(away, Err(Failure::Unreachable(_))));
    }
}
