//! What must hold in every state.

use policies::key::Class;

use crate::mutant::Mutant;
use crate::world::{FOREIGN, Op, Recorded, World};

impl World {
    /// The invariant that does not hold, with what is wrong.
    pub fn broken(&self) -> Option<String> {
        (0..self.targets.len()).find_map(|t| self.broken_at(t))
    }

    fn broken_at(&self, t: usize) -> Option<String> {
        let target = &self.targets[t];
        let newest = self.newest(t);
        if newest < target.highest {
            return Some(format!(
                "M3: the newest root went back from {:?} to {newest:?}",
                target.highest
            ));
        }
        if let Some(newest) = newest {
            let (name, content) = target
                .objects
                .iter()
                .enumerate()
                .find(|(name, content)| **content != 0 && self.generation(*name) == Some(newest))
                .unwrap();
            if target.promoted && *content < FOREIGN {
                return Some(format!(
                    "M21: '{}' came after the promotion",
                    self.rules.names[name]
                ));
            }
            let of = content.checked_sub(FOREIGN).unwrap_or(newest);
            let closure = self.rules.closures[usize::try_from(of).unwrap()];
            if let Some((lacks, _)) = closure.iter().find(|(name, c)| target.objects[*name] != *c) {
                return Some(format!(
                    "M2: root {newest} lacks '{}'",
                    self.rules.names[*lacks]
                ));
            }
        }
        if let Some(pointer) = self.pointer()
            && let Some(generation) = target.objects[pointer].checked_sub(1)
        {
            let there = |name: usize| {
                target.objects[name] != 0 && self.generation(name) == Some(generation)
            };
            if !(0..target.objects.len()).any(there) {
                return Some(format!(
                    "M4: the pointer names root {generation}, which is not there"
                ));
            }
            if target.promoted && generation != 9 {
                return Some("M21: the pointer was moved after the promotion".into());
            }
        }
        if let Some(poison) = self.rules.poison
            && target.applied >= poison
        {
            return Some("M14: an entry that cannot be copied was passed over".into());
        }
        if target.recorded.is_some() || self.is(Mutant::AppliedWhenSent) && target.applied > 0 {
            return self.equal_to_source(t);
        }
        None
    }

    /// M1, when a position was recorded: the source's state at that position, plus what nothing refers to. After a
    /// reconciliation what the source removed since may be gone already, or be what was there before.
    fn equal_to_source(&self, t: usize) -> Option<String> {
        let target = &self.targets[t];
        if target.promoted {
            return None;
        }
        let mut state = vec![0; self.rules.names.len()];
        let upto = usize::try_from(target.applied).unwrap();
        for (op, sequence) in self.rules.journal[..upto].iter().zip(1..) {
            match op {
                Op::Put(name) => state[*name] = sequence,
                Op::Delete(name) => state[*name] = 0,
            }
        }
        let removed_since = |name: usize| {
            let since = &self.rules.journal[upto..self.committed];
            target.recorded == Some(Recorded::Resync)
                && since
                    .iter()
                    .any(|op| matches!(op, Op::Delete(of) if *of == name))
        };
        for (name, (wanted, there)) in state.iter().zip(&target.objects).enumerate() {
            let right = match (self.class(name), *wanted) {
                (Class::Pointer, _) => true,
                _ if removed_since(name) => true,
                (_, 0) => *there == 0 || !matches!(self.class(name), Class::Root(_)),
                (_, wanted) => wanted == *there,
            };
            if !right {
                return Some(format!(
                    "M1: '{}' is not as the source had it at {upto}",
                    self.rules.names[name]
                ));
            }
        }
        None
    }
}
