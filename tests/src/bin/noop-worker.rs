//! A worker whose handler does nothing: what is left is the cost of phasework itself.

use phasework_sdk::{Context, HandlerError, Worker, WorkerError};

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    Worker::from_env()?
        .handler("Noop", "1.0.0", |_: serde_json::Value, _: Context| async { Ok::<_, HandlerError>(()) })
        .concurrency(256)
        .run()
        .await
}
