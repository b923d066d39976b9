//! A worker with the handler that `phasework certify` asks for (docs/certify.md): the SDK is held to the wire format as
//! workers in other languages are.

use std::time::Duration;

use phasework_sdk::{Context, HandlerError, JobList, Worker, WorkerError};
use serde_json::{Value, json};

async fn certify(order: Value, context: Context) -> Result<Value, HandlerError> {
    let text = |field: &str| order[field].as_str().unwrap_or_default().to_owned();
    let number = |field: &str| order[field].as_u64().unwrap_or_default();
    match order["do"].as_str() {
        None => Ok(json!({ "input": order, "data": context.data::<Value>()? })),
        Some("echo") => Ok(order["value"].clone()),
        Some("fail") => Err(HandlerError::retry(text("message"))),
        Some("give-up") => Err(HandlerError::fail(text("message"))),
        Some("wait") => {
            for percent in 0..100 {
                context.progress(percent);
                tokio::time::sleep(Duration::from_millis(number("ms")) / 100).await;
            }
            Ok("waited".into())
        }
        Some("large") => Ok("x".repeat(usize::try_from(number("bytes")).unwrap_or(0)).into()),
        Some(other) => Err(HandlerError::fail(format!("cannot do `{other}`"))),
    }
}

/// Lists as many jobs as the run's data say: each is to give back its number.
async fn list(order: Value, jobs: JobList<Value>, _: Context) -> Result<(), HandlerError> {
    for n in 0..order["list"].as_u64().unwrap_or_default() {
        jobs.push(json!({ "do": "echo", "value": n })).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    rustls::crypto::ring::default_provider().install_default().expect("the first and only TLS provider");
    Worker::from_env()?.handler("Certify", "1.0.0", certify).enumerate(list).concurrency(16).run().await
}
