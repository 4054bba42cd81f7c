use super::*;

fn parse(json: &str) -> Root {
    Root::parse(1, json.as_bytes()).unwrap()
}

#[test]
fn a_root_of_5_0_names_snapshots_by_objects() {
    let root = parse(
        r#"{"snapshots":[{"name":"a","uuid":"Sa"}],"indices":{"logs":{"id":"Ix","snapshots":[{"name":"a","uuid":"Sa"}]}}}"#,
    );
    assert!(root.is_legacy_form());
    assert_eq!(root.snapshots[0].state, None);
    assert_eq!(root.indices[0].snapshots, [0]);
    assert_eq!(&**root.index_metadata_id(&root.indices[0], 0), "Sa");
    assert_eq!(*root.indices[0].generation(0), Generation::Unknown);
}

#[test]
fn a_snapshot_of_2_x_has_its_name_as_uuid() {
    let root = parse(
        r#"{"snapshots":[{"name":"two-c"}],"indices":{"films":{"id":"films","snapshots":["two-c"]}}}"#,
    );
    assert_eq!(&*root.snapshots[0].uuid, "two-c");
}

#[test]
fn every_kind_of_shard_generation_is_told_apart() {
    let root = parse(
        r#"{"snapshots":[{"name":"a","uuid":"Sa","state":1,"version":"7.8.1"}],
            "indices":{"logs":{"id":"Ix","snapshots":["Sa"],"shard_generations":["Ga",null,"_new","12","_Gx",3]}},
            "min_version":"7.6.0"}"#,
    );
    let found: Vec<_> = (0..8)
        .map(|shard| root.indices[0].generation(shard).clone())
        .collect();
    let uuid = |text: &str| Generation::Uuid(text.into());
    let unknown = Generation::Unknown;
    let expected = [
        uuid("Ga"),
        unknown.clone(),
        Generation::New,
        unknown.clone(),
        uuid("_Gx"),
        unknown.clone(),
        unknown.clone(),
        unknown,
    ];
    assert_eq!(found, expected);
    assert!(!root.is_legacy_form());
}

#[test]
fn opensearch_3_has_no_min_version_and_is_not_legacy() {
    let root = parse(
        r#"{"snapshots":[{"name":"a","uuid":"Sa","state":1,"index_metadata_lookup":{"Ix":"I1"},"version":"3.8.0"}],
            "indices":{"logs":{"id":"Ix","shard_path_type":1,"snapshots":["Sa"],"shard_generations":["Ga"]}},
            "index_metadata_identifiers":{"I1":"mB"}}"#,
    );
    assert!(!root.is_legacy_form());
    assert_eq!(root.indices[0].path_type, PathType::HashedPrefix);
    assert_eq!(&**root.index_metadata_id(&root.indices[0], 0), "mB");
}

#[test]
fn a_lookup_without_an_entry_falls_back_to_the_snapshot_uuid() {
    let root = parse(
        r#"{"min_version":"7.12.0","uuid":"R","cluster_id":"C",
            "snapshots":[{"name":"a","uuid":"Sa","state":1,"index_metadata_lookup":{},"version":"8.11.0","index_version":8537000}],
            "indices":{"logs":{"id":"Ix","snapshots":["Sa"],"shard_generations":[]}},"index_metadata_identifiers":{}}"#,
    );
    assert!(!root.is_legacy_form());
    assert_eq!(&**root.index_metadata_id(&root.indices[0], 0), "Sa");
}

#[test]
fn unknown_fields_are_reported_and_tolerated() {
    let root = parse(
        r#"{"snapshots":[{"name":"a","uuid":"Sa","mood":[1]}],"indices":{"i":{"id":"I","snapshots":[],"hue":{}}},"era":9}"#,
    );
    assert_eq!(root.unknown_fields, ["era", "hue", "mood"]);
}

#[test]
fn what_is_no_root_says_why() {
    let refused = |json: &str| Root::parse(1, json.as_bytes()).unwrap_err();
    assert!(matches!(refused("{\"snapshots\":["), RootError::Json(_)));
    assert_eq!(refused(r#"{"indices":{}}"#), RootError::Lacks("snapshots"));
    assert_eq!(refused(r#"{"snapshots":[]}"#), RootError::Lacks("indices"));
    assert!(matches!(
        refused(r#"{"snapshots":[{"name":"a"},{"name":"b","uuid":"a"}],"indices":{}}"#),
        RootError::Twice(_)
    ));
    assert!(matches!(
        refused(r#"{"snapshots":[],"indices":{"i":{"id":"I","snapshots":["gone"]}}}"#),
        RootError::UnknownSnapshot { .. }
    ));
    assert!(matches!(
        refused(r#"{"snapshots":[],"indices":{"i":{"id":"../I","snapshots":[]}}}"#),
        RootError::Name(_)
    ));
    assert!(matches!(
        refused(
            r#"{"snapshots":[],"indices":{"i":{"id":"I","snapshots":[]},"j":{"id":"I","snapshots":[]}}}"#
        ),
        RootError::IndexTwice(_)
    ));
}
