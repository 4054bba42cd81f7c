//! Two sites that mirror each other: A's repository lies on B's store, and B's on A's.

use policies::format::build::Style;

use super::watched::Watched;
use super::*;
use crate::repository::miniature::Site;

const A: Site = Site {
    repository: "of-a",
    bucket: "bucket-a",
    base: "of-a",
    retention: Duration::from_secs(60),
};
const B: Site = Site {
    repository: "of-b",
    bucket: "bucket-b",
    base: "of-b",
    retention: Duration::from_secs(60),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sites_mirror_each_other_and_keep_their_hands_off_what_is_not_theirs() {
    let a = World::at_site(A, Style::default()).await;
    let b = World::at_site(B, Style::default()).await;
    let (on_a, on_b) = (
        Watched::new(Arc::clone(&a.store), 1),
        Watched::new(Arc::clone(&b.store), 2),
    );
    let mut a = Mirrored::onto(a, on_b).await;
    let mut b = Mirrored::onto(b, on_a).await;
    for name in ["one", "two", "three"] {
        a.snapshot(name).await;
        b.snapshot(name).await;
        a.kill().await;
    }
    a.delete_snapshot("one").await;
    b.delete_snapshot("three").await;
    // Reconciling looks at everything that lies there.
    a.mirror.resync("a test", false).await.unwrap();
    b.mirror.resync("a test", false).await.unwrap();
    for m in [&a, &b] {
        m.until(State::InSync).await;
        m.equal().await;
        let report = m.mirror.verify(true, &|_, _| {}).await.unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
    }
    let names = |m: &Mirrored<Watched>, base: &str| {
        let objects = m.target.objects();
        objects
            .keys()
            .filter(|k| k.as_str().starts_with(base))
            .count()
    };
    assert!(names(&a, A.base) > 0 && names(&b, B.base) > 0);
    assert_eq!((names(&a, B.base), names(&b, A.base)), (0, 0));
    for m in [&a, &b] {
        let lost = m.source_objects();
        assert!(lost.keys().any(|key| key.ends_with("/index.latest")));
    }
}
