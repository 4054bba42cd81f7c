//! Sets of snapshots, by slot: small numbers that a repository's snapshots get while they live.

/// A set of slots. Trailing zero words are cut, so that equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Slots(Vec<u64>);

impl Slots {
    pub(crate) fn insert(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (slot % 64);
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.0
            .get(slot as usize / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub(crate) fn union(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// Keeps only what `other` has too; whether anything was dropped.
    pub(crate) fn keep(&mut self, other: &Self) -> bool {
        let mut dropped = self.0.len() > other.0.len();
        self.0.truncate(other.0.len());
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            dropped |= *word & !other != 0;
            *word &= other;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        dropped
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| at as u32 * 64 + bit)
        })
    }
}

impl FromIterator<u32> for Slots {
    fn from_iter<T: IntoIterator<Item = u32>>(slots: T) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slots_behave_as_a_set(a in prop::collection::btree_set(0..300_u32, 0..20), b in prop::collection::btree_set(0..300_u32, 0..20)) {
            let (x, y): (Slots, Slots) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert_eq!(x.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
            let mut both = x.clone();
            prop_assert_eq!(both.keep(&y), !a.is_subset(&b));
            prop_assert_eq!(&both, &a.intersection(&b).copied().collect::<Slots>());
            let mut either = x.clone();
            either.union(&y);
            prop_assert_eq!(either, a.union(&b).copied().collect::<Slots>());
        }
    }
}
