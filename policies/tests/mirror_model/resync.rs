//! Reconciling, as `gateway::mirror::resync` does it: page by page of the catalog, then what came since, then the newest
//! root, then what the catalog does not show. Where it is, is durable; what was taken up in a phase is not.

use policies::key::{Class, Writing};

use crate::mutant::Mutant;
use crate::world::{Applier, Belief, ContentId, Op, Recorded, Request, World};

/// Names of the catalog that are looked at together.
const PAGE: usize = 3;
/// Fewer entries than this are followed on the way to the root.
const LITTLE: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Names from this position on.
    Copy {
        at: usize,
    },
    Follow {
        position: u64,
    },
    Root {
        upto: u64,
    },
    Remove {
        upto: u64,
    },
}

/// What is to be copied in a phase, and up to where the journal was read for it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Taken {
    puts: Vec<(usize, ContentId)>,
    upto: u64,
}

impl World {
    /// Recorded for the applier to find. What it sent before is still under way.
    pub fn begin_resync(&mut self, t: usize) {
        let newest = self.committed as u64;
        let first = if self.is(Mutant::ResyncRootFirst) {
            Phase::Root { upto: newest }
        } else {
            Phase::Copy { at: 0 }
        };
        let taken_for_its_own = self.is(Mutant::TransfersAreNotSettled).then(|| Taken {
            puts: self.shown(0..PAGE, t),
            upto: newest,
        });
        let target = &mut self.targets[t];
        target.applied = newest;
        target.resync = Some(first);
        target.taken = taken_for_its_own.map(|mut taken| {
            let under_way = |name: usize| {
                target.network.iter().any(|sent| {
                    let of = match sent.request {
                        Request::Create { name, .. } | Request::Fenced { name, .. } => name,
                        Request::Remove { .. } => return false,
                    };
                    sent.awaited && of == name
                })
            };
            taken.puts.retain(|(name, _)| !under_way(*name));
            taken
        });
        self.forget(t);
    }

    /// One look of the applier at what is to be done next.
    pub fn reconcile(&mut self, t: usize) {
        let Some(phase) = self.targets[t].resync else {
            return;
        };
        match phase {
            Phase::Copy { at } => self.copy_page(t, at),
            Phase::Follow { position } => self.follow(t, position),
            Phase::Root { upto } => self.newest_root(t, upto),
            Phase::Remove { upto } => self.remove(t, upto),
        }
    }

    /// Sequence of what the catalog shows under each name; 0 = nothing.
    fn catalog(&self) -> Vec<ContentId> {
        let mut shown = vec![0; self.rules.names.len()];
        for (op, sequence) in self.rules.journal[..self.committed].iter().zip(1..) {
            match op {
                Op::Put(name) => shown[*name] = sequence,
                Op::Delete(name) => shown[*name] = 0,
            }
        }
        shown
    }

    /// What the catalog shows and the target may lack, of some names.
    fn shown(&self, names: std::ops::Range<usize>, t: usize) -> Vec<(usize, ContentId)> {
        let catalog = self.catalog();
        names
            .filter(|name| catalog.get(*name).is_some_and(|content| *content != 0))
            .filter(|name| self.is_plain(*name))
            .filter(|name| {
                let there = self.targets[t].objects[*name] != 0;
                !(there && self.class(*name).writing() == Writing::Once)
            })
            .map(|name| (name, catalog[name]))
            .collect()
    }

    fn is_plain(&self, name: usize) -> bool {
        self.generation(name).is_none() && self.class(name) != Class::Pointer
    }

    fn copy_page(&mut self, t: usize, at: usize) {
        let end = (at + PAGE).min(self.rules.names.len());
        let upto = self.committed as u64;
        let taken = self.targets[t].taken.clone();
        let taken = taken.unwrap_or_else(|| Taken {
            puts: self.shown(at..end, t),
            upto,
        });
        self.targets[t].taken = Some(taken.clone());
        if !self.copied(t, &taken.puts) {
            return;
        }
        let next = if end < self.rules.names.len() {
            Phase::Copy { at: end }
        } else if self.is(Mutant::ResyncDoesNotFollow) {
            Phase::Root { upto }
        } else {
            let position = self.targets[t].applied;
            Phase::Follow { position }
        };
        self.advance(t, next);
    }

