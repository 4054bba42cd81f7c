//! `barrier` mode: an answer waits for the mirror, and what does not wait.

use policies::identity::Cluster;
use tokio::time::Instant;

use super::*;
use crate::mirror::Mirrors;
use crate::repository::handover::Ask;

/// A world whose roots are acknowledged when the target has them.
async fn barrier() -> Mirrored {
    let m = Mirrored::with_one().await;
    m.mirror.link.plan.write().mode = policies::mirror_order::Mode::Barrier;
    let mirrors = Arc::new(Mirrors::default());
    mirrors.add(Arc::clone(&m.mirror));
    m.world.door.await_witness(mirrors);
    m
}

/// A snapshot's requests up to its root, which is not sent.
pub(super) async fn up_to_the_root(m: &mut Mirrored, name: &str) -> (Request, Vec<Request>) {
    m.world.take(name);
    let mut requests = m.world.cluster.requests();
    let is_root = |request: &Request| match request {
        Request::Put { key, .. } => {
            let name = key.as_str().rsplit('/').next().unwrap();
            name.strip_prefix("index-")
                .is_some_and(|n| n.parse::<u64>().is_ok())
                && key.as_str().matches('/').count() == 1
        }
        Request::Delete { .. } => false,
    };
    let at = requests.iter().position(is_root).unwrap();
    let after = requests.split_off(at + 1);
    let root = requests.pop().unwrap();
    for request in requests {
        m.send(request).await;
    }
    m.note(&root);
    (root, after)
}

/// The source has committed what the mirror does not have.
pub(super) async fn committed(m: &Mirrored) {
    while m.mirror.status().await.unwrap().unwrap().lag.restore_points == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_barrier_holds_the_answer_until_the_mirror_has_the_root() {
    let mut m = barrier().await;
    m.snapshot("two").await;
    let status = m.mirror.status().await.unwrap().unwrap();
    assert_eq!(
        status.lag.restore_points, 0,
        "acknowledged means that the mirror has it"
    );
    m.target.cut(true);
    let (root, after) = up_to_the_root(&mut m, "three").await;
    {
        let mut waiting = std::pin::pin!(m.world.send(root));
        tokio::select! {
            answered = &mut waiting => panic!("{answered:?}"),
            () = committed(&m) => {}
        }
        m.target.cut(false);
        waiting.await.unwrap();
    }
    assert_eq!(newest(&m.target.objects(), "base"), Some(2));
    for request in after {
        m.send(request).await;
    }
    m.until(State::InSync).await;
    m.equal().await;
}

#[tokio::test]
async fn a_barrier_answers_503_after_40_s_a_repeated_request_waits_as_well_and_a_hand_over_does_not()
 {
    let mut m = barrier().await;
    m.target.cut(true);
    let (root, _) = up_to_the_root(&mut m, "two").await;
    {
        let mut waiting = std::pin::pin!(m.world.send(root.clone()));
        tokio::select! {
            answered = &mut waiting => panic!("{answered:?}"),
            () = committed(&m) => {}
        }
        // Nothing but the wait is left to do: from here on its time passes at once.
        tokio::time::pause();
        let began = Instant::now();
        let refused = waiting.await.unwrap_err();
        let held = began.elapsed().as_secs();
        assert!((39..=41).contains(&held), "{held} s");
        assert!(
            matches!(refused, crate::repository::Error::SlowDown(_)),
            "{refused:?}"
        );
        let sentence = refused.to_string();
        for part in [
            "'base/index-1' is committed, but not acknowledged yet",
            "mirror 'far' of repository 'prod' is a barrier and does not have it",
            "snapgate mirror pause prod far --degrade",
        ] {
            assert!(sentence.contains(part), "{sentence}");
        }
        tokio::time::resume();
    }
    // The same request again finds its root committed, and waits as the first did.
    {
        let mut again = std::pin::pin!(m.world.send(root));
        tokio::select! {
            answered = &mut again => panic!("{answered:?}"),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        // Another writer takes over meanwhile, although the mirror is away.
        let ask = Ask::Lock {
            writer: Cluster::new("a"),
            force: true,
            wait_mirror: None,
        };
        m.world
            .door
            .hand_over(&m.world.open, ask, None)
            .await
            .unwrap();
        m.target.cut(false);
        again.await.unwrap();
    }
    assert_eq!(newest(&m.target.objects(), "base"), Some(1));
}

#[tokio::test]
async fn a_barrier_that_an_operator_paused_holds_nobody_up() {
    let mut m = barrier().await;
    m.target.cut(true);
    m.mirror.pause().await.unwrap();
    m.snapshot("two").await;
    let status = m.mirror.status().await.unwrap().unwrap();
    assert_eq!(
        (status.state, status.lag.restore_points),
        (State::Paused, 1)
    );
}
