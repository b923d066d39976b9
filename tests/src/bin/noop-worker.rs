//! A worker whose handlers do nothing, with as many slots for each as its one argument says.

use phasework_sdk::{Worker, WorkerError};
use phasework_tests::noop;

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    let slots = std::env::args().nth(1).and_then(|slots| slots.parse().ok()).unwrap_or(256);
    noop::handlers(Worker::from_env()?, slots).run().await
}
