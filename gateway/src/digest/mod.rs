//! Digests of bytes on their way: MD5 for ETags, BLAKE3 for the catalog, and what the client asked for.
//!
//! Decides nothing; computes. MD5 is the dearest of all at 0.7 GB/s a core, so concurrent uploads share a
//! hasher that works on eight streams in one pass ([`lanes`], [`hasher`]). A body of up to [`INLINE`] bytes
//! is hashed where it is: a hop to another thread would cost more. So is all of a body whose MD5 nobody needs,
//! in pieces of that size: what is left is fast.

mod checksum;
mod hasher;
mod lanes;
mod md5_stream;
mod whole;

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::oneshot;

pub use self::checksum::{combine, once};
pub use self::whole::Whole;

use self::hasher::{Enrolled, Running};
use self::md5_stream::Md5Stream;

/// Bodies up to this size are hashed on the caller's thread, in about a tenth of a millisecond.
const INLINE: usize = 64 << 10;
/// Bytes that all streams together collect before they are hashed.
const COLLECTED: usize = 4 << 20;
const PIECES: std::ops::RangeInclusive<usize> = (64 << 10)..=(256 << 10);

/// All digests of one body.
#[derive(Debug)]
pub struct Digests {
    work: Work,
    held: VecDeque<Bytes>,
    held_bytes: usize,
}

#[derive(Debug)]
enum Work {
    /// Everything so far is held.
    Inline(Box<Running>),
    /// Nobody needs the MD5.
    Plain(Box<Others>),
    /// The hasher has the rest.
    Away(oneshot::Receiver<Running>, Enrolled),
    /// The hasher's thread ended, which it never does: digests are not to be had.
    Lost,
}

/// What a body's digests came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sums {
    /// If it was asked for.
    pub md5: Option<[u8; 16]>,
    /// BLAKE3.
    pub hash: [u8; 32],
    /// In the order asked for, each once.
    pub checksums: Vec<(Algorithm, Box<[u8]>)>,
}

/// Everything but MD5: fast enough alone.
#[derive(Debug)]
struct Others {
    hash: Box<blake3::Hasher>,
    checksums: Vec<checksum::Running>,
}

impl Others {
    fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        for checksum in &mut self.checksums {
            checksum.update(bytes);
        }
    }
}

