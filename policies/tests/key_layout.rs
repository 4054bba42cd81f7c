//! Every key of a bucket has one place, and no two repositories share one.
#![allow(clippy::unwrap_used)] // a test that fails may panic

use policies::identity::{Bucket, Repository};
use policies::key::{Class, Configured, InvalidLayout, Layout, ObjectKey, Place};

fn configured(repositories: &[(&str, &str)]) -> Vec<Configured> {
    repositories
        .iter()
        .map(|(repository, base_path)| Configured {
            repository: Repository::new(*repository),
            bucket: Bucket::new("b"),
            base_path: (*base_path).to_owned(),
        })
        .collect()
}

fn layout(repositories: &[(&str, &str)]) -> Layout {
    Layout::new(configured(repositories)).unwrap()
}

fn locate(layout: &Layout, key: &str) -> Place {
    layout.locate(&Bucket::new("b"), &ObjectKey::parse(key).unwrap())
}

/// Where a key lies, in one word or two.
fn told(layout: &Layout, key: &str) -> String {
    match locate(layout, key) {
        Place::In { repository, class } => format!("{repository}: {}", class.label()),
        Place::NestedRoot {
            repository,
            base_path,
        } => format!("{repository}: nested {base_path}"),
        Place::Outside { base_paths } => format!("outside {}", base_paths.join(" ")),
        Place::View(view) => format!(
            "{}@{}: {}",
            view.repository,
            view.generation,
            view.class.label()
        ),
        Place::Reserved => "reserved".to_owned(),
        Place::NoSuchBucket => "no such bucket".to_owned(),
    }
}

fn assert_places(layout: &Layout, table: &[(&str, &str)]) {
    for (key, place) in table {
        assert_eq!(&told(layout, key), place, "{key}");
    }
}

#[test]
fn a_repository_with_a_base_path_owns_what_lies_below_it() {
    let layout = layout(&[("prod", "/clusters/prod/"), ("other", "other")]);
    assert_places(
        &layout,
        &[
            ("clusters/prod/index-4", "prod: root"),
            ("clusters/prod/indices/i/0/__abc", "prod: data"),
            ("clusters/prod/tests-x/master.dat", "prod: registration"),
            ("clusters/prod/readme", "prod: unknown"),
            ("other/index.latest", "other: pointer"),
            ("clusters/prod", "outside clusters/prod other"),
            ("clusters/prod/", "outside clusters/prod other"),
            ("clusters/production/index-4", "outside clusters/prod other"),
            ("index-4", "outside clusters/prod other"),
            // another spelling is another key
            ("/clusters/prod/index-4", "outside clusters/prod other"),
            ("clusters//prod/index-4", "outside clusters/prod other"),
            ("clusters/prod//index-4", "outside clusters/prod other"),
            ("clusters/./prod/index-4", "outside clusters/prod other"),
            ("clusters/x/../prod/index-4", "outside clusters/prod other"),
        ],
    );
}

#[test]
fn a_repository_without_a_base_path_is_the_whole_bucket() {
    for base_path in ["", "/", "//"] {
        let layout = layout(&[("all", base_path)]);
        assert_places(
            &layout,
            &[
                ("index-4", "all: root"),
                ("W11010011000010/indices/i/0/__abc", "all: data"),
                ("W11010011000010/tests-x/master.dat", "all: registration"),
                ("foo/bar", "all: unknown"),
                ("/index-4", "outside "),
            ],
        );
    }
}

#[test]
fn the_longest_base_path_wins() {
    let layout = layout(&[("all", ""), ("a", "a"), ("ab", "a/b")]);
    assert_places(
        &layout,
        &[
            ("index-1", "all: root"),
            ("a/index-1", "a: root"),
            ("a/b/index-1", "ab: root"),
            ("a/bc", "a: unknown"),
        ],
    );
}

