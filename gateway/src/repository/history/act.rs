//! The steps of a plan: show what was hidden, put content back to names that the old root does not need, write new shard
//! indexes, write down what comes after the root (`rest`), commit the root, do that. Whatever comes before the root
//! changes nothing for the old root; whatever comes after it is carried through by the next start or thaw.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use policies::identity::{Bucket, Cluster};
use policies::key::{Class, ObjectKey};
use policies::lock::Permit;
use serde_json::json;

use super::super::door::{Found, OpenRepository};
use super::super::gate::state_failed;
use super::super::ingest::{ingest, store_failed};
use super::super::verify::Progress;
use super::super::write::{Prepared, give_up};
use super::super::{Address, Body, BodyError, Caller, Door, Error};
use super::{Ask, Plan, require_frozen};
use crate::state::{AuditEntry, CommittedRoot, Removal, WriteError};
use crate::stores;
use crate::telemetry::clock;

/// Objects shown again in one transaction.
const BATCH: usize = 500;

/// What was done, or would be.
#[derive(Debug)]
pub struct Done {
    pub plan: Plan,
    pub dry_run: bool,
    /// What is left to do at the clusters.
    pub steps: Vec<String>,
}

impl Door {
    /// Brings back a restore point or a snapshot; a dry run only says what it would do.
    pub async fn bring_back(
        &self,
        open: &Arc<OpenRepository>,
        ask: &Ask,
        dry_run: bool,
        principal: &str,
        progress: &Progress<'_>,
    ) -> Result<Done, Error> {
        let _moving = open.gate.moving.lock().await;
        require_frozen(open)?;
        if self.finish_rest(open).await? {
            self.load_guard(open).await?;
        }
        let alone = open.guarding.commits.write().await;
        let plan = self.plan(open, ask).await?;
        if !dry_run {
            self.carry_out(open, &plan, progress).await?;
            self.write_down(open, ask, &plan, principal).await?;
        }
        drop(alone);
        if !dry_run {
            self.load_guard(open).await?;
        }
        let steps = steps(open, plan.generation);
        Ok(Done {
            plan,
            dry_run,
            steps,
        })
    }

    async fn carry_out(
        &self,
        open: &Arc<OpenRepository>,
        plan: &Plan,
        progress: &Progress<'_>,
    ) -> Result<(), Error> {
        let permit = open.upkeep();
        let total = plan.objects() as u64 + 2;
        let mut done = 0;
        for batch in plan.shown.chunks(BATCH) {
            self.state
                .revive(&permit, open.bucket_id, batch.to_vec())
                .await
                .map_err(|e| failed("show deleted objects again", &e))?;
            done += batch.len() as u64;
            progress(done, total);
        }
        for (key, past) in &plan.moved {
            self.put_back(open, &permit, key, past.location(), past.object.size)
                .await?;
            done += 1;
            progress(done, total);
        }
        for (key, class, body) in &plan.written {
            self.put_own(open, &permit, key, class.clone(), body.clone(), None)
                .await?;
            done += 1;
            progress(done, total);
        }
        self.note_rest(open, plan).await?;
        let root = open
            .guarding
            .with(|guard| guard.knowledge().layout().root(plan.generation));
        let point = Some(plan.root.clone());
        self.put_own(
            open,
            &permit,
            &root,
            Class::Root(plan.generation),
            plan.body.clone(),
            point,
        )
        .await?;
        progress(done + 1, total);
        self.finish_rest(open).await?;
        progress(total, total);
        Ok(())
    }

    pub(super) async fn put_own(
        &self,
        open: &Arc<OpenRepository>,
        permit: &Permit,
        key: &ObjectKey,
        class: Class,
        body: Bytes,
        root: Option<CommittedRoot>,
    ) -> Result<(), Error> {
        let size = body.len() as u64;
        let bytes = futures::stream::once(async { Ok(body) }).boxed();
        self.put_under_intent(open, permit, key, class, body_of(bytes, size), root)
            .await
    }

    /// Older content from where the retention keeps it.
    pub(super) async fn put_back(
        &self,
        open: &Arc<OpenRepository>,
        permit: &Permit,
        key: &ObjectKey,
        location: &ObjectKey,
        size: u64,
    ) -> Result<(), Error> {
        let content = open
            .store
            .read(location, None, None)
            .await
            .map_err(|e| store_failed("read what was kept", &e))?;
        let Some(content) = content.filter(|content| content.size == size) else {
            return Err(Error::Unavailable(format!(
                "The store lost the kept content of '{key}' behind the gateway."
            )));
        };
        let bytes = content
            .bytes
            .map(|chunk: stores::Result<Bytes>| chunk.map_err(|_| BodyError::SourceFailed))
            .boxed();
        let at = Address {
            bucket: open.plan.bucket.clone(),
            key: key.clone(),
        };
        let class = self.find(&at)?.class;
        let body = body_of(bytes, size);
        self.put_under_intent(open, permit, key, class, body, None)
            .await
    }

