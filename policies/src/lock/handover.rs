//! The steps that the clusters' operators take around a hand-over.
//!
//! The gateway fences the old writer whatever the clusters do; these steps spare both of them errors.
//! Elasticsearch and OpenSearch cache the repository's generation while it is registered, and putting
//! the same registration again keeps that cache: so the old writer is made read-only before, and the
//! new one registers afresh after.

use std::fmt;

use crate::identity::{Bucket, Cluster, Repository};

/// One hand-over, as its instructions need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub repository: Repository,
    pub bucket: Bucket,
    /// Without slashes at either end.
    pub base_path: String,
    pub from: Option<Cluster>,
    pub to: Cluster,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Product {
    Elasticsearch,
    OpenSearch,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elasticsearch => "Elasticsearch",
            Self::OpenSearch => "OpenSearch",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    Before,
    After,
}

/// One request to a cluster, with what it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    pub when: When,
    pub cluster: Cluster,
    pub why: String,
    /// `METHOD path`
    pub request: String,
    pub body: Option<serde_json::Value>,
}

/// What to do on which cluster, in order. `product` is what both clusters run; where they differ, take
/// each cluster's part from its own list.
#[must_use]
pub fn steps(change: &Change, product: Product) -> Vec<Instruction> {
    let mut steps = vec![];
    if let Some(from) = change.from.as_ref().filter(|from| **from != change.to) {
        steps.extend(before(change, from, product));
    }
    steps.extend(after(change, product));
    steps
}

fn before(change: &Change, from: &Cluster, product: Product) -> [Instruction; 3] {
    let name = &change.repository;
    let stop = match product {
        Product::Elasticsearch => "POST _slm/stop",
        Product::OpenSearch => "POST _plugins/_sm/policies/<policy>/_stop",
    };
    let step = |why: &str, request: String, body| Instruction {
        when: When::Before,
        cluster: from.clone(),
        why: why.to_owned(),
        request,
        body,
    };
    [
        step(
            "no new snapshot starts by itself (each policy that writes to this repository)",
            stop.to_owned(),
            None,
        ),
        step(
            "wait until the answer is empty: a snapshot that runs into the hand-over fails",
            format!("GET _snapshot/{name}/_current"),
            None,
        ),
        step(
            "keep the settings it has (GET the registration), add readonly; or unregister it with DELETE",
            format!("PUT _snapshot/{name}"),
            Some(registration(change, true)),
        ),
    ]
}

fn after(change: &Change, product: Product) -> Vec<Instruction> {
    let name = &change.repository;
    let step = |why: &str, request: String, body| Instruction {
        when: When::After,
        cluster: change.to.clone(),
        why: why.to_owned(),
        request,
        body,
    };
    let start = match product {
        Product::Elasticsearch => "POST _slm/start",
        Product::OpenSearch => "POST _plugins/_sm/policies/<policy>/_start",
    };
    vec![
        step(
            "forget the generation it has cached (404 is fine); this deletes no snapshot",
            format!("DELETE _snapshot/{name}"),
            None,
        ),
        step(
            "register it as the writer",
            format!("PUT _snapshot/{name}"),
            Some(registration(change, false)),
        ),
        step(
            "let the snapshot policies run again, if this cluster has any",
            start.to_owned(),
            None,
        ),
    ]
}

fn registration(change: &Change, readonly: bool) -> serde_json::Value {
    let mut settings = serde_json::Map::new();
    settings.insert("bucket".into(), change.bucket.as_str().into());
    if !change.base_path.is_empty() {
        settings.insert("base_path".into(), change.base_path.as_str().into());
    }
    if readonly {
        settings.insert("readonly".into(), true.into());
    }
    serde_json::json!({ "type": "s3", "settings": settings })
}

/// The instructions as a person reads them.
#[must_use]
pub fn text(change: &Change, product: Product) -> String {
    let mut text = format!("If the clusters run {product}:\n");
    for instruction in steps(change, product) {
        let Instruction {
            when,
            cluster,
            why,
            request,
            body,
        } = instruction;
        let when = match when {
            When::Before => "before",
            When::After => "after ",
        };
        text.push_str(&format!("  {when}  on {cluster}: {request}"));
        if let Some(body) = body {
            text.push_str(&format!("  {body}"));
        }
        text.push_str(&format!("\n          ({why})\n"));
    }
    text
}
