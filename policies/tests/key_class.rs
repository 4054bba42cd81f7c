//! Every name that a cluster writes into a repository has its class, and nothing else has one.

use policies::key::{Class, Shard, ShardGeneration, Writing};

const U22: &str = "N1fG6vZdTDSvM4VsaJvhFA";
const U20: &str = "Ky-_w7kBq3Zl0aTtXjVA";

fn shard(index: &str, number: u32) -> Shard {
    Shard {
        index: index.into(),
        number,
    }
}

fn data(index: &str, number: u32, blob: &str, part: Option<u32>) -> Class {
    Class::Data {
        shard: shard(index, number),
        blob: blob.into(),
        part,
    }
}

fn shard_index(index: &str, number: u32, generation: ShardGeneration) -> Class {
    Class::ShardIndex {
        shard: shard(index, number),
        generation,
    }
}

fn assert_classes(table: &[(&str, Class)]) {
    for (key, class) in table {
        assert_eq!(&Class::parse(key), class, "{key}");
    }
}

#[test]
fn root_level_names() {
    assert_classes(&[
        ("index-0", Class::Root(0)),
        ("index-42", Class::Root(42)),
        ("index-9223372036854775807", Class::Root(i64::MAX as u64)),
        ("index.latest", Class::Pointer),
        ("index", Class::LegacyList),
        ("incompatible-snapshots", Class::Incompatible),
        (
            "snap-_TQIIJxxTgOq8uJFo6pdDQ.dat",
            Class::SnapshotInfo("_TQIIJxxTgOq8uJFo6pdDQ".into()),
        ),
        (
            "snap--TQIIJxxTgOq8uJFo6pdDQ.dat",
            Class::SnapshotInfo("-TQIIJxxTgOq8uJFo6pdDQ".into()),
        ),
        // 2.x names it after the snapshot
        (
            "snap-nightly-2016.dat.dat",
            Class::SnapshotInfo("nightly-2016.dat".into()),
        ),
        (
            "meta-7At2s17fRAiGb6qTp6dhLg.dat",
            Class::GlobalMetadata("7At2s17fRAiGb6qTp6dhLg".into()),
        ),
        ("snapshot-nightly", Class::LegacySnapshot),
        ("metadata-nightly", Class::LegacySnapshot),
        ("pending-index-4", Class::Pending),
        ("pending-index.latest", Class::Pending),
        ("pending-x", Class::Pending),
    ]);
}

#[test]
fn registration_and_analysis() {
    assert_classes(&[
        (
            "tests-EQAtEF-gQhalBVEzHqVqfQ/master.dat",
            Class::Registration,
        ),
        (
            "tests-EQAtEF-gQhalBVEzHqVqfQ/master.dat-temp",
            Class::Registration,
        ),
        (
            "tests-EQAtEF-gQhalBVEzHqVqfQ/data-ctSLCIy1TZ-a9kcp1u5m7w.dat",
            Class::Registration,
        ),
        ("tests-EQAtEF-gQhalBVEzHqVqfQ-master", Class::Registration),
        // prefix_mode_verification without a base path
        ("W11010011000010/tests-x/master.dat", Class::Registration),
        ("temp-analysis-abc/test-blob-4-xyz", Class::Analysis),
        ("temp-analysis-abc/a/b", Class::Analysis),
    ]);
}

#[test]
fn shard_path_files_of_opensearch() {
    assert_classes(&[
        (
            "snapshot_shard_paths/snapshot_path_N1fG6vZdTDSvM4VsaJvhFA.docs.2.1.1",
            Class::ShardPaths,
        ),
        (
            "snapshot_path_N1fG6vZdTDSvM4VsaJvhFA.docs.2.1.1",
            Class::ShardPaths,
        ),
    ]);
}

#[test]
fn index_level_names() {
    assert_classes(&[
        (
            "indices/N1fG6vZdTDSvM4VsaJvhFA/meta-_TQIIJxxTgOq8uJFo6pdDQ.dat",
            Class::IndexMetadata {
                index: U22.into(),
                id: "_TQIIJxxTgOq8uJFo6pdDQ".into(),
            },
        ),
        // data written before 5.0 lies under the index's name
        (
            "indices/my-index_1/meta-snap1.dat",
            Class::IndexMetadata {
                index: "my-index_1".into(),
                id: "snap1".into(),
            },
        ),
        ("indices/logs/snapshot-nightly", Class::LegacySnapshot),
        ("indices/logs/pending-meta-x.dat", Class::Pending),
    ]);
}

