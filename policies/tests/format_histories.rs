//! Random lives of repositories: nothing that a correct cluster does is refused, and nothing that is needed may go.

#![allow(clippy::unwrap_used, reason = "a test")]

mod repositories;

use policies::format::build::{Cluster, Form, Style, Take};
use policies::format::paths::PathType;
use proptest::prelude::*;
use repositories::world::World;

#[derive(Debug, Clone)]
enum Step {
    Create {
        shape: u32,
    },
    /// Two snapshots at once; the one that started last is finalised first.
    Pair {
        shape: u32,
    },
    Delete {
        which: u32,
        roots_last: bool,
    },
    Clone {
        which: u32,
    },
    Cleanup,
    /// A master commits a root and is lost before the cluster knows of it; the next one goes on from the root before.
    FailoverOfCreate {
        shape: u32,
        again: bool,
    },
    FailoverOfDelete {
        which: u32,
    },
    Upgrade,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u32>().prop_map(|shape| Step::Create { shape }),
        2 => any::<u32>().prop_map(|shape| Step::Pair { shape }),
        3 => any::<(u32, bool)>().prop_map(|(which, roots_last)| Step::Delete { which, roots_last }),
        1 => any::<u32>().prop_map(|which| Step::Clone { which }),
        1 => Just(Step::Cleanup),
        1 => any::<(u32, bool)>().prop_map(|(shape, again)| Step::FailoverOfCreate { shape, again }),
        1 => any::<u32>().prop_map(|which| Step::FailoverOfDelete { which }),
        1 => Just(Step::Upgrade),
    ];
    prop::collection::vec(step, 1..14)
}

fn styles() -> impl Strategy<Value = Style> {
    let form = prop_oneof![
        Just(Form::List),
        Just(Form::Legacy { sequential: true }),
        Just(Form::Legacy { sequential: false }),
        Just(Form::Uuid { identified: true }),
        Just(Form::Uuid { identified: false }),
    ];
    let path_type = prop_oneof![
        Just(PathType::Fixed),
        Just(PathType::HashedPrefix),
        Just(PathType::HashedInfix)
    ];
    (form, path_type, any::<bool>(), prop::option::of(20..60_u64)).prop_map(
        |(form, path_type, deflate, part_size)| {
            // Only OpenSearch writes the path type into the root.
            let path_type = if form == (Form::Uuid { identified: false }) {
                path_type
            } else {
                PathType::Fixed
            };
            Style {
                form,
                path_type,
                deflate,
                part_size,
            }
        },
    )
}

/// One to three indices with one to three shards each, as `shape` says.
fn takes(shape: u32) -> Vec<Take<'static>> {
    let indices = ["books", "films", "songs"];
    let bits = |at: u32, width: u32| shape >> at & ((1 << width) - 1);
    (0..=bits(0, 2).min(2))
        .map(|at| {
            let shards = 1 + bits(2 + at, 1) + bits(5, 1);
            let failed_shard = (bits(6, 3) == 0 && at == 0).then(|| bits(9, 2) % shards);
            let name = indices[((at + bits(11, 2)) % 3) as usize];
            Take {
                index: name,
                shards,
                new_files: bits(13, 2),
                merged_away: bits(15, 2),
                failed_shard,
            }
        })
        .collect()
}

struct Life {
    world: World,
    cluster: Cluster,
    taken: u32,
}

impl Life {
    fn replay(&mut self) {
        for request in self.cluster.requests() {
            let shown = format!("{request:?}").chars().take(300).collect::<String>();
            if let Err(refusal) = self.world.request(request) {
                panic!("refused: {refusal}\n{:?}\n{shown}", refusal.reason);
            }
        }
        self.world.check();
    }

    fn name(&mut self) -> String {
        self.taken += 1;
        format!("nightly-{}", self.taken)
    }

    fn pick(&self, which: u32) -> Option<String> {
        let names = self.cluster.snapshot_names();
        names
            .get(which as usize % names.len().max(1))
            .map(ToString::to_string)
    }

    fn step(&mut self, step: &Step) {
        let list = self.cluster.style.form == Form::List;
        let legacy = list || matches!(self.cluster.style.form, Form::Legacy { .. });
        match step {
            Step::Create { shape } => {
                let name = self.name();
                self.cluster.create(&name, &takes(*shape));
            }
            Step::Pair { shape } if !legacy => {
                let (first, second) = (self.name(), self.name());
                let first = self.cluster.start(&first, &takes(*shape));
                let second = self.cluster.start(&second, &takes(shape.rotate_left(7)));
                let superseded = self.cluster.finish(second);
                self.cluster.after_create(&superseded);
                let superseded = self.cluster.finish(first);
                self.cluster.after_create(&superseded);
            }
            Step::Delete { which, roots_last } => {
                if let Some(name) = self.pick(*which) {
                    self.cluster.delete(&[&name], *roots_last);
                }
            }
            Step::Clone { which } if !list => {
                if let Some(source) = self.pick(*which) {
                    let target = self.name();
                    self.cluster.clone_snapshot(&source, &target);
                }
            }
            Step::Cleanup if !legacy => self.cluster.cleanup(),
            Step::FailoverOfCreate { shape, again } if !legacy => {
                self.failover_of_create(*shape, *again);
            }
            Step::FailoverOfDelete { which } if !legacy => {
                if let Some(name) = self.pick(*which) {
                    let mut lost = self.cluster.clone();
                    lost.delete_uncommitted(&[&name]);
                    let mut requests = lost.requests();
                    for request in requests.drain(..) {
                        self.world.request(request).unwrap();
                    }
                    self.cluster.relist(&lost);
                    self.cluster.requests();
                    let next = self.name();
                    self.cluster.create(&next, &takes(*which));
                }
            }
            Step::Upgrade if list => self.cluster.take_over(),
            Step::Upgrade if legacy => self.cluster.upgrade(true),
            Step::Pair { .. }
            | Step::Clone { .. }
            | Step::Cleanup
            | Step::FailoverOfCreate { .. }
            | Step::FailoverOfDelete { .. }
            | Step::Upgrade => {}
        }
        self.replay();
    }

    fn failover_of_create(&mut self, shape: u32, again: bool) {
        let name = self.name();
        let started = self.cluster.start(&name, &takes(shape));
        self.replay_without_check();
        let mut lost = self.cluster.clone();
        lost.finish(started.clone());
        for request in lost.requests() {
            self.world.request(request).unwrap();
        }
        self.cluster.relist(&lost);
        if again {
            let superseded = self.cluster.finish_again(started);
            self.cluster.after_create(&superseded);
        } else {
            let next = self.name();
            self.cluster.create(&next, &takes(shape.rotate_left(3)));
            self.cluster.give_up();
        }
    }

    fn replay_without_check(&mut self) {
        for request in self.cluster.requests() {
            self.world.request(request).unwrap();
        }
    }
}

/// `PROPTEST_CASES` asks for more lives than the default of this file.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").map_or(64, |_| ProptestConfig::default().cases);
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_a_correct_cluster_does_is_refused_and_nothing_needed_may_go(
        seed in any::<u64>(),
        style in styles(),
        base_path in prop_oneof![Just(""), Just("backups/prod")],
        steps in steps(),
    ) {
        let mut life = Life { world: World::empty(base_path), cluster: Cluster::new(seed, base_path, style), taken: 0 };
        for step in &steps {
            life.step(step);
        }
    }
}
