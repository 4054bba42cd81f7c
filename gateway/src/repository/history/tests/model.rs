//! Random lives of a repository with an operator: what a cluster does is never refused, the newest root and every
//! restore point and pin that is held always read as they were, and what is brought back is what was.

use std::time::Duration;

use policies::format::build::{Cluster, Form, Request, Style};
use policies::format::paths::PathType;
use policies::key::Class;
use policies::lock::Lock;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::super::Ask;
use super::life::Life;
use super::operator::{bring_back, dies, new_runtime};
use super::steps::{Step, steps, styles, takes};
use crate::repository::handover;
use crate::repository::miniature::{World, caller_of};

pub struct Model {
    pub life: Life,
    taken: u32,
}

impl Model {
    fn name(&mut self) -> String {
        self.taken += 1;
        format!("nightly-{}", self.taken)
    }

    fn is_legacy(&mut self) -> bool {
        matches!(self.life.cluster().style.form, Form::Legacy { .. })
    }

    fn pick(&mut self, which: u32) -> Option<String> {
        let names = self.life.cluster().snapshot_names();
        let name = names.get(which as usize % names.len().max(1))?;
        Some(name.to_string())
    }

    /// A restore point that is held and is not the newest.
    fn earlier(&self, which: u32) -> Option<u64> {
        let newest = self.life.newest()?;
        let held = self.life.points.keys().filter(|g| **g != newest);
        let held: Vec<_> = held.filter(|g| self.life.is_held(**g)).collect();
        held.get(which as usize % held.len().max(1)).map(|g| **g)
    }

    async fn operation(&mut self, act: impl FnOnce(&mut Cluster)) {
        act(self.life.cluster());
        self.life.perform().await;
    }

    /// Steps of the cluster. False = it is none.
    async fn cluster_step(&mut self, step: &Step) -> bool {
        match step {
            Step::Create(shape) => {
                let name = self.name();
                self.operation(|cluster| cluster.create(&name, &takes(*shape)))
                    .await;
            }
            Step::Pair(shape) => self.pair(*shape).await,
            Step::Delete { which, roots_last } => self.delete(*which, *roots_last).await,
            Step::Clone(which) => {
                if let Some(source) = self.pick(*which) {
                    let target = self.name();
                    self.operation(|cluster| cluster.clone_snapshot(&source, &target))
                        .await;
                }
            }
            Step::Cleanup if !self.is_legacy() => self.operation(Cluster::cleanup).await,
            Step::Upgrade if self.is_legacy() => self.life.cluster().upgrade(true),
            Step::FailoverOfCreate(shape) => self.failover_of_create(*shape).await,
            Step::FailoverOfDelete(which) => self.failover_of_delete(*which).await,
            Step::Cleanup | Step::Upgrade => {}
            Step::Attack(_)
            | Step::Intruder(_)
            | Step::HandOver
            | Step::Time(_)
            | Step::Pin(_)
            | Step::Unpin
            | Step::Rollback { .. }
            | Step::Undelete { .. }
            | Step::Diff(_)
            | Step::Restart => return false,
        }
        true
    }

    async fn pair(&mut self, shape: u32) {
        if self.is_legacy() {
            return;
        }
        let (first, second) = (self.name(), self.name());
        let cluster = self.life.cluster();
        let first = cluster.start(&first, &takes(shape));
        let second = cluster.start(&second, &takes(shape.rotate_left(7)));
        for started in [second, first] {
            self.operation(|cluster| {
                let superseded = cluster.finish(started);
                cluster.after_create(&superseded);
            })
            .await;
        }
    }

