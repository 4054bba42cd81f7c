//! What people read around a hand-over and when a second cluster uses the holder's keys.

use policies::identity::{Bucket, Cluster, Epoch, Repository};
use policies::lock::handover::{self, Change, Product};
use policies::lock::{Binding, identity_binding};

fn bind(bound: Option<&str>, named: Option<&str>) -> Result<Binding, policies::lock::OtherCluster> {
    identity_binding(
        &Repository::new("prod"),
        &Cluster::new("prod-eu"),
        Epoch(7),
        bound,
        named,
    )
}

#[test]
fn the_first_root_of_an_epoch_that_names_a_cluster_binds_it() {
    assert_eq!(bind(None, Some("Cu1")), Ok(Binding::Bind("Cu1".into())));
    assert_eq!(bind(Some("Cu1"), Some("Cu1")), Ok(Binding::Keep));
}

#[test]
fn a_root_that_names_nobody_neither_binds_nor_is_refused() {
    assert_eq!(bind(None, None), Ok(Binding::Keep));
    assert_eq!(bind(Some("Cu1"), None), Ok(Binding::Keep));
}

#[test]
fn a_second_cluster_with_the_holders_keys_is_refused_with_both_ids() {
    let refused = bind(Some("Cu1"), Some("Cu2")).expect_err("two ids in one epoch");
    insta::assert_snapshot!(refused.to_string());
}

#[test]
fn a_hand_over_says_what_to_do_on_which_cluster() {
    let change = |from: Option<&str>, base_path: &str| Change {
        repository: Repository::new("prod"),
        bucket: Bucket::new("es-backups"),
        base_path: base_path.to_owned(),
        from: from.map(Cluster::new),
        to: Cluster::new("dr-us"),
    };
    let texts = [
        handover::text(
            &change(Some("prod-eu"), "cluster-production"),
            Product::Elasticsearch,
        ),
        handover::text(
            &change(Some("prod-eu"), "cluster-production"),
            Product::OpenSearch,
        ),
        handover::text(&change(None, ""), Product::OpenSearch),
        handover::text(&change(Some("dr-us"), ""), Product::Elasticsearch),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}
