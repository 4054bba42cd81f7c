//! Reads both sides slowly, for ever, and mends what is lost or rotten on one side from the other.
//!
//! Decides by the catalog's hash: the side whose bytes have it mends the other. The target is mended by the
//! applier's means, under its epoch. The source is mended only where a name is written once: there nobody can write
//! other content at the same time. Where neither side has the right bytes, it says so and touches nothing. Of several
//! nodes the one that applies scrubs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use policies::key::{Class, Writing};
use policies::lock::{self, Lock};

use super::fence::Tenure;
use super::source::Located;
use super::throttle::Throttle;
use super::{Mirror, Trouble, applier};
use crate::digest::Whole;
use crate::state::{Object, UNJOURNALLED};
use crate::stores::{Plan, Publish, Store};
use crate::telemetry::names;

/// Between two rounds over a repository, so that a small one is not read all day.
const REST: Duration = Duration::from_secs(600);
const GLANCE: Duration = Duration::from_secs(5);

/// What one round found.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub struct Round {
    pub objects: u64,
    pub mended_target: u64,
    pub mended_source: u64,
    /// Neither side has the right bytes.
    pub lost: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Right,
    Wrong,
}

/// Runs until the process ends.
pub async fn run(mirror: Arc<Mirror>) {
    let throttle = Throttle::new(None);
    loop {
        let rate = mirror.link.plan.read().scrub;
        if rate == 0 {
            tokio::time::sleep(REST).await;
            continue;
        }
        throttle.set(Some(rate));
        match mirror.scrub(&throttle).await {
            Ok(_) => tokio::time::sleep(REST).await,
            Err(trouble) => {
                tracing::debug!(store = %mirror.link.target_name, cause = %trouble, "the scrub tries again later");
                tokio::time::sleep(GLANCE * 6).await;
            }
        }
    }
}

impl Mirror {
    /// One round over everything that the mirror has applied.
    pub async fn scrub(&self, throttle: &Throttle) -> Result<Round, Trouble> {
        let mut round = Round::default();
        let mut walk = self.link.source.catalog();
        while let Some(objects) = walk.page().await? {
            for object in objects {
                self.scrub_one(&object, throttle, &mut round).await?;
            }
        }
        Ok(round)
    }

    async fn scrub_one(
        &self,
        object: &Object,
        throttle: &Throttle,
        round: &mut Round,
    ) -> Result<(), Trouble> {
        let link = &self.link;
        let Some(row) = self.row().await? else {
            return Err(Trouble::Interrupted);
        };
        if row.paused || row.resync.is_some() || row.stalled.as_ref().is_some_and(|s| s.fenced) {
            return Err(Trouble::Interrupted);
        }
        let Some(tenure) = self.control.tenure() else {
            return Err(Trouble::Interrupted);
        };
        let class = link.source.class(&object.key);
        let mirrored = object.sequence <= row.applied && object.sequence < UNJOURNALLED;
        if !mirrored || class == Some(Class::Pointer) || object.hash.is_none() {
            return Ok(());
        }
        let whole = link
            .source
            .state
            .object(link.source.bucket_id, &object.key)
            .await?
            .object;
        let Some(whole) = whole.filter(|whole| whole.sequence == object.sequence) else {
            return Ok(());
        };
        let located = Located::of(whole);
        round.objects += 1;
        let target = side(&*link.target, &located, throttle)
            .await
            .map_err(Trouble::Target)?;
        let source = side(&*link.source.store, &located, throttle)
            .await
            .map_err(Trouble::Source)?;
        if (target, source) == (Side::Right, Side::Right) || !self.unchanged(object).await? {
            return Ok(());
        }
        match (target, source) {
            (Side::Right, Side::Right) => {}
            (Side::Wrong, Side::Right) => {
                self.mend_target(&located, &tenure).await?;
                round.mended_target += 1;
            }
            (Side::Right, Side::Wrong) => {
                let once = class.is_some_and(|class| class.writing() == Writing::Once);
                if once && self.mend_source(&located).await? {
                    round.mended_source += 1;
                } else {
                    round.lost += 1;
                    tracing::error!(repository = %link.source.name, key = %object.key, store = %link.target_name, "the source's bytes are not those that were acknowledged; the mirror has them");
                }
            }
            (Side::Wrong, Side::Wrong) => {
                round.lost += 1;
                tracing::error!(repository = %link.source.name, key = %object.key, store = %link.target_name, "neither the source nor the mirror has the bytes that were acknowledged");
            }
        }
        Ok(())
    }

