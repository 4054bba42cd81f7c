//! The intent and what follows it: older content kept, the publish, the commit; and what resolves a publish that failed.

use std::sync::Arc;

use policies::key::{Class, ObjectKey, Writing};
use policies::lock::Permit;

use super::{Prepared, give_up};
use crate::repository::door::{Found, OpenRepository};
use crate::repository::ingest::store_failed;
use crate::repository::{Address, Caller, Door, Error, aside, etag};
use crate::state::{AnswerKey, IntentId, NewIntent, Object, Put};
use crate::stores::{Identity, Publish, Upload};
use crate::telemetry::clock;

impl Door {
    #[expect(clippy::too_many_arguments, reason = "one write, all of it")]
    pub(in crate::repository) async fn commit(
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
        if (matches!(found.class, Class::Root(_)) || prepared.listed)
            && let Err(e) = self.alone_on_store(open).await
        {
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
        intent: IntentId,
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
}

/// The pointer holds nothing that the newest root does not say; registration and analysis keep nothing.
fn keeps_old_content(class: &Class) -> bool {
    !matches!(class, Class::Pointer) && class.writing() != Writing::Free
}

pub(in crate::repository) fn new_row(
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
