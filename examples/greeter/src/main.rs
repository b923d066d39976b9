//! The worker: hosts its handlers until it is told to stop.

use phasework_sdk::{Worker, WorkerError, telemetry};

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    let _telemetry = telemetry::init()?;
    greeter::handlers(Worker::from_env()?).run().await
}
