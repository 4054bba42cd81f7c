//! What snapgate decides, as pure functions.
//!
//! Facts in, a decision with its reason out: no async, no input or output, no clock, no logging.
//! Time is an argument and randomness a seed, so every decision can be replayed from its record.

pub mod format;
pub mod guard;
pub mod identity;
pub mod key;
pub mod lock;
pub mod mirror_order;
