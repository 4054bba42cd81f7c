//! `GET /v1/events`: what happens from now on, as server-sent events.
//!
//! A listener that reads too slowly misses events and is told how many (`lost`); nothing waits for it. Events are not
//! kept: one that connects anew reads `GET /v1/repositories` first. The stream ends when the gateway stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Admin, Problem};
use crate::watch::Told;

/// They hold a connection each, and other calls need some.
const LISTENERS: usize = 64;
/// A comment is sent when nothing else was, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub async fn stream(
    Shared(admin): Shared<Admin>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    if admin.door.watch().listeners() >= LISTENERS {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{LISTENERS} listeners follow the events already"),
        ));
    }
    let told = stream::unfold(admin.door.watch().listen(), next);
    let until_stopped = told.take_until(admin.stop.clone().cancelled_owned());
    Ok(Sse::new(until_stopped).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn next(
    mut listener: Receiver<Arc<Told>>,
) -> Option<(Result<Event, Infallible>, Receiver<Arc<Told>>)> {
    let event = match listener.recv().await {
        Ok(told) => Event::default()
            .event(told.event.kind())
            .data(told.body().to_string()),
        Err(RecvError::Lagged(missed)) => Event::default()
            .event("lost")
            .data(json!({ "events": missed }).to_string()),
        Err(RecvError::Closed) => return None,
    };
    Some((Ok(event), listener))
}
