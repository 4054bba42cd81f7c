//! Pages of a bucket.

use super::*;

fn all(world: &World) -> ListQuery {
    ListQuery {
        bucket: world.row.bucket,
        repositories: [world.row.id].into(),
        prefix: String::new(),
        delimiter: None,
        after: None,
        limit: 1000,
    }
}

fn by_folder(world: &World) -> ListQuery {
    ListQuery {
        delimiter: Some("/".into()),
        ..all(world)
    }
}

/// Objects by their keys, common prefixes with a `+`.
pub async fn seen(state: &dyn State, query: &ListQuery) -> (Vec<String>, bool) {
    let listing = state.list(query).await.unwrap();
    let entries = listing.entries.into_iter().map(|entry| match entry {
        Entry::Object(object) => object.key.to_string(),
        Entry::Prefix(prefix) => format!("+{prefix}"),
    });
    (entries.collect(), listing.truncated)
}

async fn fill(state: &dyn State, world: &World, names: &[&str]) {
    for name in names {
        world.record(state, name).await;
    }
}

pub async fn a_listing_is_sorted_by_bytes_and_seen_in_pages(state: &dyn State) {
    let world = World::held(state, "logs").await;
    fill(
        state,
        &world,
        &["é", "b", "a", "Z", "a/b", "a-b", "\u{10000}", "\u{ffff}"],
    )
    .await;
    let sorted = ["Z", "a", "a-b", "a/b", "b", "é", "\u{ffff}", "\u{10000}"];
    assert_eq!(
        seen(state, &all(&world)).await,
        (sorted.map(String::from).to_vec(), false)
    );
    let mut query = ListQuery {
        limit: 3,
        ..all(&world)
    };
    let mut pages = Vec::new();
    loop {
        let (page, truncated) = seen(state, &query).await;
        query.after = page.last().cloned();
        pages.extend(page);
        if !truncated {
            break;
        }
    }
    assert_eq!(pages, sorted);
    let exact = ListQuery {
        limit: sorted.len(),
        ..all(&world)
    };
    assert!(
        !seen(state, &exact).await.1,
        "a full page that is the last says so"
    );
    let listing = state.list(&all(&world)).await.unwrap();
    let looked_up = world.object(state, "Z").await.unwrap();
    assert_eq!(listing.entries[0], Entry::Object(looked_up));
}

pub async fn what_lies_below_a_common_prefix_is_one_entry(state: &dyn State) {
    let world = World::held(state, "logs").await;
    fill(
        state,
        &world,
        &["a", "d/1", "d/2/x", "d/2/y", "d0", "e/", "f//g", "📁/1"],
    )
    .await;
    let expected = ["a", "+d/", "d0", "+e/", "+f/", "+📁/"];
    let (entries, _) = seen(state, &by_folder(&world)).await;
    assert_eq!(entries, expected);
    let below = ListQuery {
        prefix: "d/".into(),
        ..by_folder(&world)
    };
    assert_eq!(seen(state, &below).await.0, ["d/1", "+d/2/"]);
    let part_of_a_name = ListQuery {
        prefix: "d".into(),
        ..by_folder(&world)
    };
    assert_eq!(seen(state, &part_of_a_name).await.0, ["+d/", "d0"]);
    let long_delimiter = ListQuery {
        delimiter: Some("/2/".into()),
        ..all(&world)
    };
    let expected = ["a", "d/1", "+d/2/", "d0", "e/", "f//g", "📁/1"];
    assert_eq!(seen(state, &long_delimiter).await.0, expected);
}

pub async fn a_position_inside_a_common_prefix_passes_it_over(state: &dyn State) {
    let world = World::held(state, "logs").await;
    fill(state, &world, &["d/1", "d/2", "d/3", "e", "f/1"]).await;
    for after in ["d/", "d/1", "d/2", "d/zzz"] {
        let query = ListQuery {
            after: Some(after.into()),
            ..by_folder(&world)
        };
        assert_eq!(seen(state, &query).await.0, ["e", "+f/"], "after {after}");
    }
    for (after, expected) in [
        ("d", vec!["+d/", "e", "+f/"]),
        ("e", vec!["+f/"]),
        ("g", vec![]),
    ] {
        let query = ListQuery {
            after: Some(after.into()),
            ..by_folder(&world)
        };
        assert_eq!(seen(state, &query).await.0, expected, "after {after}");
    }
    let before_the_prefix = ListQuery {
        prefix: "d/".into(),
        after: Some("a".into()),
        ..by_folder(&world)
    };
    assert_eq!(
        seen(state, &before_the_prefix).await.0,
        ["d/1", "d/2", "d/3"]
    );
}

pub async fn other_repositories_objects_are_not_seen(state: &dyn State) {
    let logs = World::held(state, "logs").await;
    let metrics = World::held(state, "metrics").await;
    fill(state, &logs, &["a", "c"]).await;
    fill(state, &metrics, &["b", "d"]).await;
    assert_eq!(
        seen(state, &all(&logs)).await,
        (vec!["a".into(), "c".into()], false)
    );
    let first = ListQuery {
        limit: 2,
        ..all(&logs)
    };
    assert!(
        !seen(state, &first).await.1,
        "what cannot be seen is not more"
    );
    let both = ListQuery {
        repositories: [logs.row.id, metrics.row.id].into(),
        ..all(&logs)
    };
    assert_eq!(seen(state, &both).await.0, ["a", "b", "c", "d"]);
    let none = ListQuery {
        repositories: [].into(),
        ..all(&logs)
    };
    assert_eq!(seen(state, &none).await, (vec![], false));
}

pub async fn a_common_prefix_needs_an_object_that_may_be_seen(state: &dyn State) {
    let logs = World::held(state, "logs").await;
    let metrics = World::held(state, "metrics").await;
    fill(state, &metrics, &["d/1", "e/1", "e/3"]).await;
    fill(state, &logs, &["e/2", "f"]).await;
    assert_eq!(seen(state, &by_folder(&logs)).await.0, ["+e/", "f"]);
}

pub async fn a_page_of_nothing_is_empty_and_not_truncated(state: &dyn State) {
    let world = World::held(state, "logs").await;
    fill(state, &world, &["a"]).await;
    let query = ListQuery {
        limit: 0,
        ..all(&world)
    };
    assert_eq!(seen(state, &query).await, (vec![], false));
}

pub async fn a_walk_sees_every_object_once_and_no_page_of_prefixes_ends_it(state: &dyn State) {
    let world = World::held(state, "logs").await;
    fill(
        state,
        &world,
        &["a", "d/a/1", "d/b/1", "d/c/1", "d/e", "d/f", "z"],
    )
    .await;
    let walk = || Walk::of(state, world.row.bucket, world.row.id);
    assert_eq!(
        walked(walk()).await,
        ["a", "d/a/1", "d/b/1", "d/c/1", "d/e", "d/f", "z"]
    );
    assert_eq!(walked(walk().beside("d/".into())).await, ["d/e", "d/f"]);
    let between = walk().between(Some("d/b/1".into()), Some("d/e".into()));
    assert_eq!(walked(between).await, ["d/c/1", "d/e"]);
    let nothing = walk().between(Some("z".into()), None);
    assert_eq!(walked(nothing).await, Vec::<String>::new());
}

/// In pages of two entries.
async fn walked(mut walk: Walk<'_>) -> Vec<String> {
    walk.query.limit = 2;
    let mut seen = Vec::new();
    while let Some(page) = walk.page().await.unwrap() {
        seen.extend(page.iter().map(|object| object.key.to_string()));
    }
    seen
}