    /// Of a pinned snapshot it is refused, and the cluster goes on as if it had not begun.
    async fn delete(&mut self, which: u32, roots_last: bool) {
        let Some(name) = self.pick(which) else {
            return;
        };
        if !self.life.pinned.contains(&name) {
            return self
                .operation(|cluster| cluster.delete(&[&name], roots_last))
                .await;
        }
        let before = self.life.cluster().clone();
        self.life.cluster().delete(&[&name], roots_last);
        let tried = self.life.cluster().clone();
        let mut refused = None;
        for request in self.life.cluster().requests() {
            if let Err(e) = self.life.send(request).await {
                refused = Some(e.to_string());
                break;
            }
        }
        let refused = refused.expect("a pinned snapshot is not dropped");
        assert!(refused.contains("pin"), "{refused}");
        *self.life.cluster() = before;
        self.life.cluster().relist(&tried);
        self.life.relist();
    }

    async fn failover_of_create(&mut self, shape: u32) {
        if self.is_legacy() {
            return;
        }
        let name = self.name();
        let started = self.life.cluster().start(&name, &takes(shape));
        self.life.perform().await;
        let safe = self.life.cluster().clone();
        self.life.cluster().finish(started);
        self.life.perform().await;
        let lost = std::mem::replace(self.life.cluster(), safe);
        self.life.cluster().relist(&lost);
        let next = self.name();
        self.operation(|cluster| {
            cluster.create(&next, &takes(shape.rotate_left(3)));
            cluster.give_up();
        })
        .await;
    }

    async fn failover_of_delete(&mut self, which: u32) {
        if self.is_legacy() {
            return;
        }
        let Some(name) = self.pick(which) else {
            return;
        };
        if self.life.pinned.contains(&name) {
            return;
        }
        let safe = self.life.cluster().clone();
        self.life.cluster().delete_uncommitted(&[&name]);
        self.life.perform().await;
        let lost = std::mem::replace(self.life.cluster(), safe);
        self.life.cluster().relist(&lost);
        let next = self.name();
        self.operation(|cluster| cluster.create(&next, &takes(which)))
            .await;
    }

    /// Steps of everybody else, but those after which the process is another.
    async fn other_step(&mut self, step: &Step) {
        match step {
            Step::Attack(which) => self.attack(*which).await,
            Step::Intruder(which) => self.intrude(*which).await,
            Step::HandOver => self.hand_over().await,
            Step::Time(passed) => {
                self.life.uptime += passed;
                let world = self.life.world();
                world.door.reap(&world.open, *passed).await.unwrap();
            }
            Step::Pin(which) => {
                if let Some(name) = self.pick(*which) {
                    let world = self.life.world();
                    let pinned = world.door.pin(&world.open, &name, None, "test").await;
                    pinned.unwrap();
                    self.life.pinned.insert(name);
                }
            }
            Step::Unpin => {
                if let Some(name) = self.life.pinned.pop_first() {
                    let world = self.life.world();
                    world.door.unpin(&world.open, &name, "test").await.unwrap();
                }
            }
            Step::Diff(which) => {
                let held = |which| self.earlier(which).or(self.life.newest());
                if let (Some(a), Some(b)) = (held(*which), held(which.rotate_left(9))) {
                    self.life.check_difference(a, b).await;
                }
            }
            Step::Create(_)
            | Step::Pair(_)
            | Step::Delete { .. }
            | Step::Clone(_)
            | Step::Cleanup
            | Step::Upgrade
            | Step::FailoverOfCreate(_)
            | Step::FailoverOfDelete(_)
            | Step::Rollback { .. }
            | Step::Undelete { .. }
            | Step::Restart => unreachable!("{step:?} is done elsewhere"),
        }
    }

    /// Every third key. What the newest root needs is refused; before 7.6 clusters delete shard indexes that count, so those
    /// are left out.
    async fn attack(&mut self, which: u32) {
        let keys = self.life.visible.iter().enumerate();
        let keys = keys.filter(|(at, (_, (class, _)))| {
            at % 3 == which as usize % 3 && !matches!(class, Class::ShardIndex { .. })
        });
        let keys: Vec<_> = keys
            .map(|(_, (key, (class, _)))| (key.clone(), class.clone()))
            .collect();
        for (key, class) in keys {
            let needed = self.life.newest().is_some_and(|newest| {
                let then = &self.life.points[&newest];
                if then.root.is_legacy_form() {
                    then.restored.contains(&key)
                } else {
                    then.closure.contains(&key)
                }
            });
            let sent = self.life.send(Request::Delete {
                key: key.clone(),
                class,
            });
            let sent = sent.await;
            assert!(sent.is_err() || !needed, "{key} could be deleted");
        }
    }