#[test]
fn hashed_shard_prefixes_belong_to_the_repository_whose_base_path_they_contain() {
    let layout = layout(&[("all", ""), ("prod", "snaps/prod"), ("old", "snaps")]);
    assert_places(
        &layout,
        &[
            ("W11010011000010/snaps/prod/indices/i/0/__abc", "prod: data"),
            (
                "_11010011000010/snaps/prod/indices/i/1/snap-x.dat",
                "prod: shard_snapshot",
            ),
            (
                "W11010011000010/snaps/prod/tests-x/master.dat",
                "prod: registration",
            ),
            ("snaps/prod/W11010011000010/indices/i/0/__abc", "prod: data"),
            ("W11010011000010/snaps/indices/i/0/__abc", "old: data"),
            ("W11010011000010/indices/i/0/__abc", "all: data"),
            // not what a cluster puts there
            (
                "W11010011000010/snaps/prod/indices/i/meta-x.dat",
                "prod: unknown",
            ),
            ("W11010011000010/snaps/prod/index-1", "all: unknown"),
            (
                "W1101001100001/snaps/prod/indices/i/0/__abc",
                "all: unknown",
            ),
        ],
    );
}

#[test]
fn a_hashed_prefix_without_its_repository_is_outside() {
    let layout = layout(&[("prod", "snaps/prod")]);
    assert_places(
        &layout,
        &[
            (
                "W11010011000010/snaps/other/indices/i/0/__abc",
                "outside snaps/prod",
            ),
            ("W11010011000010/indices/i/0/__abc", "outside snaps/prod"),
            ("W11010011000010/snaps/prod/index-4", "outside snaps/prod"),
        ],
    );
}

#[test]
fn a_repository_inside_a_wider_one_must_be_configured() {
    let wide = layout(&[("all", "")]);
    assert_places(
        &wide,
        &[
            ("x/index-0", "all: nested x"),
            ("x/index.latest", "all: nested x"),
            ("x/tests-abc/master.dat", "all: nested x"),
            ("x/tests-abc/master.dat-temp", "all: nested x"),
            ("x/tests-abc/data-n1.dat", "all: nested x"),
            ("x/y/tests-abc/master.dat", "all: nested x/y"),
            (
                "W11010011000010/x/y/tests-abc/master.dat",
                "all: nested x/y",
            ),
            // a registration of the repository itself, and what only looks like a nested root
            ("tests-abc/master.dat", "all: registration"),
            ("x/y/index-0", "all: unknown"),
            ("indices/i/0/index-0", "all: shard_index"),
            ("x/index", "all: unknown"),
        ],
    );
    let based = layout(&[("prod", "prod")]);
    assert_places(&based, &[("prod/x/index-0", "prod: nested prod/x")]);
    let inner = layout(&[("prod", "prod"), ("x", "prod/x")]);
    assert_places(&inner, &[("prod/x/index-0", "x: root")]);
}

#[test]
fn the_gateways_own_keys_are_reserved_in_every_bucket() {
    for base_path in ["", "prod"] {
        let layout = layout(&[("r", base_path)]);
        assert_places(
            &layout,
            &[
                (".snapgate/anchors/r/00000000000000000001", "reserved"),
                (".snapgate/", "reserved"),
                (".snapgate", "reserved"),
            ],
        );
    }
    assert_places(
        &layout(&[("r", "")]),
        &[
            (".snapgatex", "r: unknown"),
            ("x/.snapgate/y", "r: unknown"),
        ],
    );
}

#[test]
fn a_bucket_exists_because_a_repository_names_it() {
    let layout = layout(&[("r", "")]);
    let place = layout.locate(&Bucket::new("other"), &ObjectKey::parse("index-1").unwrap());
    assert_eq!(place, Place::NoSuchBucket);
    assert_eq!(layout.buckets().count(), 1);
    let here: Vec<_> = layout
        .repositories(&Bucket::new("b"))
        .map(|(r, path)| (r.as_str().to_owned(), path.to_owned()))
        .collect();
    assert_eq!(here, [("r".to_owned(), String::new())]);
}

#[test]
fn the_same_base_path_in_two_buckets_is_two_repositories() {
    let two = ["b", "c"].map(|bucket| Configured {
        repository: Repository::new(bucket),
        bucket: Bucket::new(bucket),
        base_path: "p".to_owned(),
    });
    let layout = Layout::new(two).unwrap();
    for bucket in ["b", "c"] {
        let place = layout.locate(
            &Bucket::new(bucket),
            &ObjectKey::parse("p/index-1").unwrap(),
        );
        assert_eq!(
            place,
            Place::In {
                repository: Repository::new(bucket),
                class: Class::Root(1)
            }
        );
    }
}

