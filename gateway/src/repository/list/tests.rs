//! Listings that are longer than a page.

use futures::future::try_join_all;

use super::super::miniature::World;
use crate::state::Put;
use crate::stores::Identity;

/// Keys are sorted by bytes: of many roots the newest is not on the first page, and not on the last.
#[tokio::test]
async fn the_newest_of_more_roots_than_a_page_holds_is_found() {
    let world = World::new().await;
    let permit = world.open.upkeep();
    let roots = (8600..=9800).map(|generation: u64| Put {
        repository: world.open.id,
        bucket: world.open.bucket_id,
        key: world.at(&format!("base/index-{generation}")).key,
        size: 1,
        etag: "-".into(),
        hash: None,
        identity: Identity("-".into()),
        now_ms: 0,
        details: None,
        replaces: None,
        kept: None,
        journalled: true,
        completes: None,
        root: None,
        answer: None,
    });
    let state = world.door.state();
    try_join_all(roots.map(|put| state.record(&permit, put)))
        .await
        .unwrap();
    let newest = world.door.newest_root(&world.open).await.unwrap();
    assert_eq!(newest.map(|(generation, _)| generation), Some(9800));
    assert_eq!(world.door.roots(&world.open).await.unwrap().len(), 1201);
}
