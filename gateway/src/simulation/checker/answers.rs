//! What clients were told: an acknowledged write was in the store, a read shows what somebody wrote, a listing lacks nothing.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::history::{Asked, Told};
use super::{Judge, Operation};

impl Judge {
    pub(super) fn told(&mut self, number: usize, told: &Told) {
        let at = self.at;
        let Some(operation) = self.asked.get(&number) else {
            return;
        };
        let (life, asked, began) = (operation.life, operation.asked.clone(), operation.began);
        let overtaken = self.is_doubtful(life);
        match (&asked, told) {
            (Asked::Get { key }, Told::Content(content)) if !overtaken => {
                self.read(key, content.as_ref(), began);
            }
            (Asked::List, Told::Keys(keys)) if !overtaken => self.listed(keys, began),
            (Asked::Put { key, content }, Told::Ok) => {
                let there = self.effects.get(key).is_some_and(|all| {
                    all.iter().any(|(_, bytes)| bytes.as_ref() == Some(content))
                });
                if !there {
                    self.breaks(format!(
                        "W5: '{key}' was acknowledged and never was in the store"
                    ));
                }
            }
            (Asked::Put { .. } | Asked::Delete { .. } | Asked::Get { .. } | Asked::List, _) => {}
        }
        if let Some(operation) = self.asked.get_mut(&number) {
            operation.ended = Some((at, told.clone()));
            operation.overtaken = overtaken;
        }
    }

    /// Puts of a key that were acknowledged before, by a gateway that nobody had overtaken.
    fn settled_puts(&self, key: &str, before: usize) -> Vec<&Operation> {
        self.asked
            .values()
            .filter(|op| match &op.asked {
                Asked::Put { key: put, .. } => put == key,
                Asked::Delete { .. } | Asked::Get { .. } | Asked::List => false,
            })
            .filter(|op| matches!(&op.ended, Some((at, Told::Ok)) if *at < before) && !op.overtaken)
            .collect()
    }

    pub(super) fn may_be_deleted(&self, key: &str) -> bool {
        self.asked
            .values()
            .any(|op| matches!(&op.asked, Asked::Delete { key: gone } if gone == key))
    }

    fn read(&mut self, key: &str, content: Option<&Bytes>, began: usize) {
        let settled = self.settled_puts(key, began).len();
        match content {
            None if settled > 0 && !self.may_be_deleted(key) => {
                self.breaks(format!(
                    "W16: '{key}' was acknowledged and then said to be absent"
                ));
            }
            Some(content) => {
                let known = self.asked.values().any(|op| {
                    matches!(&op.asked, Asked::Put { key: put, content: bytes } if put == key && bytes == content)
                });
                if !known {
                    self.breaks(format!("W17: '{key}' was read with bytes nobody wrote"));
                }
            }
            None => {}
        }
    }

    fn listed(&mut self, keys: &[String], began: usize) {
        if let Some(own) = keys.iter().find(|key| key.starts_with(".snapgate")) {
            return self.breaks(format!("W20: a listing shows '{own}'"));
        }
        let acknowledged: BTreeSet<String> = self
            .asked
            .values()
            .filter_map(|op| match (&op.asked, &op.ended) {
                (Asked::Put { key, .. }, Some((at, Told::Ok))) if *at < began && !op.overtaken => {
                    Some(key.clone())
                }
                _others => None,
            })
            .collect();
        let shown: BTreeSet<&String> = keys.iter().collect();
        for key in acknowledged {
            if !shown.contains(&key) && !self.may_be_deleted(&key) {
                return self.breaks(format!("W16: a listing lacks '{key}'"));
            }
        }
    }
}