    async fn put_under_intent(
        &self,
        open: &Arc<OpenRepository>,
        permit: &Permit,
        key: &ObjectKey,
        class: Class,
        body: Body,
        root: Option<CommittedRoot>,
    ) -> Result<(), Error> {
        let plan = stores::Plan {
            size: body.size,
            fenced: true,
        };
        let mut upload = open
            .store
            .begin(permit, key, plan)
            .await
            .map_err(|e| store_failed("begin an upload", &e))?;
        let taken = match ingest(body, upload.as_mut(), 0).await {
            Ok(taken) => taken,
            Err(e) => {
                give_up(upload).await;
                return Err(e);
            }
        };
        // A root is refused if another node committed something that this one has not seen.
        let judged = match root {
            Some(_) => match self.follow_alone(open).await {
                Ok(judged) => judged,
                Err(e) => {
                    give_up(upload).await;
                    return Err(e);
                }
            },
            None => None,
        };
        let prepared = Prepared {
            judged,
            size: taken.size,
            etag: taken.etag(),
            hash: taken.hash,
            upload,
            details: None,
            completes: None,
            root,
            listed: false,
            operation: "PutObject",
            captured: None,
            footer: None,
        };
        let (caller, to) = (ours(), address(&open.plan.bucket, key));
        let found = Found {
            open: Arc::clone(open),
            class,
        };
        let _turn = open.turn(key).await;
        let current = self.lookup(open, key).await?.object;
        self.commit(&caller, &found, permit, &to, prepared, current, None, None)
            .await
            .map(|_| ())
    }

    pub(super) async fn hide_newer(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        keys: &[ObjectKey],
    ) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let removal = |key: &ObjectKey| Removal {
            bucket: open.bucket_id,
            repository: open.id,
            key: key.clone(),
            retain_ms: Some(open.retain_ms()),
            journalled: true,
            now_ms: clock::now_ms(),
        };
        self.state
            .remove(permit, keys.iter().map(removal).collect())
            .await
            .map(|_| ())
            .map_err(|e| failed("move newer shard indexes aside", &e))
    }

    async fn write_down(
        &self,
        open: &OpenRepository,
        ask: &Ask,
        plan: &Plan,
        principal: &str,
    ) -> Result<(), Error> {
        tracing::warn!(repository = %open.name, from = plan.from, generation = plan.generation, principal, "{}: a root was made from a restore point", ask.verb());
        let audit = AuditEntry {
            at_ms: clock::now_ms(),
            principal: principal.to_owned(),
            action: ask.verb().to_owned(),
            repository: Some(open.name.clone()),
            epoch: Some(open.gate.row().lock.epoch()),
            detail: json!({
                "restore_point": plan.from,
                "generation": plan.generation,
                "came": plan.came.iter().map(|s| &**s).collect::<Vec<_>>(),
                "went": plan.went.iter().map(|s| &**s).collect::<Vec<_>>(),
            }),
        };
        self.state
            .append_audit(audit)
            .await
            .map_err(|e| state_failed("write the audit log", &e))
    }
}

fn body_of(
    bytes: futures::stream::BoxStream<'static, Result<Bytes, BodyError>>,
    size: u64,
) -> Body {
    Body {
        bytes,
        size: Some(size),
        trailer: None,
        md5: None,
        expected: Vec::new(),
        compute: None,
    }
}

fn ours() -> Caller {
    Caller {
        cluster: Cluster::gateway(),
        request_id: "history".into(),
        invocation: None,
        presigned: false,
    }
}

fn address(bucket: &Bucket, key: &ObjectKey) -> Address {
    Address {
        bucket: bucket.clone(),
        key: key.clone(),
    }
}

fn failed(doing: &str, e: &WriteError) -> Error {
    super::super::unavailable(doing, e)
}

/// Both Elasticsearch and OpenSearch remember the number of the newest root that they wrote.
fn steps(open: &OpenRepository, generation: u64) -> Vec<String> {
    vec![
        format!(
            "On the cluster, unregister the repository; nothing in it is deleted by that: DELETE _snapshot/NAME (Elasticsearch and OpenSearch remember the newest root, which is now index-{generation})"
        ),
        format!("Let clusters write again: snapgate thaw {}", open.name),
        "On the cluster, register it again with the settings it had: PUT _snapshot/NAME".to_owned(),
        "Look: GET _snapshot/NAME/_all".to_owned(),
    ]
}