impl Digests {
    #[must_use]
    pub fn new(wanted: &[Algorithm], md5: bool) -> Self {
        let each_once = wanted
            .iter()
            .enumerate()
            .filter(|(at, a)| !wanted[..*at].contains(a));
        let checksums = each_once
            .map(|(_, algorithm)| checksum::Running::new(*algorithm))
            .collect();
        let others = Others {
            hash: Box::default(),
            checksums,
        };
        let work = if md5 {
            let md5 = Md5Stream::new();
            Work::Inline(Box::new(Running { md5, others }))
        } else {
            Work::Plain(Box::new(others))
        };
        Self {
            work,
            held: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// Takes the next bytes; waits when the hashers are slower than the client.
    pub async fn update(&mut self, bytes: &Bytes) {
        self.held_bytes += bytes.len();
        self.held.push_back(bytes.clone());
        let limit = match &self.work {
            Work::Inline(_) | Work::Plain(_) => INLINE,
            Work::Away(..) | Work::Lost => {
                (COLLECTED / Enrolled::count().max(1)).clamp(*PIECES.start(), *PIECES.end())
            }
        };
        if self.held_bytes > limit {
            self.hand_over().await;
        }
    }

    async fn hand_over(&mut self) {
        let pieces = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let (running, enrolled) = match std::mem::replace(&mut self.work, Work::Lost) {
            Work::Inline(running) => (*running, Enrolled::new()),
            Work::Away(back, enrolled) => (
                back.await.expect("a hasher's thread does not end"),
                enrolled,
            ),
            Work::Plain(mut others) => {
                pieces.iter().for_each(|piece| others.update(piece));
                self.work = Work::Plain(others);
                return;
            }
            Work::Lost => unreachable!("an update that was given up is not followed by another"),
        };
        self.work = Work::Away(hasher::hash(running, pieces), enrolled);
    }

    pub async fn finish(mut self) -> Sums {
        if matches!(self.work, Work::Away(..)) && !self.held.is_empty() {
            self.hand_over().await;
        }
        let (md5, mut others) = match self.work {
            Work::Inline(running) => (Some(running.md5), running.others),
            Work::Plain(others) => (None, *others),
            Work::Away(back, _) => {
                let running = back.await.expect("a hasher's thread does not end");
                (Some(running.md5), running.others)
            }
            Work::Lost => unreachable!("an update that was given up is not followed by another"),
        };
        self.held.iter().for_each(|piece| others.update(piece));
        let md5 = md5.map(|mut md5| {
            self.held.into_iter().for_each(|piece| md5.update(piece));
            md5.finish()
        });
        Sums {
            md5,
            hash: others.hash.finalize().into(),
            checksums: others
                .checksums
                .into_iter()
                .map(checksum::Running::finish)
                .collect(),
        }
    }
}

/// A checksum that S3 clients send and ask for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// As in `x-amz-checksum-<name>`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Case does not matter.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use md5::Digest;
    use proptest::prelude::*;

    use super::*;

    async fn sums(pieces: Vec<Bytes>, md5: bool) -> Sums {
        let mut digests = Digests::new(&Algorithm::ALL, md5);
        for piece in &pieces {
            digests.update(piece).await;
        }
        digests.finish().await
    }

    fn expected(content: &[u8]) -> Sums {
        Sums {
            md5: Some(md5::Md5::digest(content).into()),
            hash: blake3::hash(content).into(),
            checksums: Algorithm::ALL
                .map(|a| (a, once(a, content).into()))
                .to_vec(),
        }
    }

    fn body(seed: usize, length: usize) -> Vec<u8> {
        (0..length)
            .map(|at| (at * 31 + at / 251 + seed * 7) as u8)
            .collect()
    }

    #[tokio::test]
    async fn a_checksum_asked_for_twice_is_computed_once() {
        let digests = Digests::new(&[Algorithm::Sha1, Algorithm::Crc32, Algorithm::Sha1], true);
        let got: Vec<Algorithm> = digests
            .finish()
            .await
            .checksums
            .into_iter()
            .map(|(a, _)| a)
            .collect();
        assert_eq!(got, [Algorithm::Sha1, Algorithm::Crc32]);
    }

    #[tokio::test]
    async fn an_upload_that_is_given_up_leaves_the_hashers_working() {
        let mut digests = Digests::new(&[], true);
        digests.update(&body(1, 200_000).into()).await;
        drop(digests);
        let content = body(2, 300_000);
        let sums = sums(vec![content.clone().into()], true).await;
        assert_eq!(sums, expected(&content));
    }

    #[tokio::test]
    async fn without_md5_all_other_digests_are_the_same() {
        for length in [0, 1, 5000, INLINE, INLINE + 1, 5 * INLINE + 77] {
            let content = body(3, length);
            let pieces = content.chunks(4097).map(Bytes::copy_from_slice).collect();
            let expected = Sums {
                md5: None,
                ..expected(&content)
            };
            assert_eq!(sums(pieces, false).await, expected, "{length} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn concurrent_uploads_of_any_size_and_cut_get_their_own_digests(
            uploads in prop::collection::vec((0_usize..400_000, 1_usize..90_000), 1..20),
        ) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            runtime.block_on(async {
                let running: Vec<_> = uploads.iter().enumerate().map(|(seed, (length, cut))| {
                    let content = body(seed, *length);
                    let pieces = content.chunks(*cut).map(Bytes::copy_from_slice).collect();
                    (content, tokio::spawn(sums(pieces, true)))
                }).collect();
                for (content, task) in running {
                    assert_eq!(task.await.unwrap(), expected(&content));
                }
            });
        }
    }

    /// Run alone and in release mode: `cargo test --release digest::tests::throughput -- --ignored --nocapture`.
    #[tokio::test]
    #[ignore = "a measurement, not a check"]
    async fn throughput() {
        const TOTAL: usize = 256 << 20;
        let piece = Bytes::from(body(1, 64 << 10));
        let plain = std::time::Instant::now();
        let mut md5 = md5::Md5::new();
        for _ in 0..TOTAL / piece.len() {
            md5.update(&piece);
        }
        assert_ne!(md5.finalize()[..], [0; 16]);
        println!(
            "md-5 alone: {:.2} GB/s",
            TOTAL as f64 / plain.elapsed().as_secs_f64() / 1e9
        );
        for streams in [1, 2, 4, 8, 16, 64] {
            let begun = std::time::Instant::now();
            let tasks: Vec<_> = (0..streams)
                .map(|_| {
                    let piece = piece.clone();
                    tokio::spawn(async move {
                        let mut digests = Digests::new(&[], true);
                        for _ in 0..TOTAL / streams / piece.len() {
                            digests.update(&piece).await;
                        }
                        digests.finish().await
                    })
                })
                .collect();
            futures::future::try_join_all(tasks).await.unwrap();
            println!(
                "{streams} streams with BLAKE3: {:.2} GB/s",
                TOTAL as f64 / begun.elapsed().as_secs_f64() / 1e9
            );
        }
    }
}
