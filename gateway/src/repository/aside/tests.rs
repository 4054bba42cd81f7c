//! Writes that die before they take effect, and what they leave behind.

use crate::repository::WriteCondition;
use crate::repository::pair::{self, Pair, Place, Side};
use crate::stores::Error;
use crate::stores::faults::{Fault, Gate};
use crate::stores::metrics::Operation;

const DATA: &str = "base/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__Zq3sGkWcTfSf6Y1nC3mBvw";
/// Of a kind whose content may change.
const NOTES: &str = "base/notes.txt";
const FIRST: &str = "what was there first";
const SECOND: &str = "and what was to replace it";

/// The second write of a name died before it was published; the first one's object is deleted before, or not.
async fn died(place: Place, key: &str, deleted: bool) -> Pair {
    let world = Pair::new(place).await;
    world.first.write(key, FIRST).await.unwrap();
    if deleted {
        world.first.delete(key).await;
    }
    world.second.open.contest(&pair::at(key).key);
    let dead = Gate::closed();
    let fault = Fault::Hold(std::sync::Arc::clone(&dead));
    world.second.store.plan(Operation::Publish, fault);
    let second = world.second.put(key, SECOND, WriteCondition::Always);
    dead.reached().await;
    assert_eq!(world.kept().len(), 1, "while it is under way");
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    world
}

#[tokio::test]
async fn a_write_that_did_not_take_effect_leaves_no_second_name_whenever_its_resolver_stops() {
    for (key, deleted) in [(DATA, true), (NOTES, true), (NOTES, false)] {
        let cut = [
            None,
            Some(Fault::FailBefore(Error::Unknown)),
            Some(Fault::FailAfter(Error::Unknown)),
        ];
        for fault in cut {
            let world = died(Place::OneGateway, key, deleted).await;
            let Side { door, open, store } = &world.first;
            let stops = fault.is_some();
            if let Some(fault) = fault {
                store.plan(Operation::Delete, fault);
            }
            assert_eq!(door.resolve_all(open).await.is_err(), stops);
            door.resolve_all(open).await.unwrap();
            assert_eq!(world.kept(), [""; 0], "{key}");
            let there = world.first.content(key).await;
            assert_eq!(there.as_deref(), (!deleted).then_some(FIRST));
            let lies = world.first.in_store(key).await;
            assert_eq!(lies.as_deref(), Some(FIRST), "the retention keeps it");
            world.first.write(key, SECOND).await.unwrap();
            let there = world.first.content(key).await;
            assert_eq!(there.as_deref(), Some(SECOND));
            assert_eq!(world.kept().len(), 1, "for the retention");
        }
    }
}

#[tokio::test]
async fn a_second_name_is_never_used_again() {
    let world = died(Place::OneGateway, DATA, true).await;
    let first = world.kept();
    let Side { door, open, .. } = &world.first;
    door.resolve_all(open).await.unwrap();
    world.first.write(DATA, SECOND).await.unwrap();
    let second = world.kept();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    assert_eq!(first[0][..20], second[0][..20], "of the same content");
}
