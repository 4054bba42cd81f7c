//! How long the listener waits, and how many it lets in. Times are cut to one second here.

use std::time::{Duration, Instant};

use super::gateway::{A, Gateway};
use super::signer::{Framing, Sent};

const PATH: &str = "/snapshots/base/tests-p/k";

#[tokio::test]
async fn row_42_a_head_that_trickles_is_cut_off() {
    let gateway = Gateway::with(|s| s.limits.header_seconds = 1).await;
    let mut client = gateway.connect().await;
    let started = Instant::now();
    client.send(b"GET / HTTP/1.1\r\n").await;
    let trickle = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = trickle => panic!("still open"),
        closed = client.closed() => assert!(closed),
    }
    assert!(started.elapsed() >= Duration::from_millis(900));
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_outlive_the_time_for_a_head() {
    let gateway = Gateway::with(|s| {
        s.limits.header_seconds = 1;
        s.limits.keep_alive_seconds = 3;
    })
    .await;
    let mut client = gateway.connect().await;
    let started = Instant::now();
    for _ in 0..2 {
        client
            .send(&Sent::new("HEAD", "/snapshots").sign(A).bytes())
            .await;
        client.answer("HEAD").await.ok();
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    assert!(client.closed().await);
    assert!(
        started.elapsed() >= Duration::from_millis(4400),
        "{:?}",
        started.elapsed()
    );
    gateway.stop().await;
}

#[tokio::test]
async fn row_42_a_silent_body_is_given_up() {
    let gateway = Gateway::with(|s| s.limits.body_idle_seconds = 1).await;
    let mut client = gateway.connect().await;
    let signed = Sent::new("PUT", PATH)
        .body(vec![1; 100_000])
        .framed(Framing::Chunks)
        .sign(A);
    client.send(&signed.head).await;
    client.send(&signed.body[..50_000]).await;
    let answer = client.answer("PUT").await.expect(400, "RequestTimeout");
    assert_eq!(answer.header("connection"), "close");
    gateway
        .ask(Sent::new("GET", PATH))
        .await
        .expect(404, "NoSuchKey");
    gateway.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_waited_for() {
    let gateway = Gateway::with(|s| s.limits.body_idle_seconds = 1).await;
    let mut client = gateway.connect().await;
    let signed = Sent::new("PUT", PATH).body(vec![1; 1000]).sign(A);
    client.send(&signed.head).await;
    for piece in signed.body.chunks(200) {
        client.send(piece).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    client.answer("PUT").await.ok();
    gateway.stop().await;
}

#[tokio::test]
async fn row_42_a_client_that_never_reads_is_cut_off() {
    let gateway = Gateway::with(|s| s.limits.write_idle_seconds = 1).await;
    gateway
        .ask(
            Sent::new("PUT", PATH)
                .body(vec![1; 32 << 20])
                .framed(Framing::Chunks),
        )
        .await
        .ok();
    let mut client = gateway.connect().await;
    client.send(&Sent::new("GET", PATH).sign(A).bytes()).await;
    tokio::time::sleep(Duration::from_millis(3000)).await;
    let answer = client.answer("GET").await;
    assert!(answer.body.len() < 32 << 20, "it was sent whole");
    gateway.stop().await;
}

#[tokio::test]
async fn one_address_gets_its_share_of_connections() {
    let gateway = Gateway::with(|s| s.limits.connections_per_ip = 2).await;
    let mut first = gateway.connect().await;
    let mut second = gateway.connect().await;
    for client in [&mut first, &mut second] {
        client
            .send(&Sent::new("HEAD", "/snapshots").sign(A).bytes())
            .await;
        client.answer("HEAD").await.ok();
    }
    assert!(gateway.connect().await.closed().await);
    gateway.stop().await;
}

#[tokio::test]
async fn bodies_beyond_the_memory_are_told_to_slow_down() {
    let gateway = Gateway::with(|s| {
        s.limits.inflight_bytes = 64 * 1024;
        s.limits.inflight_bytes_per_request = 64 * 1024;
    })
    .await;
    let mut slow = gateway.connect().await;
    let signed = Sent::new("PUT", PATH)
        .body(vec![1; 60_000])
        .header("expect", "100-continue")
        .sign(A);
    slow.send(&signed.head).await;
    // The share is taken before `100 Continue` is sent.
    let mut interim = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut slow.stream, &mut interim)
        .await
        .unwrap();
    let other = Sent::new("PUT", "/snapshots/base/tests-p/l").body(vec![1; 60_000]);
    let answer = gateway.ask(other.clone()).await.expect(503, "SlowDown");
    assert_eq!(answer.header("retry-after"), "1");
    gateway.ask(Sent::new("HEAD", "/snapshots")).await.ok();
    slow.send(&signed.body).await;
    slow.answer("PUT").await.ok();
    gateway.ask(other).await.ok();
    gateway.stop().await;
}

#[tokio::test]
async fn shutdown_waits_for_requests_and_not_for_idle_connections() {
    let gateway = Gateway::start().await;
    let mut idle = gateway.connect().await;
    idle.send(&Sent::new("HEAD", "/snapshots").sign(A).bytes())
        .await;
    idle.answer("HEAD").await.ok();
    let mut busy = gateway.connect().await;
    let signed = Sent::new("PUT", PATH)
        .body(vec![1; 10_000])
        .header("expect", "100-continue")
        .sign(A);
    busy.send(&signed.head).await;
    let mut interim = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut busy.stream, &mut interim)
        .await
        .unwrap();
    let started = Instant::now();
    let finish = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        busy.send(&signed.body).await;
        busy.answer("PUT").await.ok();
        assert!(busy.closed().await);
    };
    tokio::join!(gateway.stop(), finish);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(idle.closed().await);
}
