//! snapgate: a storage gateway for Elasticsearch and OpenSearch snapshot repositories.

mod digest;
mod frontend;
mod repository;
mod state;
mod stores;

fn main() {}