    fn follow(&mut self, t: usize, position: u64) {
        let from = usize::try_from(position).unwrap();
        let taken = self.targets[t].taken.clone();
        let taken = taken.unwrap_or_else(|| {
            let catalog = self.catalog();
            let changed = self.rules.journal[from..self.committed].iter();
            let mut names: Vec<usize> = changed
                .map(|op| match op {
                    Op::Put(name) | Op::Delete(name) => *name,
                })
                .filter(|name| self.is_plain(*name) && catalog[*name] != 0)
                .collect();
            names.sort_unstable();
            names.dedup();
            Taken {
                puts: names.iter().map(|name| (*name, catalog[*name])).collect(),
                upto: self.committed as u64,
            }
        });
        self.targets[t].taken = Some(taken.clone());
        if !self.copied(t, &taken.puts) {
            return;
        }
        let upto = taken.upto;
        let little = upto - position < LITTLE as u64;
        self.advance(
            t,
            if little {
                Phase::Root { upto }
            } else {
                Phase::Follow { position: upto }
            },
        );
    }

    fn newest_root(&mut self, t: usize, upto: u64) {
        let catalog = self.catalog();
        let mut roots: Vec<(u64, usize)> = (0..catalog.len())
            .filter(|name| catalog[*name] != 0)
            .filter_map(|name| Some((self.generation(name)?, name)))
            .collect();
        roots.sort_unstable();
        let late = roots.iter().any(|(_, name)| catalog[*name] > upto);
        if late && !self.is(Mutant::ResyncDoesNotFollow) {
            self.advance(t, Phase::Follow { position: upto });
            return;
        }
        let newest = roots.pop();
        if !self.no_foreign_root(
            t,
            newest.map(|(generation, name)| (generation, catalog[name])),
        ) {
            return;
        }
        if let Some((generation, name)) = newest {
            match self.belief(t, name) {
                Some(Belief::Content(_)) => {}
                None | Some(Belief::Absent) => {
                    if !self.is_fenced(t) {
                        let content = catalog[name];
                        let replaces = false;
                        self.request(
                            t,
                            Request::Fenced {
                                name,
                                content,
                                replaces,
                            },
                        );
                    }
                    return;
                }
                // Another root of this generation: it stays so until somebody looks.
                Some(Belief::Other) => return,
            }
            let older: Vec<_> = roots
                .iter()
                .map(|(_, name)| (*name, catalog[*name]))
                .collect();
            if !self.older_roots(t, &older) || !self.pointed(t, generation, &catalog) {
                return;
            }
        }
        self.advance(t, Phase::Remove { upto });
    }

    /// Roots that the source keeps beside its newest one, each so that it cannot come late.
    fn older_roots(&mut self, t: usize, roots: &[(usize, ContentId)]) -> bool {
        if self.is(Mutant::OlderRootsComeLate) {
            return self.copied(t, roots);
        }
        let lacking = roots
            .iter()
            .find(|(name, content)| self.belief(t, *name) != Some(Belief::Content(*content)));
        let Some((name, content)) = lacking.copied() else {
            return true;
        };
        let replaces = self.belief(t, name) == Some(Belief::Other);
        if !self.is_fenced(t) {
            let request = Request::Fenced {
                name,
                content,
                replaces,
            };
            self.request(t, request);
        }
        false
    }

    /// Roots at or above the source's newest one that are not it are moved aside, where that was ordered.
    fn no_foreign_root(&mut self, t: usize, ours: Option<(u64, ContentId)>) -> bool {
        let there = (0..self.rules.names.len())
            .filter(|name| self.targets[t].objects[*name] != 0)
            .filter_map(|name| Some((self.generation(name)?, name)));
        let foreign = there
            .filter(|(generation, name)| {
                let content = self.targets[t].objects[*name];
                ours.is_none_or(|ours| {
                    *generation > ours.0 || *generation == ours.0 && content != ours.1
                })
            })
            .max();
        let Some((generation, name)) = foreign else {
            return true;
        };
        if self.rules.aside && !self.is_fenced(t) && !self.points_elsewhere(t, generation) {
            self.request(t, Request::Remove { name });
        }
        false
    }

