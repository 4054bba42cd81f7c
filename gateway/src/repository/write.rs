//! The write path, and the order of its steps.
//!
//! Write-once keys: permit -> hidden upload, verified -> publish create-only -> one transaction (lock still
//! ours; no intent on the key, and the key not removed since before the publish; catalog and journal rows) ->
//! answer. A late write of a writer that lost the lock leaves an unreferenced object at a name nobody uses again.
//!
//! What may lie between publish and transaction is the header of [`super::once`].
//!
//! All other keys: permit -> hidden upload, verified -> turn at the key -> **intent** (lock still ours; carries
//! all that a resolver must record) -> older content kept -> publish -> **commit** (ends the intent; catalog
//! and journal rows) -> answer. The intent is opened only when every byte is there: it is short, so a
//! hand-over waits for publishes, never for uploads. An upload without an intent cannot be published, since
//! opening one checks the lock; an upload with one is aborted by whoever resolves it.
//!
//! Bytes are durable in the store before the state database says they exist, and both before the answer.

mod commit;
mod judge;
mod root;

use std::sync::Arc;

use bytes::Bytes;
use policies::identity::Epoch;
use policies::key::{Class, Writing};
use policies::lock::{Permit, Term};

use super::door::{Found, OpenRepository};
use super::gate::state_failed;
use super::guarding::{read_digest, wanted_bytes};
use super::ingest::{ingest, store_failed};
use super::lookout::Footer;
use super::{Address, Body, Caller, Door, Error, WriteCondition, Written};
use crate::state::{AnswerKey, CommittedRoot, Details};
use crate::stores::{Plan, Upload};
use crate::telemetry::clock;
use judge::Judged;

pub(super) use commit::new_row;

/// A verified upload on its way to its name.
pub(super) struct Prepared {
    pub upload: Box<dyn Upload>,
    pub size: u64,
    /// None: the store tells it at publish.
    pub etag: Option<Arc<str>>,
    pub hash: [u8; 32],
    pub details: Option<Arc<Details>>,
    /// The client's multipart upload that this completes.
    pub completes: Option<String>,
    /// Of a root: the restore point it becomes.
    pub root: Option<CommittedRoot>,
    /// A description that commits its snapshot: 2.x has no roots.
    pub listed: bool,
    pub operation: &'static str,
    /// The bytes, of metadata that the guard reads.
    pub captured: Option<Bytes>,
    /// The journal's entry up to which the guard knew the other nodes' writes when it judged this one.
    pub judged: Option<u64>,
    /// What a data file's footer said.
    pub footer: Option<Footer>,
}

impl Door {
    pub async fn put(
        &self,
        caller: &Caller,
        to: &Address,
        mut body: Body,
        mut details: Details,
        condition: WriteCondition,
    ) -> Result<Written, Error> {
        let found = self.find(to)?;
        let permit = self.permit(&found, caller, &to.key).await?;
        let fenced = found.class.writing() != Writing::Once
            || !matches!(condition, WriteCondition::Always)
            || found.open.is_contested(&to.key);
        let plan = Plan {
            size: body.size,
            fenced,
        };
        let mut upload = found
            .open
            .store
            .begin(&permit, &to.key, plan)
            .await
            .map_err(|e| store_failed("begin an upload", &e))?;
        let footer = Footer::watch(&found.class, &mut body);
        let mut taken = match ingest(body, upload.as_mut(), wanted_bytes(&found.class)).await {
            Ok(taken) => taken,
            Err(e) => {
                give_up(upload).await;
                return Err(e);
            }
        };
        details.checksums.clone_from(&taken.checksums);
        let prepared = Prepared {
            upload,
            size: taken.size,
            etag: taken.etag(),
            hash: taken.hash,
            details: some(details),
            completes: None,
            root: None,
            listed: false,
            operation: "PutObject",
            captured: taken.captured.take(),
            judged: None,
            footer,
        };
        let (etag, modified_ms) = if fenced {
            self.settle_under_intent(caller, &found, &permit, to, prepared, condition)
                .await?
        } else {
            self.settle_once(caller, &found, &permit, to, prepared)
                .await?
        };
        self.witnessed(&found, &to.key).await?;
        Ok(Written {
            etag,
            checksums: taken.checksums,
            modified_ms,
        })
    }

