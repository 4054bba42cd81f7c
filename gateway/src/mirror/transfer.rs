//! One object from the source to the target: read, hashed on the way, confirmed.
//!
//! Invariants: bytes that are not those of the catalog never become visible on the target, for the last of them are
//! held back until the hash is known; nothing counts as copied before the target said size and checksum; what
//! already lies at the name is compared, never assumed; what is fenced becomes visible only after a look at the
//! anchors that follows its beginning.

use bytes::Bytes;
use futures::TryStreamExt;
use policies::key::ObjectKey;

use super::fence::Tenure;
use super::source::Located;
use super::{Link, Trouble};
use crate::digest::Whole;
use crate::stores::{self, Identity, Plan, Publish, Published, Store, Upload};

/// From this size on an object goes in parts, so that a broken connection costs a part and not all of it.
const IN_PARTS: u64 = 64 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landed {
    Written,
    /// The same content lay there already.
    Same,
    /// Something else lies there.
    Other,
}

impl Link {
    /// Puts content under its name if the name is free.
    pub async fn create(&self, tenure: &Tenure, from: &Located) -> Result<Landed, Trouble> {
        let size = from.object.size;
        // What is costly to send is not sent before a look.
        if size > crate::stores::own::LARGEST
            && self
                .target
                .stat(&from.object.key)
                .await
                .map_err(Trouble::target)?
                .is_some()
        {
            return self.compare(from).await;
        }
        let plan = Plan {
            size: Some(size),
            fenced: size >= IN_PARTS,
        };
        match self.send(tenure, from, plan, Publish::CreateOnly).await {
            Ok(landed) => Ok(landed),
            Err(Trouble::Target(stores::Error::Exists)) => self.compare(from).await,
            Err(trouble) => Err(trouble),
        }
    }

    /// Puts content in the place of what lies there. If the answer is lost, the upload can never take effect any
    /// more when this returns: a late one would overwrite what comes next.
    pub async fn replace(&self, tenure: &Tenure, from: &Located) -> Result<Landed, Trouble> {
        if self.compare(from).await? == Landed::Same {
            return Ok(Landed::Same);
        }
        let plan = Plan {
            size: Some(from.object.size),
            fenced: true,
        };
        self.send(tenure, from, plan, Publish::Replace).await
    }

    /// As [`Self::create`], fenced.
    pub async fn create_fenced(&self, tenure: &Tenure, from: &Located) -> Result<Landed, Trouble> {
        let plan = Plan {
            size: Some(from.object.size),
            fenced: true,
        };
        match self.send(tenure, from, plan, Publish::CreateOnly).await {
            Err(Trouble::Target(stores::Error::Exists)) => self.compare(from).await,
            other => other,
        }
    }

    async fn send(
        &self,
        tenure: &Tenure,
        from: &Located,
        plan: Plan,
        mode: Publish,
    ) -> Result<Landed, Trouble> {
        let key = &from.object.key;
        let permit = self.permit(tenure.epoch);
        let begun = self.target.begin(&permit, key, plan).await;
        let mut upload = begun.map_err(Trouble::target)?;
        let id = upload.id().clone();
        let ready = async {
            self.pump(from, &mut *upload).await?;
            if plan.fenced {
                self.check_fence(tenure).await?;
            }
            Ok(())
        };
        let ready = ready.await;
        if let Err(trouble) = ready {
            give_up(upload).await;
            return Err(trouble);
        }
        match upload.publish(mode).await {
            Ok(published) => self.confirm(from, &published).await,
            Err(e) => {
                if plan.fenced {
                    let fenced = self.target.abort(&permit, key, &id).await;
                    fenced.map_err(Trouble::target)?;
                }
                Err(Trouble::target(e))
            }
        }
    }

    /// The bytes into the upload; an error if they are not those that were acknowledged.
    async fn pump(&self, from: &Located, upload: &mut dyn Upload) -> Result<(), Trouble> {
        let mut content = self.open(from).await?;
        let mut hasher = Whole::of_parts(from.parts());
        while let Some(chunk) = content.try_next().await.map_err(Trouble::source)? {
            self.throttle.pass(chunk.len()).await;
            self.check_interrupted()?;
            hasher.update(&chunk);
            upload.write(chunk).await.map_err(Trouble::target)?;
        }
        check(from, hasher)
    }

