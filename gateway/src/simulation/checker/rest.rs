//! At rest: store and catalog agree, nothing that was acknowledged is lost, and what was recorded happened in that order.

use std::collections::BTreeMap;

use bytes::Bytes;
use policies::key::Writing;

use super::super::history::{Asked, Life, Lineage, Told};
use super::super::node::BASE;
use super::{Judge, class};

impl Judge {
    pub(super) fn rest(
        &mut self,
        lineage: Lineage,
        store: &[(String, Bytes)],
        catalog: &[(String, u64, Option<Vec<u8>>)],
        kept: &[String],
        intents: usize,
    ) {
        if intents > 0 {
            self.breaks(format!("W8: {intents} intents are open at rest"));
        }
        let store: BTreeMap<&str, &Bytes> = store.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let known: BTreeMap<&str, (u64, Option<&Vec<u8>>)> = catalog
            .iter()
            .map(|(key, size, hash)| (key.as_str(), (*size, hash.as_ref())))
            .collect();
        for (key, (size, hash)) in &known {
            let Some(bytes) = store.get(key) else {
                return self.breaks(format!("W6: the catalog has '{key}', the store has not"));
            };
            let same = hash.is_none_or(|hash| *hash == *blake3::hash(bytes).as_bytes());
            if bytes.len() as u64 != *size || !same {
                return self.breaks(format!("W6: '{key}' is other bytes than the catalog says"));
            }
        }
        for key in store.keys().filter(|key| !key.starts_with(".snapgate/")) {
            let orphan = class(key).is_some_and(|class| class.writing() == Writing::Once);
            if !known.contains_key(key) && !orphan && !kept.iter().any(|kept| kept == key) {
                return self.breaks(format!("W6: the store has '{key}', the catalog has not"));
            }
        }
        self.nothing_is_lost(&store, &known);
        self.nothing_comes_back(lineage, &known);
        self.commits_follow_effects(lineage);
    }

    /// Every acknowledged write is there, or something that came later.
    fn nothing_is_lost(
        &mut self,
        store: &BTreeMap<&str, &Bytes>,
        known: &BTreeMap<&str, (u64, Option<&Vec<u8>>)>,
    ) {
        let mut lost = None;
        for op in self.asked.values() {
            let (Asked::Put { key, content }, Some((at, told))) = (&op.asked, &op.ended) else {
                continue;
            };
            let once = class(key).is_some_and(|class| class.writing() == Writing::Once);
            let there = store.get(key.as_str()).copied();
            match told {
                Told::Ok => {
                    let visible = known.contains_key(key.as_str());
                    let missing = if op.overtaken {
                        once && there != Some(content)
                    } else {
                        !visible && !self.may_be_deleted(key)
                    };
                    // only a write that began before this one ended may have the last word
                    let older = there.is_some_and(|bytes| {
                        bytes != content
                            && !op.overtaken
                            && self.surely_before(key, bytes, op.began)
                    });
                    if missing {
                        lost = Some(format!(
                            "W5: acknowledged '{key}' of {} is gone",
                            op.cluster
                        ));
                    } else if older {
                        lost = Some(format!(
                            "W7: '{key}' holds older content than what was acknowledged at {at}"
                        ));
                    }
                }
                Told::Refused(why) => {
                    let same_again = self.asked.values().any(|other| {
                        matches!(&other.asked, Asked::Put { key: k, content: c } if k == key && c == content)
                            && !matches!(&other.ended, Some((_, Told::Refused(_))))
                    });
                    let seen = known.contains_key(key.as_str()) && there == Some(content);
                    if seen && !same_again {
                        lost = Some(format!("W9: '{key}' was refused ({why}) and is there"));
                    }
                }
                Told::Unknown(_) | Told::Content(_) | Told::Keys(_) => {}
            }
        }
        if let Some(lost) = lost {
            self.breaks(lost);
        }
    }

    /// An entry of one lineage's journal is one of another's as well.
    fn knows(&self, lineage: Lineage, of: Lineage, number: u64) -> bool {
        lineage == of
            || self
                .copies
                .get(&lineage)
                .is_some_and(|(from, upto)| number <= *upto && self.knows(*from, of, number))
    }

    /// The database that knew of the delete is not the one that goes on, nor what that was copied from: the bytes are
    /// still in the store, and a recovery leaks rather than loses.
    fn is_delete_forgotten(&self, lineage: Lineage, life: Life, key: &str) -> bool {
        let by = self.lineage_of.get(&life);
        self.numbers.iter().any(|(number, (of, name, hash))| {
            by == Some(of) && name == key && hash.is_none() && !self.knows(lineage, *of, *number)
        })
    }

    /// What was deleted after every write of it was over is not there again.
    fn nothing_comes_back(
        &mut self,
        lineage: Lineage,
        known: &BTreeMap<&str, (u64, Option<&Vec<u8>>)>,
    ) {
        let gone = self.asked.values().find_map(|op| {
            let Asked::Delete { key } = &op.asked else {
                return None;
            };
            let done = matches!(op.ended, Some((_, Told::Ok))) && !op.overtaken;
            (done
                && known.contains_key(key.as_str())
                && self.is_over_before(key, op.began)
                && !self.is_delete_forgotten(lineage, op.life, key))
            .then(|| format!("W9: deleted '{key}' is there again"))
        });
        if let Some(gone) = gone {
            self.breaks(gone);
        }
    }

    /// Every write of the key had its answer before then, and there is none later.
    fn is_over_before(&self, key: &str, then: usize) -> bool {
        self.asked.values().all(|op| match &op.asked {
            Asked::Put { key: put, .. } if put == key => {
                !op.overtaken
                    && matches!(&op.ended, Some((at, Told::Ok | Told::Refused(_))) if *at < then)
            }
            Asked::Put { .. } | Asked::Delete { .. } | Asked::Get { .. } | Asked::List => true,
        })
    }

    /// All writes of this content were over before then.
    fn surely_before(&self, key: &str, content: &Bytes, then: usize) -> bool {
        let mut writes = self
            .asked
            .values()
            .filter(|op| {
                matches!(&op.asked, Asked::Put { key: k, content: c } if k == key && c == content)
            })
            .peekable();
        writes.peek().is_some()
            && writes.all(|op| matches!(&op.ended, Some((at, Told::Ok)) if *at < then))
    }

    /// What the journal says of a key is in the order in which it happened in the store.
    fn commits_follow_effects(&mut self, lineage: Lineage) {
        let mut broken = None;
        for ((of, key), commits) in &self.journal {
            if *of != lineage || !key.starts_with(BASE) {
                continue;
            }
            let effects = self.effects.get(key).map_or(&[][..], Vec::as_slice);
            let mut from = 0;
            for commit in commits.iter().flatten() {
                let found = effects[from..].iter().position(|(_, bytes)| {
                    bytes
                        .as_ref()
                        .is_some_and(|bytes| blake3::hash(bytes).as_bytes()[..] == commit[..])
                });
                match found {
                    Some(position) => from += position,
                    None => {
                        broken = Some(format!(
                            "W7: '{key}' was recorded in another order than it took effect"
                        ));
                    }
                }
            }
        }
        if let Some(broken) = broken {
            self.breaks(broken);
        }
    }
}