#[test]
fn overlapping_repositories_are_refused_with_the_remedy() {
    let refused = |repositories: &[(&str, &str)]| {
        Layout::new(configured(repositories))
            .unwrap_err()
            .to_string()
    };
    insta::assert_snapshot!(
        [
            refused(&[("a", "p/q"), ("b", "p/q")]),
            refused(&[("a", "p"), ("b", "/p/")]),
            refused(&[("a", ""), ("b", "/")]),
            refused(&[("a", "p"), ("b", "p/indices/x")]),
            refused(&[("b", "indices"), ("a", "")]),
            refused(&[("a", ""), ("b", "snapshot_shard_paths/x")]),
            refused(&[("a", ""), ("b", "tests-x")]),
            refused(&[("a", ""), ("b", "temp-analysis-x")]),
            refused(&[("a", ""), ("b", "W11010011000010/x")]),
            refused(&[("a", ".snapgate/x")]),
            refused(&[("a", "p//q")]),
            refused(&[("a", &"p".repeat(641))]),
        ]
        .join("\n"),
        @r"
    repositories 'a' and 'b' overlap: both have base_path 'p/q' in bucket 'b'; give each its own
    repositories 'a' and 'b' overlap: both have base_path 'p' in bucket 'b'; give each its own
    repositories 'a' and 'b' overlap: both have base_path '' in bucket 'b'; give each its own
    repositories 'a' and 'b' overlap: base_path 'p/indices/x' lies among the objects of 'a' (below its 'indices'); choose a base_path beside it
    repositories 'a' and 'b' overlap: base_path 'indices' lies among the objects of 'a' (below its 'indices'); choose a base_path beside it
    repositories 'a' and 'b' overlap: base_path 'snapshot_shard_paths/x' lies among the objects of 'a' (below its 'snapshot_shard_paths'); choose a base_path beside it
    repositories 'a' and 'b' overlap: base_path 'tests-x' lies among the objects of 'a' (below its 'tests-x'); choose a base_path beside it
    repositories 'a' and 'b' overlap: base_path 'temp-analysis-x' lies among the objects of 'a' (below its 'temp-analysis-x'); choose a base_path beside it
    repositories 'a' and 'b' overlap: base_path 'W11010011000010/x' lies among the objects of 'a' (below its 'W11010011000010'); choose a base_path beside it
    base_path '.snapgate/x' of repository 'a' lies below '.snapgate/', which the gateway keeps for itself; choose another
    base_path 'p//q' of repository 'a' contains '//'; write single slashes, as the clusters do
    base_path of repository 'a' is too long or contains NUL
    ");
}

#[test]
fn a_repository_beside_or_properly_inside_another_is_allowed() {
    for pair in [
        [("a", "p"), ("b", "p/q")],
        [("a", ""), ("b", "p")],
        [("a", "p"), ("b", "pq")],
        [("a", "indices"), ("b", "tests-x")],
    ] {
        assert!(
            Layout::new(configured(&pair)).is_ok(),
            "{pair:?} should be allowed"
        );
    }
    assert!(matches!(
        Layout::new(configured(&[("a", "p\0q")])),
        Err(InvalidLayout::NotAKey { .. })
    ));
}

#[test]
fn a_key_with_a_slash_too_many_is_told_to_be_a_twin_of_its_repository() {
    let configured = Configured {
        repository: Repository::new("prod"),
        bucket: Bucket::new("backups"),
        base_path: "es/prod".into(),
    };
    let layout = Layout::new([configured]).unwrap();
    let twin = |key: &str| {
        let key = ObjectKey::parse(key).unwrap();
        let found = layout.twin(&Bucket::new("backups"), &key);
        found.map(|(repository, prefix)| format!("{repository} {prefix}"))
    };
    assert_eq!(twin("es/prod/index-1"), None);
    assert_eq!(twin("es/prod//index-1").as_deref(), Some("prod es/prod//"));
    assert_eq!(twin("/es/prod/index-1").as_deref(), Some("prod /"));
    assert_eq!(twin("es//prod/index-1").as_deref(), Some("prod es//"));
    assert_eq!(twin("elsewhere//index-1"), None, "of no repository");
}
