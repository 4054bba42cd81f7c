//! RFC 9457: how the admin API says no.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

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
            [(header::CONTENT_TYPE, "application/problem+json")],
            body.to_string(),
        )
            .into_response()
    }
}
