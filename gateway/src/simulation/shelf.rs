//! A store in memory that behaves as an S3 service does. Whatever it does is atomic, and told to the history.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use policies::key::{ObjectKey, RESERVED};
use policies::lock::Term;

use super::history::{Event, History, Life};
use super::mutants::Mutant;
use crate::stores::{Error, Identity, Listed, Publish, Result, Stat, UploadId};

#[derive(Debug, Default)]
struct Objects {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<u64, String>,
    made: u64,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Shelf {
    objects: Arc<Mutex<Objects>>,
    history: History,
    mutant: Option<Mutant>,
}

impl Shelf {
    pub fn new(history: History, mutant: Option<Mutant>) -> Self {
        Self {
            objects: Arc::default(),
            history,
            mutant,
        }
    }

    pub fn contents(&self) -> Vec<(String, Bytes)> {
        let held = self.objects.lock();
        held.objects
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.clone()))
            .collect()
    }

    pub fn get(&self, name: &str) -> Option<Bytes> {
        self.objects.lock().objects.get(name).cloned()
    }

    /// Every upload that is neither completed nor aborted.
    pub fn uploads(&self) -> Vec<(ObjectKey, UploadId)> {
        let held = self.objects.lock();
        let all = held.uploads.iter().map(|(id, name)| {
            let name = ObjectKey::parse(name).unwrap();
            (name, UploadId(format!("mpu:{id}").into()))
        });
        all.collect()
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub fn put(&self, from: From, name: &str, bytes: &Bytes, mode: Publish) -> Result<()> {
        let mut held = self.objects.lock();
        let replaces = mode == Publish::Replace
            || (self.is(Mutant::AnchorsReplace) && name.starts_with(".snapgate/anchors/"));
        if !replaces && held.objects.contains_key(name) {
            return Err(Error::Exists);
        }
        let lost =
            self.is(Mutant::LosesWrites) && held.made.is_multiple_of(7) && name.contains("__");
        held.made += 1;
        if !lost {
            held.objects.insert(name.to_owned(), bytes.clone());
            drop(held);
            self.effect(from, name, Some(bytes.clone()));
        }
        Ok(())
    }

    fn effect(&self, from: From, name: &str, content: Option<Bytes>) {
        self.history.add(Event::Effect {
            life: from.life,
            term: from.term,
            name: name.to_owned(),
            content,
        });
    }

    pub fn begin(&self, name: &str) -> UploadId {
        let mut held = self.objects.lock();
        held.made += 1;
        let id = held.made;
        held.uploads.insert(id, name.to_owned());
        UploadId(format!("mpu:{id}").into())
    }

    pub fn complete(
        &self,
        from: From,
        name: &str,
        id: &UploadId,
        bytes: &Bytes,
        mode: Publish,
    ) -> Result<()> {
        let number = number(id).ok_or(Error::UploadGone)?;
        if !self.objects.lock().uploads.contains_key(&number) {
            return Err(Error::UploadGone);
        }
        self.put(from, name, bytes, mode)?;
        self.objects.lock().uploads.remove(&number);
        Ok(())
    }

    pub fn abort(&self, id: &UploadId) {
        if let Some(number) = number(id)
            && !self.is(Mutant::AbortDoesNothing)
        {
            self.objects.lock().uploads.remove(&number);
        }
    }

    pub fn delete(&self, from: From, name: &str) {
        let gone = self.objects.lock().objects.remove(name);
        if gone.is_some() {
            self.effect(from, name, None);
        }
    }

    pub fn set_aside(&self, from: From, name: &str, to: &str) -> Result<()> {
        let mut held = self.objects.lock();
        let content = held.objects.get(name).cloned().ok_or(Error::Changed)?;
        match held.objects.get(to) {
            Some(there) if *there == content => Ok(()),
            Some(_) => Err(Error::Exists),
            None => {
                held.objects.insert(to.to_owned(), content.clone());
                drop(held);
                self.effect(from, to, Some(content));
                Ok(())
            }
        }
    }

    pub fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Listed> {
        let looks_around = prefix.contains("incarnation-") && after.is_some();
        let blind = (self.is(Mutant::BlindToOthers) && looks_around)
            || (self.is(Mutant::BlindToNumbers) && prefix.contains("sequences/"));
        if blind {
            return Vec::new();
        }
        let own = prefix.starts_with(RESERVED);
        let held = self.objects.lock();
        held.objects
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, _)| own || !name.starts_with(RESERVED))
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
            .take(limit)
            .map(|(name, bytes)| Listed {
                name: ObjectKey::parse(name).unwrap(),
                stat: stat(bytes),
            })
            .collect()
    }
}

pub fn number(id: &UploadId) -> Option<u64> {
    id.0.strip_prefix("mpu:")?.parse().ok()
}

pub fn identity(bytes: &Bytes) -> Identity {
    Identity(blake3::hash(bytes).to_hex()[..16].into())
}

pub fn stat(bytes: &Bytes) -> Stat {
    Stat {
        size: bytes.len() as u64,
        identity: identity(bytes),
        modified_ms: 0,
    }
}

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub struct From {
    pub life: Life,
    pub term: Term,
}
