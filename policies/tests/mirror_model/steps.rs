//! The applier's steps, and the target's: what is planned is sent as requests, each of which the target does in one.

use std::collections::HashMap;

use policies::key::ObjectKey;
use policies::mirror_order::{Change, Facts, Known, Next, Pointer, Put, Step};

use crate::mutant::{Mutant, naive};
use crate::world::{
    Applier, Belief, ContentId, FOREIGN, PROMOTIONS, Recorded, Request, Sent, World,
};

impl World {
    /// The applier looks at the target anew.
    pub fn look(&mut self, t: usize) {
        let newest = self.newest(t);
        let pointed = self
            .pointer()
            .map_or(0, |name| self.targets[t].objects[name]);
        if let Applier::Up { root, pointer, .. } = &mut self.targets[t].applier {
            (*root, *pointer) = (newest, pointed);
        }
    }

    fn facts(&self, known: &[Option<Belief>], root: Option<u64>, pointed: ContentId) -> Facts {
        let keys: HashMap<ObjectKey, Known> = known
            .iter()
            .enumerate()
            .filter_map(|(name, belief)| {
                let belief = match (*belief)? {
                    Belief::Content(sequence) => Known::Content(sequence),
                    Belief::Other => Known::Other,
                    Belief::Absent => Known::Absent,
                };
                Some((self.key(name), belief))
            })
            .collect();
        Facts {
            keys,
            root,
            pointer: match pointed.checked_sub(1) {
                None => Pointer::Absent,
                Some(generation) => Pointer::Names(generation),
            },
        }
    }

    pub fn plan(&mut self, t: usize) {
        let journal = self.is(Mutant::JournalIsAppliedMeanwhile) && !self.entries(t).is_empty();
        if self.targets[t].resync.is_some() && !journal {
            self.reconcile(t);
            return;
        }
        let Applier::Up {
            known,
            root,
            pointer,
        } = &self.targets[t].applier
        else {
            return;
        };
        let mut entries = self.entries(t);
        if let (Some(poison), true) = (self.rules.poison, self.is(Mutant::PoisonIsSkipped)) {
            for entry in entries.iter_mut().filter(|entry| entry.sequence == poison) {
                entry.change = Change::Delete;
            }
        }
        let facts = self.facts(known, *root, *pointer);
        let after = self.targets[t].applied;
        let next = match self.mutant.filter(|mutant| mutant.plans()) {
            Some(mutant) => naive(mutant, &entries, &facts),
            None => match Step::cut(after, &entries).unwrap() {
                Some(step) => vec![step.next(&facts)],
                None => return,
            },
        };
        for next in next {
            self.send(t, next);
        }
        if self.is(Mutant::AppliedWhenSent)
            && let Some(last) = entries.last()
        {
            self.targets[t].applied = last.sequence;
        }
    }

    fn send(&mut self, t: usize, next: Next) {
        let guarded = match next {
            Next::Copy(_) | Next::Applied(_) | Next::Stuck { .. } => false,
            Next::Replace(_) | Next::Root { .. } | Next::Point { .. } | Next::Remove(_) => true,
        };
        if guarded && self.is_fenced(t) {
            return;
        }
        match next {
            Next::Copy(puts) => {
                for put in puts {
                    let (name, content) = (self.name(&put.key), put.sequence);
                    self.request(t, Request::Create { name, content });
                }
            }
            // One after the other.
            Next::Replace(puts) => {
                let put = puts.first().unwrap();
                self.fenced(t, put, true);
            }
            Next::Root { put, .. } => self.fenced(t, &put, false),
            Next::Point { key, generation } => {
                let request = Request::Fenced {
                    name: self.name(&key),
                    content: generation + 1,
                    replaces: true,
                };
                self.request(t, request);
            }
            Next::Remove(keys) => {
                for key in keys {
                    let name = self.name(&key);
                    self.request(t, Request::Remove { name });
                }
            }
            Next::Applied(upto) => {
                self.targets[t].applied = upto;
                self.targets[t].recorded = Some(Recorded::Step);
                if let Applier::Up { known, .. } = &mut self.targets[t].applier {
                    known.fill(None);
                }
            }
            Next::Stuck { .. } => {}
        }
    }