    async fn open(&self, from: &Located) -> Result<stores::ByteStream, Trouble> {
        let read = self
            .source
            .store
            .read(&from.location, None, from.expect.as_ref());
        match read.await {
            Ok(Some(content)) if content.size == from.object.size => Ok(content.bytes),
            Ok(Some(content)) => Err(Trouble::Poison(format!(
                "the source's store holds {} bytes, {} were acknowledged",
                content.size, from.object.size
            ))),
            Ok(None) => Err(Trouble::Poison("the source's store lost the object".into())),
            Err(stores::Error::Changed) => Err(Trouble::Poison(
                "the source's store holds another object than the recorded one".into(),
            )),
            Err(e) => Err(Trouble::source(e)),
        }
    }

    /// By the checksum that the target computed, or else by what it says lies there now.
    async fn confirm(&self, from: &Located, published: &Published) -> Result<Landed, Trouble> {
        let etag = &*from.object.etag;
        let md5_known = etag.len() == 32 && etag.bytes().all(|b| b.is_ascii_hexdigit());
        if let (Some(md5), true) = (&published.md5, md5_known) {
            return Ok(if md5.eq_ignore_ascii_case(etag) {
                Landed::Written
            } else {
                Landed::Other
            });
        }
        let stat = self
            .target
            .stat(&from.object.key)
            .await
            .map_err(Trouble::target)?;
        let there = stat.is_some_and(|stat| {
            stat.size == from.object.size && stat.identity == published.identity
        });
        Ok(if there {
            Landed::Written
        } else {
            Landed::Other
        })
    }

    /// Is what lies at the name on the target this content? By size, then by its bytes.
    pub async fn compare(&self, with: &Located) -> Result<Landed, Trouble> {
        let Some(held) = self.held(&*self.target, &with.object.key, with).await? else {
            return Ok(Landed::Other);
        };
        let wanted = match with.object.hash {
            Some(hash) => hash,
            // Adopted: what the source's store holds is the truth.
            None => {
                let mut content = self.open(with).await?;
                let mut hasher = Whole::of_parts(with.parts());
                while let Some(chunk) = content.try_next().await.map_err(Trouble::source)? {
                    hasher.update(&chunk);
                }
                hasher.finish()
            }
        };
        Ok(if held == wanted {
            Landed::Same
        } else {
            Landed::Other
        })
    }

    /// The hash of what lies on the target, if it has the right size.
    async fn held(
        &self,
        store: &dyn Store,
        key: &ObjectKey,
        like: &Located,
    ) -> Result<Option<[u8; 32]>, Trouble> {
        let read = store.read(key, None, None).await.map_err(Trouble::target)?;
        let Some(mut content) = read.filter(|content| content.size == like.object.size) else {
            return Ok(None);
        };
        let mut hasher = Whole::of_parts(like.parts());
        while let Some(chunk) = content.bytes.try_next().await.map_err(Trouble::target)? {
            hasher.update(&chunk);
        }
        Ok(Some(hasher.finish()))
    }

    /// Writes a few bytes of the gateway's own making in the place of what lies there.
    pub async fn overwrite(
        &self,
        tenure: &Tenure,
        key: &ObjectKey,
        bytes: Vec<u8>,
    ) -> Result<Identity, Trouble> {
        let plan = Plan {
            size: Some(bytes.len() as u64),
            fenced: true,
        };
        let permit = self.permit(tenure.epoch);
        let begun = self.target.begin(&permit, key, plan).await;
        let mut upload = begun.map_err(Trouble::target)?;
        let id = upload.id().clone();
        let ready = async {
            let written = upload.write(Bytes::from(bytes)).await;
            written.map_err(Trouble::target)?;
            self.check_fence(tenure).await
        };
        let ready = ready.await;
        if let Err(trouble) = ready {
            give_up(upload).await;
            return Err(trouble);
        }
        match upload.publish(Publish::Replace).await {
            Ok(published) => Ok(published.identity),
            Err(e) => {
                let fenced = self.target.abort(&permit, key, &id).await;
                fenced.map_err(Trouble::target)?;
                Err(Trouble::target(e))
            }
        }
    }
}

fn check(from: &Located, hasher: Whole) -> Result<(), Trouble> {
    match from.object.hash {
        Some(hash) if hasher.finish() != hash => Err(Trouble::Poison(
            "the source's bytes are not those that were acknowledged".into(),
        )),
        // Adopted: size and the store's own identity were checked when it was opened.
        Some(_) | None => Ok(()),
    }
}

async fn give_up(upload: Box<dyn Upload>) {
    if let Err(e) = upload.abort().await {
        tracing::debug!(cause = %e, "a hidden upload on a mirror could not be removed now");
    }
}
