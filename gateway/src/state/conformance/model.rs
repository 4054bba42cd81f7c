//! Listings of random buckets against a model: a sorted map that is read from end to end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

const CASES: u32 = 192;

/// Two repositories' keys of one bucket, and how they are asked for.
#[derive(Clone, Debug)]
struct Case {
    keys: BTreeMap<String, bool>,
    both: bool,
    prefix: String,
    delimiter: Option<String>,
    after: Option<String>,
    limit: usize,
}

/// Few letters, so that prefixes and delimiters meet; of one to four bytes, so that cuts inside them show.
fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let letter = prop::sample::select(vec![
        'a',
        'b',
        '/',
        '-',
        '\u{1}',
        'é',
        '\u{ffff}',
        '\u{10ffff}',
    ]);
    prop::collection::vec(letter, length).prop_map(String::from_iter)
}

fn case() -> impl Strategy<Value = Case> {
    let delimiter = prop_oneof![
        2 => Just(None),
        4 => Just(Some("/".to_owned())),
        1 => text(1..3).prop_map(Some),
    ];
    let keys = prop::collection::btree_map(text(1..7), any::<bool>(), 0..40);
    (
        keys,
        any::<bool>(),
        text(0..3),
        delimiter,
        prop::option::of(text(1..5)),
        1_usize..8,
    )
        .prop_map(|(keys, both, prefix, delimiter, after, limit)| Case {
            keys,
            both,
            prefix,
            delimiter,
            after,
            limit,
        })
}

impl Case {
    /// The common prefix of a key or of a position; else itself.
    fn entry(&self, key: &str) -> String {
        let below = key.strip_prefix(&*self.prefix);
        let cut = self.delimiter.as_ref().and_then(|delimiter| {
            let end = below?.find(&**delimiter)? + delimiter.len();
            Some(key[..self.prefix.len() + end].to_owned())
        });
        cut.unwrap_or_else(|| key.to_owned())
    }

    /// All that the pages together must show.
    fn expected(&self) -> Vec<String> {
        let visible = self.keys.iter().filter(|(_, first)| self.both || **first);
        let matching = visible.filter(|(key, _)| key.starts_with(&self.prefix));
        let after = self.after.as_ref().map(|after| self.entry(after));
        let entries: BTreeSet<String> = matching
            .filter(|(key, _)| self.after.as_ref().is_none_or(|after| *key > after))
            .map(|(key, _)| self.entry(key))
            .filter(|entry| after.as_ref() != Some(entry))
            .collect();
        entries.into_iter().collect()
    }
}

/// All pages of one random bucket, which is made for it.
async fn pages(state: &dyn State, number: u32, case: &Case) -> Vec<String> {
    let bucket = format!("bucket-{number}");
    let mut worlds = Vec::new();
    for name in ["first", "second"] {
        let mut world = World::at(state, &format!("{name}-{number}"), &bucket).await;
        world.hold(state, 1, "prod").await;
        worlds.push(world);
    }
    for (key, first) in &case.keys {
        worlds[usize::from(!first)].record(state, key).await;
    }
    let shown = if case.both { 2 } else { 1 };
    let mut query = ListQuery {
        bucket: worlds[0].row.bucket,
        repositories: worlds[..shown].iter().map(|w| w.row.id).collect(),
        prefix: case.prefix.clone(),
        delimiter: case.delimiter.clone(),
        after: case.after.clone(),
        limit: case.limit,
    };
    let mut pages = Vec::new();
    loop {
        let page = state.list(&query).await.unwrap();
        let full = page.entries.len() == case.limit;
        assert!(
            full || page.entries.len() < case.limit && !page.truncated,
            "{case:?}"
        );
        let names = page.entries.into_iter().map(|entry| match entry {
            Entry::Object(object) => object.key.to_string(),
            Entry::Prefix(prefix) => prefix,
        });
        pages.extend(names);
        if !page.truncated {
            return pages;
        }
        query.after = pages.last().cloned();
    }
}

/// A case that fails is made as small as it still fails, and printed.
async fn compare(state: &dyn State, cases: impl Strategy<Value = Case>) {
    let mut runner = TestRunner::default();
    let mut number = 0;
    for _ in 0..CASES {
        let mut tree = cases.new_tree(&mut runner).unwrap();
        let mut smallest = None;
        loop {
            let case = tree.current();
            number += 1;
            let seen = pages(state, number, &case).await;
            let smaller = if seen == case.expected() {
                smallest.is_some() && tree.complicate()
            } else {
                smallest = Some((case, seen));
                tree.simplify()
            };
            if !smaller {
                break;
            }
        }
        if let Some((case, seen)) = smallest {
            panic!("{case:?}\nshows {seen:?}\ninstead of {:?}", case.expected());
        }
    }
}

pub async fn pages_of_any_bucket_are_those_of_a_sorted_map(state: &dyn State) {
    compare(state, case()).await;
}

pub async fn pages_of_objects_never_repeat_or_miss_one(state: &dyn State) {
    let plain = case().prop_map(|case| Case {
        both: true,
        prefix: String::new(),
        delimiter: None,
        after: None,
        ..case
    });
    compare(state, plain).await;
}
