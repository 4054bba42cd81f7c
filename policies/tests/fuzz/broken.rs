//! Readers that are wrong in each way that the runner must notice: all fail on a byte [`BAD`], whatever stands around it.

use std::hint::black_box;

use crate::child::{SLOW, on_cpu};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Panics,
    /// Recurses as deep as it is told: no panic, the process is gone.
    Overflows,
    Hoards,
    /// Comes back, but late.
    Dawdles,
    Hangs,
}

pub const BAD: u8 = 0xFD;

impl Broken {
    pub fn read(self, input: &[u8]) {
        if !input.contains(&BAD) {
            return;
        }
        match self {
            Self::Panics => panic!("it met a byte that it does not know"),
            Self::Overflows => assert_ne!(dive(1), 0),
            Self::Hoards => drop(black_box(vec![1_u8; 128 << 20])),
            Self::Dawdles => {
                let begun = on_cpu();
                while on_cpu() < begun + SLOW * 2 {}
            }
            Self::Hangs => while black_box(true) {},
        }
    }
}

fn dive(depth: u64) -> u64 {
    if black_box(depth) == 0 {
        return 1;
    }
    dive(depth + 1) + depth
}
