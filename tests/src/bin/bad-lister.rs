//! A worker that a drill has to find fault with: each time that it is started, it lists other jobs. How they are other, its
//! only argument says.

use phasework_sdk::{Context, HandlerError, JobList, Worker, WorkerError};

async fn list(_: serde_json::Value, jobs: JobList<u64>, _: Context) -> Result<(), HandlerError> {
    let me = u64::from(std::process::id());
    let how = std::env::args().nth(1).unwrap_or_default();
    match how.as_str() {
        "items" => {
            jobs.push(1).await?;
            jobs.push(me).await
        }
        "length" => {
            for n in 0..=me % 97 {
                jobs.push(n).await?;
            }
            Ok(())
        }
        other => Err(HandlerError::fail(format!("cannot do `{other}`"))),
    }
}

async fn pass(_: u64, _: Context) -> Result<(), HandlerError> {
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    rustls::crypto::ring::default_provider().install_default().expect("the first and only TLS provider");
    Worker::from_env()?.handler("Certify", "1.0.0", pass).enumerate(list).run().await
}