#[test]
fn shard_level_names() {
    assert_classes(&[
        (
            "indices/N1fG6vZdTDSvM4VsaJvhFA/0/__Ky-_w7kBq3Zl0aTtXjVA",
            data(U22, 0, "__Ky-_w7kBq3Zl0aTtXjVA", None),
        ),
        (
            "indices/N1fG6vZdTDSvM4VsaJvhFA/12/___y-_w7kBq3Zl0aTtXjVA.part0",
            data(U22, 12, "___y-_w7kBq3Zl0aTtXjVA", Some(0)),
        ),
        (
            "indices/N1fG6vZdTDSvM4VsaJvhFA/1/__-y-_w7kBq3Zl0aTtXjVA.part17",
            data(U22, 1, "__-y-_w7kBq3Zl0aTtXjVA", Some(17)),
        ),
        ("indices/logs/0/__1z", data("logs", 0, "__1z", None)),
        (
            "indices/logs/0/snap-nightly.dat",
            Class::ShardSnapshot {
                shard: shard("logs", 0),
                uuid: "nightly".into(),
                shallow: false,
            },
        ),
        (
            "indices/logs/0/shallow-snap-abc.dat",
            Class::ShardSnapshot {
                shard: shard("logs", 0),
                uuid: "abc".into(),
                shallow: true,
            },
        ),
        (
            "indices/logs/0/index-7",
            shard_index("logs", 0, ShardGeneration::Number(7)),
        ),
        (
            "indices/logs/0/index-N1fG6vZdTDSvM4VsaJvhFA",
            shard_index("logs", 0, ShardGeneration::Uuid(U22.into())),
        ),
        (
            "indices/logs/0/index-Ky-_w7kBq3Zl0aTtXjVA",
            shard_index("logs", 0, ShardGeneration::Uuid(U20.into())),
        ),
        (
            "indices/logs/3/snapshot-nightly",
            Class::LegacyShardSnapshot {
                shard: shard("logs", 3),
            },
        ),
        ("indices/logs/3/pending-index-4", Class::Pending),
    ]);
}

#[test]
fn hashed_infix_moves_shard_directories_only() {
    assert_classes(&[
        (
            "W11010011000010/indices/N1fG6vZdTDSvM4VsaJvhFA/0/__abc_def_0123456789",
            data(U22, 0, "__abc_def_0123456789", None),
        ),
        (
            "_01010011000010/indices/N1fG6vZdTDSvM4VsaJvhFA/1/snap-x.dat",
            Class::ShardSnapshot {
                shard: shard(U22, 1),
                uuid: "x".into(),
                shallow: false,
            },
        ),
        (
            "W11010011000010/indices/N1fG6vZdTDSvM4VsaJvhFA/meta-x.dat",
            Class::Unknown,
        ),
        ("W11010011000010/index-4", Class::Unknown),
        ("W11010011000010/temp-analysis-x/y", Class::Unknown),
        // 13 digits, 15 digits, a digit that is none, a character outside base64url
        ("W1101001100001/indices/i/0/__a", Class::Unknown),
        ("W110100110000100/indices/i/0/__a", Class::Unknown),
        ("W11010011000012/indices/i/0/__a", Class::Unknown),
        (".11010011000010/indices/i/0/__a", Class::Unknown),
        ("é1010011000010/indices/i/0/__a", Class::Unknown),
    ]);
}

#[test]
fn what_no_cluster_writes_is_unknown() {
    for key in [
        "index-",
        "index-07",
        "index-+7",
        "index--7",
        "index-9223372036854775808",
        "index-abc",
        "index.latest2",
        "snap-.dat",
        "snap-x",
        "meta-x.da",
        "snapshot-",
        "pending-",
        "indices",
        "indices/",
        "indices/logs",
        "indices/logs/",
        "indices//0/__a",
        "indices/logs//__a",
        "indices/logs/0/",
        "indices/logs/00/__a",
        "indices/logs/-1/__a",
        "indices/logs/4294967296/__a",
        "indices/logs/0/v__abc",
        "indices/logs/0/__",
        "indices/logs/0/index-_new",
        "indices/logs/0/index-007",
        "indices/logs/0/a/__b",
        "indices/logs/0//__b",
        "snapshot_shard_paths/",
        "pinned_timestamps/repo__x__1700000000000",
        "/index-1",
        "a/../index-1",
        "readme.txt",
        "x/y/z",
    ] {
        assert_eq!(Class::parse(key), Class::Unknown, "{key}");
    }
}

#[test]
fn only_names_used_once_and_registrations_are_written_without_an_intent() {
    for (key, writing) in [
        ("indices/i/0/__Ky-_w7kBq3Zl0aTtXjVA", Writing::Once),
        ("indices/i/0/__Ky-_w7kBq3Zl0aTtXjVA.part1", Writing::Once),
        ("indices/i/0/index-N1fG6vZdTDSvM4VsaJvhFA", Writing::Once),
        ("indices/i/0/__a", Writing::Commit),
        ("indices/i/0/__1z.part0", Writing::Commit),
        ("indices/i/0/index-7", Writing::Commit),
        ("indices/i/0/snap-x.dat", Writing::Commit),
        ("index-7", Writing::Commit),
        ("readme.txt", Writing::Commit),
        ("tests-x/master.dat", Writing::Free),
        ("temp-analysis-x/y", Writing::Free),
    ] {
        assert_eq!(Class::parse(key).writing(), writing, "{key}");
    }
}