    /// Before a root goes the pointer names the next older one, or goes itself; true = it is on its way.
    fn points_elsewhere(&mut self, t: usize, gone: u64) -> bool {
        let Some(pointer) = self.pointer() else {
            return false;
        };
        let objects = &self.targets[t].objects;
        if objects[pointer] != gone + 1 || self.is(Mutant::PointerIsLeftBehind) {
            return false;
        }
        let older = (0..objects.len())
            .filter(|name| objects[*name] != 0)
            .filter_map(|name| self.generation(name))
            .filter(|generation| *generation < gone)
            .max();
        let request = match older {
            Some(generation) => Request::Fenced {
                name: pointer,
                content: generation + 1,
                replaces: true,
            },
            None => Request::Remove { name: pointer },
        };
        self.request(t, request);
        true
    }

    fn pointed(&mut self, t: usize, generation: u64, catalog: &[ContentId]) -> bool {
        let Some(name) = self.pointer().filter(|name| catalog[*name] != 0) else {
            return true;
        };
        let content = generation + 1;
        let there = match &self.targets[t].applier {
            Applier::Up { pointer, .. } => *pointer,
            Applier::Down | Applier::Fenced => return false,
        };
        if there == content {
            return true;
        }
        if !self.is_fenced(t) {
            let replaces = true;
            self.request(
                t,
                Request::Fenced {
                    name,
                    content,
                    replaces,
                },
            );
        }
        false
    }

    fn remove(&mut self, t: usize, upto: u64) {
        let catalog = self.catalog();
        let later = &self.rules.journal[usize::try_from(upto).unwrap()..self.committed];
        let removed_later = |name: usize| {
            let removal = |op: &Op| matches!(op, Op::Delete(of) if *of == name);
            later.iter().any(removal) && !self.is(Mutant::ResyncRemovesAtOnce)
        };
        let gone: Vec<usize> = (0..catalog.len())
            .filter(|name| self.targets[t].objects[*name] != 0 && catalog[*name] == 0)
            .filter(|name| !removed_later(*name))
            .collect();
        if gone.is_empty() {
            let skips = self.is(Mutant::ResyncSkipsWhatCameMeanwhile);
            let upto = if skips { self.committed as u64 } else { upto };
            let target = &mut self.targets[t];
            target.resync = None;
            target.applied = target.applied.max(upto);
            target.recorded = Some(Recorded::Resync);
            target.taken = None;
            self.forget(t);
        } else if !self.is_fenced(t) {
            for name in gone {
                self.request(t, Request::Remove { name });
            }
        }
    }

    /// Sends what is not there yet; true = all of it is there.
    fn copied(&mut self, t: usize, puts: &[(usize, ContentId)]) -> bool {
        let mut replacement = None;
        let mut sent = false;
        for (name, content) in puts.iter().copied() {
            match self.belief(t, name) {
                Some(Belief::Content(there)) if there == content => {}
                None | Some(Belief::Absent) => {
                    self.request(t, Request::Create { name, content });
                    sent = true;
                }
                Some(Belief::Content(_) | Belief::Other) => {
                    replacement.get_or_insert((name, content));
                }
            }
        }
        let Some((name, content)) = replacement else {
            return !sent;
        };
        if !sent && !self.is_fenced(t) {
            let replaces = true;
            self.request(
                t,
                Request::Fenced {
                    name,
                    content,
                    replaces,
                },
            );
        }
        false
    }

    fn belief(&self, t: usize, name: usize) -> Option<Belief> {
        match &self.targets[t].applier {
            Applier::Up { known, .. } => known[name],
            Applier::Down | Applier::Fenced => None,
        }
    }

    fn advance(&mut self, t: usize, next: Phase) {
        self.targets[t].resync = Some(next);
        self.targets[t].taken = None;
        self.forget(t);
    }

    fn forget(&mut self, t: usize) {
        if let Applier::Up { known, .. } = &mut self.targets[t].applier {
            known.fill(None);
        }
    }
}
