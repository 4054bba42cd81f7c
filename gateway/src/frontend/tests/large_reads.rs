//! Objects that the kernel sends from its memory: every byte is the object's, whatever is asked for and however slowly it is taken.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::gateway::{A, Gateway};
use super::life::put;
use super::signer::Sent;

const NAME: &str = "/snapshots/base/indices/LFZ3GeksQtukGiXr5ZXdrw/0/__large";

/// No two pieces of it are alike, and none is zeros.
fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        (state >> 24) as u8 | 1
    })
    .take(len)
    .collect()
}

fn get(range: &str) -> Sent {
    Sent::new("GET", NAME).header("range", range)
}

#[tokio::test]
async fn ranges_across_and_on_the_edges_of_pieces_are_exact() {
    let gateway = Gateway::start().await;
    let content = content((3 << 20) + 17);
    gateway.ask(put(NAME, &content)).await.ok();
    assert!(gateway.ask(Sent::new("GET", NAME)).await.ok().body == content);
    let mib = 1 << 20;
    let edges = [0, 1, mib - 1, mib, mib + 1, 2 * mib, content.len() - 1];
    for from in edges {
        for len in [1, 70_000, mib - 1, mib, mib + 1, 2 * mib] {
            let to = (from + len).min(content.len());
            let answer = gateway.ask(get(&format!("bytes={from}-{}", to - 1))).await;
            assert_eq!(answer.status, 206);
            assert!(answer.body == content[from..to], "{from}..{to}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn one_connection_carries_large_and_small_answers_in_turn() {
    let gateway = Gateway::start().await;
    let content = content((2 << 20) + 5);
    gateway.ask(put(NAME, &content)).await.ok();
    let mut client = gateway.connect().await;
    for range in ["bytes=0-", "bytes=5-9", "bytes=1048570-2000000", "bytes=-3"] {
        for _ in 0..2 {
            client.send(&get(range).sign(A).head).await;
            let answer = client.answer("GET").await;
            assert_eq!(answer.status, 206);
            let (from, to) = match range {
                "bytes=0-" => (0, content.len()),
                "bytes=5-9" => (5, 10),
                "bytes=-3" => (content.len() - 3, content.len()),
                _ => (1_048_570, 2_000_001),
            };
            assert!(answer.body == content[from..to], "{range}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_its_answer_slowly_gets_the_same_bytes() {
    let gateway = Gateway::start().await;
    let content = content(8 << 20);
    gateway.ask(put(NAME, &content)).await.ok();
    let mut client = gateway.connect().await;
    client.send(&Sent::new("GET", NAME).sign(A).head).await;
    let mut taken = Vec::new();
    let mut chunk = vec![0; 300_000];
    while taken.len() < content.len() {
        // The socket's buffers fill meanwhile: pieces are sent in part.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let n = client.stream.read(&mut chunk).await.unwrap();
        assert!(n > 0);
        taken.extend_from_slice(&chunk[..n]);
        if let Some(end) = memchr::memmem::find(&taken, b"\r\n\r\n")
            && taken.starts_with(b"HTTP/1.1 200")
        {
            taken.drain(..end + 4);
        }
    }
    assert!(taken == content);
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_cut_short_under_an_answer_ends_the_connection_instead_of_filling_it_up() {
    let gateway = Gateway::start().await;
    let content = content(16 << 20);
    gateway.ask(put(NAME, &content)).await.ok();
    let mut client = gateway.connect().await;
    client.send(&Sent::new("GET", NAME).sign(A).head).await;
    let mut taken = vec![0; 64 << 10];
    client.stream.read_exact(&mut taken).await.unwrap();
    gateway.cut_short(NAME, 1 << 20);
    client.stream.read_to_end(&mut taken).await.ok();
    let head = memchr::memmem::find(&taken, b"\r\n\r\n").unwrap() + 4;
    assert!(taken.len() - head < content.len());
    assert!(content.starts_with(&taken[head..]));
    gateway.stop().await;
}
