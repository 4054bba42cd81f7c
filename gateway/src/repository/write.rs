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

use std::sync::Arc;

use bytes::Bytes;
use policies::format::digest;
use policies::guard::Overwrite;
use policies::identity::Epoch;
use policies::key::{Class, ObjectKey, Writing};
use policies::lock::{Freeze, Permit, Term};

use super::aside;
use super::door::{Found, OpenRepository};
use super::etag;
use super::gate::state_failed;
use super::guarding::{read_digest, wanted_bytes};
use super::incarnation;
use super::ingest::{ingest, store_failed};
use super::lookout::Footer;
use super::{Address, Body, Caller, Door, Error, WriteCondition, Written};
use crate::state::{AnswerKey, CommittedRoot, Details, NewIntent, Object, Put};
use crate::stores::{Identity, Plan, Publish, Upload};
use crate::telemetry::clock;
use crate::watch::{Event, Kind};

/// How often a write starts over when another one got in between.
const ATTEMPTS: usize = 8;

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
        if let Some(answer) = &answer
            && let Some(known) = self
                .state
                .answer(answer)
                .await
                .map_err(|e| state_failed("look up an earlier answer", &e))?
        {
            give_up(prepared.upload).await;
            return Ok((known.etag, clock::now_ms()));
        }
        let digest = match &prepared.captured {
            Some(bytes) => read_digest(&found.class, bytes.clone()).await,
            None => None,
        };
        if found.class.writing() != Writing::Free {
            prepared.judged = match self.follow(open).await {
                Ok(judged) => judged,
                Err(e) => {
                    give_up(prepared.upload).await;
                    return Err(e);
                }
            };
        }
        let judged = match self.current(open, &to.key).await {
            Ok(current) => judge(
                found,
                &to.key,
                current.as_ref(),
                &prepared,
                &condition,
                digest.as_ref(),
            )
            .map(|verdict| (current, verdict)),
            Err(e) => Err(e),
        };
        let current = match judged {
            Ok((_, Judged::AlreadyThere(etag, modified))) => {
                give_up(prepared.upload).await;
                return Ok((etag, modified));
            }
            Ok((current, Judged::Write)) => current,
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

    /// A root is admitted, committed and made known to the guard while no other root and no delete gets in between.
    #[expect(clippy::too_many_arguments, reason = "one write, all of it")]
    async fn commit_root(
        &self,
        caller: &Caller,
        found: &Found,
        permit: &Permit,
        to: &Address,
        mut prepared: Prepared,
        generation: u64,
        answer: Option<AnswerKey>,
    ) -> Result<(Arc<str>, i64), Error> {
        let open = &found.open;
        let alone = open.guarding.commits.write().await;
        prepared.judged = match self.follow_alone(open).await {
            Ok(judged) => judged,
            Err(e) => {
                give_up(prepared.upload).await;
                return Err(e);
            }
        };
        let body = prepared.captured.take();
        let admitted = match &body {
            Some(body) => self.admit_root(open, permit, generation, body).await,
            None => Err(Error::SlowDown("The gateway restarted while this root was uploaded, or the root is too large; try again.".into())),
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(e) => {
                give_up(prepared.upload).await;
                return Err(e);
            }
        };
        prepared.root = Some(admitted.restore_point(Some(&caller.cluster), epoch_of(permit)));
        let done = match self
            .commit(
                caller,
                found,
                permit,
                to,
                prepared,
                None,
                answer,
                admitted.bind.clone(),
            )
            .await
        {
            Ok(done) => done,
            Err(e) => {
                drop(alone);
                self.look_again(open).await;
                return Err(e);
            }
        };
        tracing::info!(repository = %open.name, generation, cluster = %caller.cluster, request_id = %caller.request_id, "a root was committed");
        self.watch.tell(Event::RootCommitted {
            repository: open.name.clone(),
            generation,
            cluster: caller.cluster.to_string(),
            snapshots: admitted.snapshots(),
        });
        open.guarding.committed(admitted);
        self.write_digests(open);
        let closed = [Kind::RootRefused];
        self.watch.clear_if_open(open.id, &open.name, &closed).await;
        Ok(done)
    }

    /// A root's commit failed, and whether it took effect was resolved meanwhile: the guard reads what is there now.
    pub(super) async fn look_again(&self, open: &OpenRepository) {
        if let Err(e) = self.load_guard(open).await {
            tracing::error!(repository = %open.name, cause = %e, "after a failed commit the repository cannot be read");
            open.gate.doubt(Freeze::StoreUnreachable);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one write, all of it")]
    pub(super) async fn commit(
        &self,
        caller: &Caller,
        found: &Found,
        permit: &Permit,
        to: &Address,
        prepared: Prepared,
        current: Option<Object>,
        answer: Option<AnswerKey>,
        binds: Option<Arc<str>>,
    ) -> Result<(Arc<str>, i64), Error> {
        let open = &found.open;
        if let Err(e) = self.alone(found).await {
            give_up(prepared.upload).await;
            return Err(e);
        }
        let journalled = found.class.writing() != Writing::Free;
        let mut put = new_row(open, &to.key, &prepared, journalled);
        put.replaces = current.as_ref().map(|c| c.sequence);
        put.answer = answer;
        put.kept = current
            .as_ref()
            .filter(|_| keeps_old_content(&found.class))
            .map(|c| aside::replaced(open, c));
        let (etag, now) = (Arc::clone(&put.etag), put.now_ms);
        let intent = NewIntent {
            upload: prepared.upload.id().clone(),
            binds,
            put: put.clone(),
        };
        let opened = match prepared.judged {
            Some(judged) => self.state.open_judged(permit, intent, judged).await,
            None => self.state.open_intent(permit, intent).await,
        };
        let intent = match opened {
            Ok(intent) => intent,
            Err(e) => {
                give_up(prepared.upload).await;
                return Err(open.write_failed(caller, e));
            }
        };
        match self
            .take_effect(open, permit, &to.key, prepared.upload, &put)
            .await
        {
            Ok(identity) => match self.state.commit_intent(intent, identity).await {
                Ok(recorded) => {
                    if journalled {
                        open.reaches(recorded.sequence);
                    }
                    Ok((etag, now))
                }
                Err(e) => {
                    self.undo(open, permit, intent, &to.key, &put).await;
                    Err(open.write_failed(caller, e))
                }
            },
            Err(e) => {
                self.undo(open, permit, intent, &to.key, &put).await;
                Err(e)
            }
        }
    }

    /// Before a root is committed: no other gateway has started on this store since this one did.
    async fn alone(&self, found: &Found) -> Result<(), Error> {
        let open = &found.open;
        let Class::Root(_) = &found.class else {
            return Ok(());
        };
        let Some(ours) = *open.incarnation.lock() else {
            return Err(Error::SlowDown(format!(
                "Repository '{}' has no number in its store: another gateway could not be noticed; try again.",
                open.name
            )));
        };
        let standing = incarnation::standing(
            self.state.as_ref(),
            &open.plan.store,
            open.store.as_ref(),
            ours,
        )
        .await;
        if let Some(now) = standing.map_err(|e| store_failed("look for another gateway", &e))? {
            open.stand_as(now);
            return Ok(());
        }
        self.doubt(open, Freeze::OtherGateway).await;
        Err(Error::SlowDown(format!(
            "Repository '{}' is frozen: another gateway works on its store.",
            open.name
        )))
    }

    /// Older content is kept, then the new content gets the name.
    async fn take_effect(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        key: &ObjectKey,
        upload: Box<dyn Upload>,
        put: &Put,
    ) -> Result<Identity, Error> {
        if let Some(kept) = &put.kept {
            open.store
                .set_aside(permit, key, &kept.name)
                .await
                .map_err(|e| store_failed("keep the older content", &e))?;
        }
        let taken =
            put.replaces.is_some() || self.keep_unlisted(open, permit, key, upload.id()).await?;
        let mode = if taken {
            Publish::Replace
        } else {
            Publish::CreateOnly
        };
        upload
            .publish(mode)
            .await
            .map(|p| p.identity)
            .map_err(|e| store_failed("publish the object", &e))
    }

    /// A failed publish may have taken effect: the resolver's rule decides, as after a crash.
    async fn undo(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        intent: crate::state::IntentId,
        key: &ObjectKey,
        put: &Put,
    ) {
        tracing::warn!(repository = %open.name, key = %key, size = put.size, "a publish failed; resolving its intent");
        let intents = match self.state.intents(open.id).await {
            Ok(intents) => intents,
            Err(e) => {
                return tracing::error!(cause = %e, "the intent stays open until the next resolve");
            }
        };
        if let Some(found) = intents.into_iter().find(|i| i.id == intent)
            && let Err(e) = self.resolve(open, permit, &found).await
        {
            tracing::error!(repository = %open.name, cause = %e, "the intent stays open until the next resolve");
        }
    }

    /// The row that a write replaces. Another node's open intent is waited for, briefly.
    async fn current(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<Option<Object>, Error> {
        for _ in 0..ATTEMPTS {
            let lookup = self.lookup(open, key).await?;
            if !lookup.busy {
                return Ok(lookup.object);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Err(Error::SlowDown(
            "Another write to this key is under way; try again.".into(),
        ))
    }
}

enum Judged {
    /// The same bytes are there: a replay.
    AlreadyThere(Arc<str>, i64),
    Write,
}

/// Conditions and the overwrite rule, on what is there now.
fn judge(
    found: &Found,
    key: &ObjectKey,
    current: Option<&Object>,
    prepared: &Prepared,
    condition: &WriteCondition,
    digest: Option<&digest::Read>,
) -> Result<Judged, Error> {
    match (condition, current) {
        (WriteCondition::IfAbsent, Some(_)) => return Err(Error::PreconditionFailed),
        (WriteCondition::IfMatch(_), None) => return Err(Error::NoSuchKey),
        (WriteCondition::IfMatch(etag), Some(current))
            if etag != "*" && **etag != *current.etag =>
        {
            return Err(Error::PreconditionFailed);
        }
        (WriteCondition::Always | WriteCondition::IfAbsent | WriteCondition::IfMatch(_), _) => {}
    }
    let Some(current) = current else {
        return match (&found.class, &prepared.captured) {
            (Class::Pointer, Some(body)) => {
                found.open.guarding.pointer(body).map(|()| Judged::Write)
            }
            (_, _) => Ok(Judged::Write),
        };
    };
    let same_bytes = current.hash == Some(prepared.hash) && current.size == prepared.size;
    if let (Class::Pointer, Some(body)) = (&found.class, &prepared.captured) {
        found.open.guarding.pointer(body)?;
    }
    Ok(
        match found
            .open
            .guarding
            .overwrite(key, &found.class, same_bytes, digest)?
        {
            Overwrite::Same => Judged::AlreadyThere(Arc::clone(&current.etag), current.modified_ms),
            Overwrite::Replace => Judged::Write,
        },
    )
}

pub(super) fn epoch_of(permit: &Permit) -> Epoch {
    match permit.term() {
        Term::Held(epoch) | Term::Settle(epoch) => epoch,
        Term::Free => Epoch(0),
    }
}

/// The pointer holds nothing that the newest root does not say; registration and analysis keep nothing.
fn keeps_old_content(class: &Class) -> bool {
    !matches!(class, Class::Pointer) && class.writing() != Writing::Free
}

pub(super) fn new_row(
    open: &OpenRepository,
    key: &ObjectKey,
    prepared: &Prepared,
    journalled: bool,
) -> Put {
    Put {
        repository: open.id,
        bucket: open.bucket_id,
        key: key.clone(),
        size: prepared.size,
        etag: prepared
            .etag
            .clone()
            .unwrap_or_else(|| etag::without_md5(&prepared.hash)),
        hash: Some(prepared.hash),
        identity: Identity("".into()),
        now_ms: clock::now_ms(),
        details: prepared.details.clone(),
        replaces: None,
        kept: None,
        journalled,
        completes: prepared.completes.clone(),
        root: prepared.root.clone(),
        answer: None,
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
