use std::sync::Arc;

use super::*;
use crate::format::closure::ProblemKind;
use crate::key::Class;

fn names(names: &[&str]) -> Names {
    Names::new(names.iter().map(|name| Arc::from(*name)).collect())
}

fn key() -> ObjectKey {
    ObjectKey::parse("es/indices/Vx/0/__a").unwrap()
}

fn missing() -> Box<Problem> {
    Box::new(Problem {
        key: key(),
        class: Class::Unknown,
        kind: ProblemKind::Missing,
        snapshots: Vec::new(),
    })
}

fn incomplete(problems: usize, hit: &[&str]) -> Reason {
    Reason::Incomplete {
        generation: 7,
        problems,
        first: missing(),
        snapshots: names(hit),
    }
}

/// What somebody reads at three in the morning: what was refused, why, and what to do.
#[test]
fn every_sentence_says_what_is_refused_and_why_and_what_to_do() {
    let reasons = [
        Reason::NotARoot {
            generation: 7,
            error: RootError::Lacks("snapshots"),
        },
        Reason::NotNewer {
            generation: 6,
            highest: 6,
        },
        incomplete(1, &["nightly"]),
        incomplete(3, &["monday", "tuesday"]),
        incomplete(1, &[]),
        Reason::IncompleteSnapshot {
            problems: 2,
            first: missing(),
            snapshots: names(&["nightly"]),
        },
        Reason::Superseded {
            generation: 7,
            index: "logs".into(),
            shard: 0,
            shard_generation: "u1".into(),
        },
        Reason::OtherRepository {
            generation: 7,
            expected: "r1".into(),
            found: Some("r2".into()),
        },
        Reason::OtherCluster {
            generation: 7,
            bound: "c1".into(),
            found: "c2".into(),
        },
        Reason::Pinned {
            generation: 7,
            snapshots: names(&["nightly"]),
        },
        Reason::WriteOnce { key: key() },
        Reason::RootExists { generation: 6 },
        Reason::NotTheSame { key: key() },
        Reason::Needed {
            key: key(),
            snapshots: names(&["monday", "tuesday"]),
        },
        Reason::MayBeNeeded {
            key: key(),
            snapshots: names(&["nightly"]),
        },
        Reason::Indexed { key: key() },
        Reason::NewestRoot {
            generation: 6,
            snapshots: 1,
        },
        Reason::PointerForm { length: 3 },
        Reason::PointerValue {
            value: 5,
            highest: Some(6),
        },
        Reason::StillReading { key: key() },
    ];
    let said = reasons.map(|reason| {
        let repository = Repository::new("prod");
        let refusal = Refusal { repository, reason };
        format!("{}: {refusal}", refusal.reason.label())
    });
    insta::assert_snapshot!(said.join("\n"));
}
