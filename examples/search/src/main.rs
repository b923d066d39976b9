//! The worker of the search example: hosts its handlers until it is told to stop.

use phasework_sdk::Worker;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,lapin=off"));
    // A log that nobody reads any more is no reason to stop working.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.log_internal_errors(false).init();
    Ok(phasework_example_search::worker(Worker::from_env()?).run().await?)
}
