//! RFC 9457: how the admin API says no.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

const KIND: &str = "application/problem+json";
/// Bytes of a refusal of the framework's.
const LONGEST: usize = 64 << 10;

#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    /// We failed; the cause goes to the log.
    pub fn failed(cause: &dyn std::error::Error) -> Self {
        tracing::error!(%cause, "an admin call failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway failed to do this; see its log",
        )
    }

    pub fn no_repository(name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is no repository '{name}'"),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = serde_json::json!({ "type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail });
        (
            self.status,
            [(header::CONTENT_TYPE, KIND)],
            body.to_string(),
        )
            .into_response()
    }
}

/// What the framework refuses before any handler sees it (a body that cannot be read, a method that there is not) is told
/// like everything else.
pub async fn told_alike(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let refused = status.is_client_error() || status.is_server_error();
    if !refused || kind.is_some_and(|kind| kind == KIND) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, LONGEST)
        .await
        .unwrap_or_default();
    let detail = match String::from_utf8_lossy(&text) {
        nothing if nothing.is_empty() => status.canonical_reason().unwrap_or("Error").to_owned(),
        text => text.into_owned(),
    };
    for header in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
        parts.headers.remove(header);
    }
    let mut told = Problem::new(status, detail).into_response();
    told.headers_mut().extend(parts.headers);
    told
}
