//! The hashers that concurrent uploads share.
//!
//! Decides which streams go through a pass together. A hasher takes up to eight streams from the queue and
//! refills a lane as soon as it is free; with two or more it hashes them in one pass, a lone one goes the
//! plain way. It never waits for partners: when other uploads are under way it only lets their threads run
//! first, a few times, so that on one core their bytes arrive before it begins.
//! Bounded: a stream has at most one piece of work here, and gives no more until it is back.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::lanes::{LANES, compress_eight, compress_one};
use super::{Others, md5_stream::Md5Stream};

/// A lone stream looks for company after so many bytes.
const ALONE: usize = 16 << 10;
/// How often a hasher lets others run before it goes on with few lanes.
const YIELDS: usize = 3;

/// Uploads large enough to come here that are under way.
static STREAMS: AtomicUsize = AtomicUsize::new(0);

static SHARED: LazyLock<&'static Shared> = LazyLock::new(start);

/// Counts a stream while it lives.
#[derive(Debug)]
pub(super) struct Enrolled;

impl Enrolled {
    pub fn new() -> Self {
        STREAMS.fetch_add(1, Ordering::Relaxed);
        Self
    }

    pub fn count() -> usize {
        STREAMS.load(Ordering::Relaxed)
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a stream hands over and gets back.
#[derive(Debug)]
pub(super) struct Running {
    pub md5: Md5Stream,
    pub others: Others,
}

struct Work {
    running: Running,
    pieces: VecDeque<Bytes>,
    back: oneshot::Sender<Running>,
}

struct Shared {
    queue: Mutex<VecDeque<Work>>,
    arrived: Condvar,
}

/// Queues the pieces; the stream comes back when they are hashed.
pub(super) fn hash(running: Running, pieces: VecDeque<Bytes>) -> oneshot::Receiver<Running> {
    let (back, receiver) = oneshot::channel();
    let mut queue = SHARED.queue.lock();
    queue.push_back(Work {
        running,
        pieces,
        back,
    });
    // One hasher takes eight: another is woken only for what is beyond.
    if queue.len() % LANES == 1 {
        SHARED.arrived.notify_one();
    }
    receiver
}

/// Half the cores hash at most; a process has one set of hashers for its whole life.
fn start() -> &'static Shared {
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        queue: Mutex::default(),
        arrived: Condvar::new(),
    }));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for number in 0..cores.div_ceil(2) {
        std::thread::Builder::new()
            .name(format!("hasher-{number}"))
            .spawn(move || work(shared))
            .expect("the system gives a thread at the first upload");
    }
    shared
}

fn work(shared: &Shared) {
    let mut lanes: Vec<Work> = Vec::with_capacity(LANES);
    loop {
        refill(shared, &mut lanes);
        pass(&mut lanes);
        while let Some(at) = lanes.iter().position(|lane| lane.pieces.is_empty()) {
            let Work { running, back, .. } = lanes.swap_remove(at);
            // The upload may have been given up; then nobody waits for the digest.
            drop(back.send(running));
        }
    }
}

/// Takes waiting work into free lanes; blocks only with no work at all.
fn refill(shared: &Shared, lanes: &mut Vec<Work>) {
    // In the middle of a batch the hasher goes on.
    let mut yielded = if lanes.is_empty() { 0 } else { YIELDS };
    let mut queue = shared.queue.lock();
    loop {
        while lanes.len() < LANES
            && let Some(mut work) = queue.pop_front()
        {
            for piece in &work.pieces {
                work.running.others.update(piece);
            }
            work.pieces.retain(|piece| !piece.is_empty());
            lanes.push(work);
        }
        if lanes.is_empty() {
            shared.arrived.wait(&mut queue);
        } else if lanes.len() < Enrolled::count().min(LANES) && yielded < YIELDS {
            yielded += 1;
            parking_lot::MutexGuard::unlocked(&mut queue, std::thread::yield_now);
        } else {
            return;
        }
    }
}

/// Hashes as much as all lanes can go on together.
fn pass(lanes: &mut [Work]) {
    if let [only] = lanes {
        return alone(only);
    }
    for lane in lanes.iter_mut() {
        lane.prepare();
    }
    let mut open: Vec<&mut Work> = lanes
        .iter_mut()
        .filter(|lane| !lane.pieces.is_empty())
        .collect();
    match open.as_mut_slice() {
        [] => {}
        [only] => alone(only),
        several => together(several),
    }
}

fn together(lanes: &mut [&mut Work]) {
    // A lane without a stream repeats another's bytes, and its result is dropped.
    let data: [&[u8]; LANES] = std::array::from_fn(|at| {
        let piece = &lanes[at % lanes.len()].pieces[0];
        &piece[..piece.len() / super::lanes::BLOCK * super::lanes::BLOCK]
    });
    let mut states = std::array::from_fn(|at| lanes[at % lanes.len()].running.md5.state);
    let bytes = compress_eight(&mut states, &data);
    for (lane, state) in lanes.iter_mut().zip(states) {
        lane.running.md5.state = state;
        lane.advance(bytes);
    }
}

fn alone(lane: &mut Work) {
    lane.prepare();
    if let Some(piece) = lane.pieces.front() {
        let whole = piece.len() / super::lanes::BLOCK * super::lanes::BLOCK;
        let bytes = whole.min(ALONE);
        compress_one(&mut lane.running.md5.state, &piece[..bytes]);
        lane.advance(bytes);
    }
}

impl Work {
    /// Brings whole blocks to the front, or ends with no pieces.
    fn prepare(&mut self) {
        while let Some(piece) = self.pieces.front_mut() {
            if !self.running.md5.whole_blocks(piece).is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
    }

    fn advance(&mut self, bytes: usize) {
        if let Some(piece) = self.pieces.front_mut() {
            self.running.md5.hashed(piece, bytes);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}