    /// The applier looks for a higher epoch, and acts no more if there is one.
    pub fn is_fenced(&mut self, t: usize) -> bool {
        let fenced = self.targets[t].promoted && !self.is(Mutant::NoFence);
        if fenced {
            self.targets[t].applier = Applier::Fenced;
        }
        fenced
    }

    fn fenced(&mut self, t: usize, put: &Put, replaces: bool) {
        let request = Request::Fenced {
            name: self.name(&put.key),
            content: put.sequence,
            replaces,
        };
        self.request(t, request);
    }

    pub fn request(&mut self, t: usize, request: Request) {
        let content = match request {
            Request::Create { content, .. } | Request::Fenced { content, .. } => Some(content),
            Request::Remove { .. } => None,
        };
        // Rotten bytes are never sent.
        if content.is_some() && content == self.rules.poison {
            return;
        }
        self.targets[t].network.push(Sent {
            request,
            awaited: true,
        });
    }

    pub fn deliver(&mut self, t: usize, r: usize, heard: bool) {
        let sent = self.targets[t].network.remove(r);
        let trusting = self.is(Mutant::ExistsIsTrusted);
        let replacing = self.is(Mutant::CreationReplaces);
        let target = &mut self.targets[t];
        let (name, belief) = match sent.request {
            Request::Create { name, content } => {
                let there = &mut target.objects[name];
                if *there == 0 || replacing {
                    *there = content;
                }
                let same = *there == content || trusting;
                (
                    name,
                    if same {
                        Belief::Content(content)
                    } else {
                        Belief::Other
                    },
                )
            }
            Request::Fenced {
                name,
                content,
                replaces,
            } => {
                let there = &mut target.objects[name];
                if *there == 0 || replaces {
                    *there = content;
                }
                let same = *there == content;
                (
                    name,
                    if same {
                        Belief::Content(content)
                    } else {
                        Belief::Other
                    },
                )
            }
            Request::Remove { name } => {
                let foreign = self.rules.aside && target.objects[name] >= FOREIGN;
                if foreign {
                    // It lies elsewhere now; the newest root is another one from here on.
                    target.highest = None;
                }
                target.objects[name] = 0;
                (name, Belief::Absent)
            }
        };
        let there = target.objects[name];
        let generation = self.generation(name);
        let is_pointer = self.pointer() == Some(name);
        match &mut self.targets[t].applier {
            Applier::Up {
                known,
                root,
                pointer,
            } if heard && sent.awaited => {
                known[name] = Some(belief);
                if is_pointer {
                    *pointer = there;
                } else if there != 0 {
                    *root = (*root).max(generation);
                }
            }
            Applier::Up { .. } if sent.awaited => self.look(t),
            Applier::Up { .. } | Applier::Down | Applier::Fenced => {}
        }
    }

    pub fn promote(&mut self, t: usize) {
        self.left[PROMOTIONS] -= 1;
        let newest = self.newest(t).unwrap();
        let root = self
            .rules
            .names
            .iter()
            .position(|name| *name == "index-9")
            .unwrap();
        assert!(newest < 9);
        let pointer = self.pointer();
        let target = &mut self.targets[t];
        target.promoted = true;
        // The anchor is there; whoever promotes aborts what was being uploaded, and waits for removals.
        target
            .network
            .retain(|sent| matches!(sent.request, Request::Create { .. }));
        for sent in &mut target.network {
            sent.awaited = false;
        }
        target.objects[root] = FOREIGN + newest;
        if let Some(pointer) = pointer {
            target.objects[pointer] = 10;
        }
    }
}