    /// A verified upload gets its name under an intent, if conditions, the overwrite rule and the guard let it.
    pub(super) async fn settle_under_intent(
        &self,
        caller: &Caller,
        found: &Found,
        permit: &Permit,
        to: &Address,
        mut prepared: Prepared,
        condition: WriteCondition,
    ) -> Result<(Arc<str>, i64), Error> {
        let open = &found.open;
        let _turn = open.turn(&to.key).await;
        let answer = answer_key(caller, open, to, &prepared);
        let known = match &answer {
            Some(answer) => self.state.answer(answer).await,
            None => Ok(None),
        };
        match known {
            Ok(None) => {}
            Ok(Some(known)) => {
                give_up(prepared.upload).await;
                return Ok((known.etag, clock::now_ms()));
            }
            Err(e) => {
                give_up(prepared.upload).await;
                return Err(state_failed("look up an earlier answer", &e));
            }
        }
        let digest = match &prepared.captured {
            Some(bytes) => read_digest(&found.class, bytes.clone()).await,
            None => None,
        };
        let judged = self
            .judged(found, &to.key, &mut prepared, &condition, digest.as_ref())
            .await;
        let current = match judged {
            Ok(Judged::Write(current)) => current,
            Ok(Judged::AlreadyThere(etag, modified)) => {
                give_up(prepared.upload).await;
                return Ok((etag, modified));
            }
            Err(e) => {
                give_up(prepared.upload).await;
                return Err(e);
            }
        };
        if let Class::Root(generation) = found.class {
            return self
                .commit_root(caller, found, permit, to, prepared, generation, answer)
                .await;
        }
        let announced = open
            .guarding
            .announced(&to.key, &found.class, digest.as_ref());
        if let (Some(_), Some(digest)) = (announced, digest.clone()) {
            return self
                .commit_listed(caller, found, permit, to, prepared, current, answer, digest)
                .await;
        }
        let (footer, hash) = (prepared.footer.take(), prepared.hash);
        let done = self
            .commit(caller, found, permit, to, prepared, current, answer, None)
            .await?;
        self.look_at_checksum(open, &to.key, digest.as_ref(), footer)
            .await;
        self.keep_digest(open, &to.key, hash.to_vec(), hash, digest.as_ref());
        open.guarding.written(&to.key, &found.class, digest);
        open.settled(&to.key);
        Ok(done)
    }
}

pub(super) fn epoch_of(permit: &Permit) -> Epoch {
    match permit.term() {
        Term::Held(epoch) | Term::Settle(epoch) => epoch,
        Term::Free => Epoch(0),
    }
}

/// Only requests that a client can repeat and that a repeat could harm are remembered.
fn answer_key(
    caller: &Caller,
    open: &OpenRepository,
    to: &Address,
    prepared: &Prepared,
) -> Option<AnswerKey> {
    caller.invocation.as_ref().map(|invocation| AnswerKey {
        cluster: caller.cluster.clone(),
        operation: prepared.operation.into(),
        bucket: open.bucket_id,
        key: to.key.clone(),
        invocation: invocation.to_string(),
        hash: prepared.hash,
    })
}

pub(super) fn some(details: Details) -> Option<Arc<Details>> {
    (details != Details::default()).then(|| Arc::new(details))
}

/// Ends a hidden upload; what is left of its bytes is swept at the next start.
pub(super) async fn give_up(upload: Box<dyn Upload>) {
    if let Err(e) = upload.abort().await {
        tracing::warn!(cause = %e, "a hidden upload could not be removed now");
    }
}
