//! What a network does to requests. All wires of a schedule share one source of chance, and an end to bad weather.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How a network behaves.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shares of requests, of 1000.
    pub lost: u32,
    pub answer_lost: u32,
    pub held: u32,
    pub twice: u32,
    pub busy: u32,
    pub slow: u32,
}

pub const CALM: Weather = Weather {
    lost: 0,
    answer_lost: 0,
    held: 0,
    twice: 0,
    busy: 0,
    slow: 0,
};

/// A slow request is answered while its sender still waits, and longer after it was sent than a hand-over takes.
const SLOW_MS: u64 = 4_000;

/// All wires of a schedule: one source of chance, and an end to bad weather.
#[derive(Clone, Debug)]
pub struct Network {
    random: Arc<Mutex<StdRng>>,
    weather: Weather,
    over: Arc<AtomicBool>,
}

impl Network {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self {
            random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
            weather,
            over: Arc::default(),
        }
    }

    pub fn heal(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn draw(&self) -> Draw {
        let weather = if self.over.load(Ordering::Relaxed) {
            CALM
        } else {
            self.weather
        };
        let mut random = self.random.lock();
        let mut share = random.random_range(0..1000);
        let mut hit = |of: u32| {
            let hit = share < of;
            share = if hit { u32::MAX } else { share - of };
            hit
        };
        let fate = if hit(weather.lost) {
            Fate::Lost
        } else if hit(weather.answer_lost) {
            Fate::AnswerLost
        } else if hit(weather.held) {
            Fate::Held
        } else if hit(weather.twice) {
            Fate::Twice
        } else if hit(weather.busy) {
            Fate::Busy
        } else if hit(weather.slow) {
            Fate::Slow
        } else {
            Fate::Fair
        };
        Draw {
            fate,
            there: Duration::from_millis(random.random_range(0..8)),
            slow: Duration::from_millis(random.random_range(100..SLOW_MS)),
            back: Duration::from_millis(random.random_range(0..8)),
            late: Duration::from_millis(random.random_range(100..120_000)),
        }
    }
}

/// What happens to one request, and how long its ways are.
pub struct Draw {
    pub fate: Fate,
    pub there: Duration,
    pub slow: Duration,
    pub back: Duration,
    pub late: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Fair,
    Lost,
    AnswerLost,
    /// Delivered when its sender has long given up.
    Held,
    Twice,
    Busy,
    /// A hand-over may begin and end while it is on its way.
    Slow,
}
