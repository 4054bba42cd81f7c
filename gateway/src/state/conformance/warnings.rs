//! Open warnings.

use super::*;
use crate::state::warnings::{MOST, NewWarning, OVERFLOW, Raised};

fn warning(kind: &'static str, subject: &str, at_ms: Millis) -> NewWarning {
    NewWarning {
        kind,
        subject: subject.into(),
        sentence: format!("{subject} is wrong"),
        at_ms,
    }
}

async fn raise(state: &dyn State, world: &World, kind: &'static str, subject: &str) -> Raised {
    let raised = state.raise_warning(world.row.id, warning(kind, subject, 5));
    raised.await.unwrap()
}

async fn subjects(state: &dyn State, world: &World) -> Vec<String> {
    let rows = state.warnings(world.row.id).await.unwrap();
    rows.into_iter()
        .map(|row| format!("{} {}", row.kind, row.subject))
        .collect()
}

pub async fn a_warning_is_open_once_until_it_is_cleared(state: &dyn State) {
    let world = World::vacant(state, "logs").await;
    let other = World::vacant(state, "metrics").await;
    assert_eq!(raise(state, &world, "gone", "a").await, Raised::New);
    assert_eq!(raise(state, &world, "gone", "b").await, Raised::New);
    assert_eq!(raise(state, &world, "twin", "a").await, Raised::New);
    assert_eq!(raise(state, &other, "gone", "a").await, Raised::New);
    let again = state.raise_warning(world.row.id, warning("gone", "a", 9));
    assert_eq!(again.await.unwrap(), Raised::Again);
    let rows = state.warnings(world.row.id).await.unwrap();
    assert_eq!(
        (rows[0].times, rows[0].raised_ms, rows[0].last_ms),
        (2, 5, 9)
    );
    assert_eq!(rows[0].sentence, "a is wrong");
    let cleared = state.clear_warnings(world.row.id, "gone", Some("a"));
    assert_eq!(cleared.await.unwrap()[0], rows[0]);
    assert_eq!(subjects(state, &world).await, ["gone b", "twin a"]);
    let cleared = state.clear_warnings(world.row.id, "gone", Some("a"));
    assert_eq!(cleared.await.unwrap(), []);
    let cleared = state.clear_warnings(world.row.id, "gone", None);
    assert_eq!(cleared.await.unwrap().len(), 1);
    assert_eq!(subjects(state, &world).await, ["twin a"]);
    assert_eq!(subjects(state, &other).await, ["gone a"]);
}

pub async fn warnings_of_one_kind_are_bounded_and_the_rest_is_counted(state: &dyn State) {
    let world = World::vacant(state, "logs").await;
    for n in 0..MOST {
        assert_eq!(
            raise(state, &world, "gone", &format!("{n:03}")).await,
            Raised::New
        );
    }
    assert_eq!(raise(state, &world, "gone", "x").await, Raised::Counted);
    assert_eq!(raise(state, &world, "gone", "y").await, Raised::Counted);
    assert_eq!(raise(state, &world, "gone", "007").await, Raised::Again);
    assert_eq!(raise(state, &world, "twin", "x").await, Raised::New);
    let rows = state.warnings(world.row.id).await.unwrap();
    assert_eq!(rows.len() as u64, MOST + 2);
    assert_eq!((rows[0].subject.as_str(), rows[0].times), (OVERFLOW, 2));
}

pub async fn an_acknowledged_warning_stays_quiet_until_its_cause_is_gone(state: &dyn State) {
    let world = World::vacant(state, "logs").await;
    raise(state, &world, "twin", "a").await;
    raise(state, &world, "twin", "b").await;
    let id = world.row.id;
    let read = state.acknowledge_warnings(id, "twin", Some("a"), 7);
    assert_eq!(read.await.unwrap(), 1);
    let read = state.acknowledge_warnings(id, "twin", Some("none"), 7);
    assert_eq!(read.await.unwrap(), 0);
    assert_eq!(raise(state, &world, "twin", "a").await, Raised::Again);
    let rows = state.warnings(id).await.unwrap();
    assert_eq!(rows[0].acknowledged_ms, Some(7));
    assert_eq!(rows[1].acknowledged_ms, None);
    state.clear_warnings(id, "twin", Some("a")).await.unwrap();
    assert_eq!(raise(state, &world, "twin", "a").await, Raised::New);
    let rows = state.warnings(id).await.unwrap();
    assert_eq!(rows[0].acknowledged_ms, None, "it is another one");
    for n in 0..=MOST {
        raise(state, &world, "gone", &format!("{n:03}")).await;
    }
    let read = state.acknowledge_warnings(id, "gone", None, 8);
    assert_eq!(read.await.unwrap(), MOST + 1);
    raise(state, &world, "gone", "one more").await;
    let rows = state.warnings(id).await.unwrap();
    assert_eq!(
        rows[0].acknowledged_ms, None,
        "there are more than were read"
    );
}
