//! Where a repository's causes for warning are met on the way: refused roots, objects that are not what the catalog
//! says, base paths spelt with a slash too many, objects whose own checksum is wrong.
//!
//! Nothing here decides what a client is answered; it only tells [`crate::watch`].

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use parking_lot::Mutex;
use policies::format::closure::Problem;
use policies::format::digest;
use policies::format::footer::{FooterError, LuceneFooter};
use policies::format::root::RootError;
use policies::guard::{self, Report};
use policies::key::{Class, ObjectKey};
use policies::lock::Freeze;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::{Address, Body, Door, Error};
use crate::state::Object;
use crate::watch::{Kind, Warning};

impl Door {
    pub(super) async fn raise(&self, open: &OpenRepository, warning: Warning) {
        self.watch.raise(open.id, &open.name, warning).await;
    }

    pub(super) async fn refused_root(&self, open: &OpenRepository, refusal: &guard::Refusal) {
        self.raise(open, Warning::of_refused_root(refusal)).await;
    }

    /// What the guard has to say about a root that it admits.
    pub(super) async fn reported(
        &self,
        open: &OpenRepository,
        generation: u64,
        reports: &[Report],
    ) {
        for report in reports {
            match report {
                Report::Lost(lost) => {
                    let lost = lost.clone();
                    self.raise(open, Warning::SnapshotsLost { generation, lost })
                        .await;
                }
                Report::Damage(problem) => self.raise(open, damage(problem)).await,
                Report::WouldRefuse(refusal) => self.refused_root(open, refusal).await,
                Report::BindCluster(_)
                | Report::UnknownFields(_)
                | Report::Uuid(_)
                | Report::FormChanged
                | Report::Dropped(_) => {}
            }
        }
    }

    /// What was wrong with the newest root's closure when it was read; older findings that are well now are closed.
    pub(super) async fn damage_found(&self, open: &OpenRepository, problems: &[Problem]) {
        let known = self.watch.open(open.id).await.unwrap_or_default();
        let is_still_wrong = |subject: &str| problems.iter().any(|p| p.key.as_str() == subject);
        if known
            .iter()
            .any(|row| row.kind == Kind::Damage.as_str() && !is_still_wrong(&row.subject))
        {
            self.watch
                .clear(open.id, &open.name, Kind::Damage, None)
                .await;
        }
        for problem in problems {
            self.raise(open, damage(problem)).await;
        }
    }

    /// These objects were read and are as they should be: what was told of their bytes is closed.
    pub(super) async fn close_what_reads_well(
        &self,
        open: &OpenRepository,
        well: &HashSet<&str>,
    ) -> Result<(), Error> {
        let known = self.watch.open(open.id).await;
        for row in known.map_err(|e| state_failed("read its warnings", &e))? {
            if row.kind == Kind::Rotten.as_str() && well.contains(&*row.subject) {
                self.watch
                    .clear(open.id, &open.name, Kind::Rotten, Some(&row.subject))
                    .await;
            }
        }
        Ok(())
    }

    pub(super) async fn unreadable_root(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        error: &RootError,
    ) {
        let warning = Warning::Damage {
            key: key.clone(),
            what: format!(
                "is the newest root and cannot be read ({error}), so that no delete is allowed"
            ),
            snapshots: Vec::new(),
        };
        self.raise(open, warning).await;
    }

    /// The catalog knows it and the store does not hold it so: gone or changed, as the store says now.
    pub(super) async fn not_as_recorded(&self, open: &OpenRepository, object: &Object) {
        let key = object.key.clone();
        match open.store.stat(&key).await {
            Ok(None) => self.raise(open, Warning::ObjectVanished { key }).await,
            Ok(Some(stat)) if stat.identity != object.identity || stat.size != object.size => {
                self.raise(open, Warning::ObjectChanged { key }).await;
            }
            Ok(Some(_)) => {}
            Err(e) => {
                tracing::warn!(repository = %open.name, key = %key, cause = %e, "could not look at an object");
            }
        }
    }

    pub(super) async fn root_appeared(&self, open: &OpenRepository, key: &ObjectKey) -> Freeze {
        self.raise(open, Warning::RootAppeared { key: key.clone() })
            .await;
        Freeze::RootAppeared(key.to_string())
    }

    /// A key beside the base path that differs by slashes only.
    pub(super) async fn look_for_twin(&self, at: &Address) {
        let Some((repository, prefix)) = self.layout.twin(&at.bucket, &at.key) else {
            return;
        };
        if let Some(open) = self.repository(&repository) {
            let key = at.key.clone();
            self.raise(&open, Warning::SlashTwin { prefix, key }).await;
        }
    }

    /// A written object that contradicts itself is stored all the same.
    pub(super) async fn look_at_checksum(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        digest: Option<&digest::Read>,
        footer: Option<Footer>,
    ) {
        let what = match (digest, footer.and_then(Footer::mismatch)) {
            (Some(Err(unreadable)), _) => format!("it cannot be read: {unreadable}"),
            (_, Some(mismatch)) => mismatch.to_string(),
            (Some(Ok(_)) | None, None) => return,
        };
        let key = key.clone();
        self.raise(open, Warning::BadChecksum { key, what }).await;
    }
}

fn damage(problem: &Problem) -> Warning {
    Warning::Damage {
        key: problem.key.clone(),
        what: problem.kind.to_string(),
        snapshots: problem.snapshots.clone(),
    }
}

/// The footer of a data file, checked while it passes.
pub(super) struct Footer(Arc<Mutex<LuceneFooter>>);

impl Footer {
    /// Looks at the bytes of a whole data file on their way in. Files in parts are left to `verify --deep`.
    pub(super) fn watch(class: &Class, body: &mut Body) -> Option<Self> {
        if !matches!(class, Class::Data { part: None, .. }) {
            return None;
        }
        let footer = Arc::new(Mutex::new(LuceneFooter::default()));
        let seen = Arc::clone(&footer);
        let bytes = std::mem::replace(&mut body.bytes, Box::pin(futures::stream::empty()));
        body.bytes = Box::pin(bytes.inspect_ok(move |chunk| seen.lock().update(chunk)));
        Some(Self(footer))
    }

    /// None = it holds, or the file has none (Lucene before 4.8, and what is no Lucene file).
    fn mismatch(self) -> Option<FooterError> {
        let footer = std::mem::take(&mut *self.0.lock());
        match footer.finish() {
            Ok(_) | Err(FooterError::NoFooter) => None,
            Err(e @ (FooterError::Mismatch { .. } | FooterError::OtherFile { .. })) => Some(e),
        }
    }
}