    async fn intrude(&mut self, which: u32) {
        if !matches!(self.life.world().open.gate.row().lock, Lock::Held { .. }) {
            return;
        }
        let other = if self.life.holder == "a" { "b" } else { "a" };
        let mut intruder = self.life.cluster().clone();
        intruder.reseed(u64::from(which));
        intruder.create("intruder", &takes(which));
        for request in intruder.requests() {
            let sent = self.life.world().send_as(&caller_of(other), request).await;
            assert!(sent.is_err(), "one repository, one writer");
        }
    }

    async fn hand_over(&mut self) {
        let other = if self.life.holder == "a" { "b" } else { "a" };
        let world = self.life.world();
        let ask = handover::Ask::Lock {
            writer: policies::identity::Cluster::new(other),
            force: false,
            wait_mirror: None,
        };
        world.door.hand_over(&world.open, ask, None).await.unwrap();
        self.life.holder = other;
    }
}

fn step(runtime: &mut Runtime, model: &mut Model, step: &Step) {
    match step {
        Step::Restart => {
            dies(runtime);
            runtime.block_on(model.life.restart());
        }
        Step::Rollback { which, cut } => {
            if let Some(to) = model.earlier(*which) {
                bring_back(runtime, model, &Ask::Rollback(to), *cut);
            }
        }
        Step::Undelete { which, cut } => {
            let newest = model.life.newest();
            let now = newest.map(|newest| model.life.points[&newest].names());
            let held = model.life.points.keys().filter(|g| model.life.is_held(**g));
            let names = held.flat_map(|g| model.life.points[g].names());
            let mut gone: Vec<_> = names
                .filter(|name| now.as_ref().is_some_and(|now| !now.contains(name)))
                .collect();
            gone.sort();
            gone.dedup();
            if let Some(name) = gone.get(*which as usize % gone.len().max(1)) {
                bring_back(runtime, model, &Ask::Undelete(name.clone()), *cut);
            }
        }
        other => runtime.block_on(async {
            if !model.cluster_step(other).await {
                model.other_step(other).await;
            }
        }),
    }
    runtime.block_on(model.life.check());
}

/// `PROPTEST_CASES` asks for more lives than the default of this file.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").map_or(24, |_| ProptestConfig::default().cases);
    ProptestConfig {
        cases,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What one life of the property below came to.
#[test]
fn an_index_of_a_snapshot_that_was_given_up_is_taken_again_after_its_files_were_deleted_by_hand() {
    let style = Style {
        form: Form::Uuid { identified: true },
        path_type: PathType::Fixed,
        deflate: false,
        part_size: None,
    };
    let mut runtime = new_runtime();
    let world = runtime.block_on(World::lasting(0, style, Duration::from_mins(1)));
    let mut model = Model {
        life: Life::new(world, 60_000),
        taken: 0,
    };
    for one in [
        Step::FailoverOfCreate(524_705_501),
        Step::Attack(1_956_631_070),
        Step::Create(116_589_751),
    ] {
        step(&mut runtime, &mut model, &one);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_held_reads_as_it_was_and_nothing_a_cluster_does_is_refused(
        seed in any::<u64>(),
        style in styles(),
        retention in prop_oneof![1 => Just(0_u64), 5 => Just(60_000)],
        steps in steps(),
    ) {
        let mut runtime = new_runtime();
        let world = runtime.block_on(World::lasting(seed, style, Duration::from_millis(retention)));
        let mut model = Model { life: Life::new(world, retention), taken: 0 };
        for one in &steps {
            step(&mut runtime, &mut model, one);
        }
    }
}
