//! Who may call the admin API: every path that `openapi.json` documents, with and without the token.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusBuilder;
use policies::key::Layout;

use super::Admin;
use crate::appliers::Appliers;
use crate::config::AdminPlan;
use crate::config::Secret;
use crate::mirror::Mirrors;
use crate::repository::Door;
use crate::state::sqlite::Database;

const TOKEN: &str = "the-admin-token-of-this-test";

mod told;

struct Api {
    admin: Admin,
    router: Router,
    _files: Option<tempfile::TempDir>,
}

impl Api {
    /// Of a gateway without repositories.
    fn listening_on(address: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let state = Arc::new(Database::open(&files.path().join("state.db")).unwrap());
        let layout = Layout::new([]).unwrap();
        let door = Arc::new(Door::new(layout, state, Vec::new()));
        Self {
            _files: Some(files),
            ..Self::of(door, address)
        }
    }

    fn of(door: Arc<Door>, address: &str) -> Self {
        let mirrors = Arc::new(Mirrors::default());
        let appliers = Arc::new(Appliers::new(
            Arc::clone(&door),
            Arc::clone(&mirrors),
            BTreeMap::new(),
            BTreeMap::new(),
        ));
        let plan = AdminPlan {
            listen: address.parse::<SocketAddr>().unwrap(),
            token: Secret::new(TOKEN.to_owned()),
            token_file: PathBuf::from("token"),
            client_ca: None,
            tls: None,
        };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let admin = Admin::new(door, mirrors, appliers, metrics, &plan, None);
        Self {
            router: admin.clone().router(),
            admin,
            _files: None,
        }
    }

    async fn ask(
        &self,
        method: &Method,
        path: &str,
        authorization: Option<&str>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(said) = authorization {
            request = request.header(header::AUTHORIZATION, said);
        }
        let request = request.body(Body::empty()).unwrap();
        let service = TowerToHyperService::new(self.router.clone());
        service.call(request).await.unwrap()
    }

    async fn status(&self, path: &str, authorization: Option<&str>) -> StatusCode {
        self.ask(&Method::GET, path, authorization).await.status()
    }
}

/// (method, path with its parameters filled in, whether a token is asked for), as documented.
fn documented() -> Vec<(Method, String, bool)> {
    let api: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let mut found = Vec::new();
    for (path, calls) in api["paths"].as_object().unwrap() {
        let path = path
            .replace("{repo}", "prod")
            .replace("{store}", "us")
            .replace("{snapshot}", "monday")
            .replace("{id}", "7");
        assert!(!path.contains('{'), "{path}");
        for (method, call) in calls.as_object().unwrap() {
            let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) else {
                continue;
            };
            if method.as_str() == "PARAMETERS" {
                continue;
            }
            let open = call["security"].as_array().is_some_and(Vec::is_empty);
            found.push((method, path.clone(), !open));
        }
    }
    found
}

#[tokio::test]
async fn every_documented_call_but_the_probes_wants_the_token() {
    let api = Api::listening_on("192.0.2.1:9001");
    let (mut guarded, mut open) = (0, 0);
    for (method, path, wants_token) in documented() {
        for said in [
            None,
            Some("Bearer "),
            Some("Bearer the-admin-token-of-this-tesT"),
            Some("Bearer the-admin-token-of-this-test-and-more"),
            Some("Basic dGhlLWFkbWluLXRva2VuLW9mLXRoaXMtdGVzdA=="),
            Some(TOKEN),
        ] {
            let answer = api.ask(&method, &path, said).await;
            let what = format!("{method} {path} with {said:?}");
            if wants_token {
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{what}");
                assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
                let kind = &answer.headers()[header::CONTENT_TYPE];
                assert_eq!(kind, "application/problem+json", "{what}");
            } else {
                assert_eq!(answer.status(), StatusCode::OK, "{what}");
            }
        }
        *(if wants_token { &mut guarded } else { &mut open }) += 1;
    }
    assert!(guarded > 30, "{guarded}");
    assert_eq!(open, 3, "healthz, readyz and the description itself");
}

#[tokio::test]
async fn with_the_token_every_documented_call_is_answered_by_its_handler() {
    let api = Api::listening_on("127.0.0.1:9001");
    let said = format!("Bearer {TOKEN}");
    for (method, path, _) in documented() {
        let answer = api.ask(&method, &path, Some(&said)).await;
        let status = answer.status();
        let met = status != StatusCode::UNAUTHORIZED && status != StatusCode::METHOD_NOT_ALLOWED;
        assert!(
            met && !status.is_server_error(),
            "{method} {path}: {status}"
        );
        if status == StatusCode::NOT_FOUND {
            let body = axum::body::to_bytes(answer.into_body(), 4096)
                .await
                .unwrap();
            let text = String::from_utf8_lossy(&body);
            assert!(
                !text.contains("nothing at this path"),
                "{method} {path}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_in_the_query_is_not_looked_at() {
    let api = Api::listening_on("127.0.0.1:9001");
    let path = format!("/v1/repositories?token={TOKEN}&access_token={TOKEN}");
    assert_eq!(api.status(&path, None).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn metrics_are_open_to_this_machine_alone() {
    let near = Api::listening_on("127.0.0.1:9001");
    assert_eq!(near.status("/metrics", None).await, StatusCode::OK);
    let far = Api::listening_on("192.0.2.1:9001");
    assert_eq!(far.status("/metrics", None).await, StatusCode::UNAUTHORIZED);
    let said = format!("Bearer {TOKEN}");
    assert_eq!(far.status("/metrics", Some(&said)).await, StatusCode::OK);
}

#[tokio::test]
async fn a_path_that_is_none_says_so() {
    let api = Api::listening_on("127.0.0.1:9001");
    let said = format!("Bearer {TOKEN}");
    for path in ["/", "/v2/repositories", "/v1"] {
        assert_eq!(
            api.status(path, Some(&said)).await,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_no_handler_takes_is_refused_as_a_problem_too() {
    let api = Api::listening_on("127.0.0.1:9001");
    let said = format!("Bearer {TOKEN}");
    for (method, path, status) in [
        (Method::POST, "/v1/repositories/prod/rollback", 415),
        (Method::GET, "/v1/repositories/prod/explain", 400),
        (
            Method::GET,
            "/v1/repositories/prod/restore-points?limit=x",
            400,
        ),
        (Method::DELETE, "/v1/repositories/prod", 405),
    ] {
        let answer = api.ask(&method, path, Some(&said)).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        let kind = &answer.headers()[header::CONTENT_TYPE];
        assert_eq!(kind, "application/problem+json", "{method} {path}");
        let body = axum::body::to_bytes(answer.into_body(), 4096).await;
        let told: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(told["status"], status, "{method} {path}");
        assert!(
            !told["detail"].as_str().unwrap().is_empty(),
            "{method} {path}"
        );
    }
}