    /// Nobody replaced or removed it while it was read.
    async fn unchanged(&self, object: &Object) -> Result<bool, Trouble> {
        let source = &self.link.source;
        let now = source.state.object(source.bucket_id, &object.key).await?;
        Ok(!now.busy
            && now
                .object
                .is_some_and(|now| now.sequence == object.sequence))
    }

    async fn mend_target(&self, located: &Located, tenure: &Tenure) -> Result<(), Trouble> {
        let link = &self.link;
        link.replace(tenure, located).await?;
        self.mended("target", &located.object);
        // A put of the applier may have come in between: let it look again.
        let row = applier::row(link).await?;
        let still = row.is_some_and(|row| row.epoch == tenure.epoch);
        if still {
            Ok(())
        } else {
            Err(Trouble::Interrupted)
        }
    }

    /// False = nobody may write the source now.
    async fn mend_source(&self, located: &Located) -> Result<bool, Trouble> {
        let (link, object) = (&self.link, &located.object);
        let source = &link.source;
        let lock = source.state.lock(source.id).await?.lock;
        let quiet = matches!(lock, Lock::Vacant { .. } | Lock::Held { .. });
        if !quiet {
            return Ok(false);
        }
        let permit = lock::upkeep(&source.name, lock.epoch());
        let plan = Plan {
            size: Some(object.size),
            fenced: true,
        };
        let begun = source.store.begin(&permit, &object.key, plan).await;
        let mut upload = begun.map_err(Trouble::Source)?;
        let read = link.target.read(&object.key, None, None).await;
        let Some(mut content) = read.map_err(Trouble::Target)? else {
            return Ok(false);
        };
        let mut hasher = Whole::of_parts(located.parts());
        while let Some(chunk) = next(&mut content.bytes).await? {
            hasher.update(&chunk);
            upload.write(chunk).await.map_err(Trouble::Source)?;
        }
        if Some(hasher.finish()) != object.hash {
            upload.abort().await.map_err(Trouble::Source)?;
            return Ok(false);
        }
        let published = upload
            .publish(Publish::Replace)
            .await
            .map_err(Trouble::Source)?;
        let (bucket, key, sequence) = (source.bucket_id, &object.key, object.sequence);
        let healed = source
            .state
            .healed(&permit, bucket, key, sequence, published.identity)
            .await;
        match healed {
            Ok(true) => {
                self.mended("source", object);
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(e) => {
                tracing::error!(repository = %source.name, key = %object.key, cause = %e, "an object was mended in the store, and the catalog does not know it yet");
                Ok(false)
            }
        }
    }

    fn mended(&self, side: &'static str, object: &Object) {
        let link = &self.link;
        tracing::warn!(repository = %link.source.name, store = %link.target_name, key = %object.key, side, "mended from the other side");
        let labels = [
            ("repository", link.source.name.to_string()),
            ("store", link.target_name.to_string()),
            ("side", side.to_owned()),
        ];
        metrics::counter!(names::MIRROR_MENDED, &labels).increment(1);
    }
}

async fn next(bytes: &mut crate::stores::ByteStream) -> Result<Option<Bytes>, Trouble> {
    bytes.try_next().await.map_err(Trouble::Target)
}

/// Are these the bytes that were acknowledged? By their hash, whatever the store calls them.
async fn side(
    store: &dyn Store,
    located: &Located,
    throttle: &Throttle,
) -> crate::stores::Result<Side> {
    let Some(mut content) = store.read(&located.object.key, None, None).await? else {
        return Ok(Side::Wrong);
    };
    if content.size != located.object.size {
        return Ok(Side::Wrong);
    }
    let mut hasher = Whole::of_parts(located.parts());
    while let Some(chunk) = content.bytes.try_next().await? {
        throttle.pass(chunk.len()).await;
        hasher.update(&chunk);
    }
    let right = Some(hasher.finish()) == located.object.hash;
    Ok(if right { Side::Right } else { Side::Wrong })
}
