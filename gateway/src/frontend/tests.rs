//! The S3 front as clients meet it: a whole gateway on a directory store, spoken to over raw sockets.
//!
//! Requests are signed here by code of their own, so that verifier and signer cannot share a mistake.

mod answers;
mod attacks;
mod attacks_shape;
mod client;
mod gateway;
mod large_reads;
mod life;
mod patience;
mod signer;
mod tls;
mod vectors;
