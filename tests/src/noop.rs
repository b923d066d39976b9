//! Handlers that do nothing, or as little as their names say: what is left is the cost of phasework itself.

use std::time::{Duration, Instant};

use phasework_sdk::{Context, HandlerError, JobList, Worker};

/// A job of a list, in bytes.
const JOB_BYTES: usize = 200;

/// The output of `Hundred`, in bytes, quotes included.
const OUTPUT_BYTES: usize = 100;

/// How long a job of `Sleep` takes.
pub const SLEEP: Duration = Duration::from_millis(50);

/// Which of every hundred jobs of `Mixed` is a long one.
const LONG_ONE: u64 = 50;

/// How long that takes.
pub const LONG: Duration = Duration::from_secs(10);

/// How long the others of `Mixed` take. Timers are coarser than that, so these jobs compute.
const SHORT: Duration = Duration::from_micros(100);

/// Adds the handlers to `worker`, each with that many slots:
///
/// - `Noop` does nothing and says nothing,
/// - `Hundred` returns 100 bytes,
/// - `Echo` returns its input,
/// - `Sleep` takes 50 ms,
/// - `Mixed` takes 10 s for one job in a hundred and 0.1 ms for each other.
///
/// The first two, asked for a list, make one of as many jobs of 200 bytes as the run's data says.
pub fn handlers(worker: Worker, slots: u32) -> Worker {
    let output = "x".repeat(OUTPUT_BYTES - 2);
    worker
        .handler("Noop", "1.0.0", |_: serde_json::Value, _: Context| async { Ok::<_, HandlerError>(()) })
        .enumerate(list)
        .concurrency(slots)
        .handler("Hundred", "1.0.0", move |_: serde_json::Value, _: Context| {
            let output = output.clone();
            async { Ok::<_, HandlerError>(output) }
        })
        .enumerate(list)
        .concurrency(slots)
        .handler("Echo", "1.0.0", |input: serde_json::Value, _: Context| async { Ok::<_, HandlerError>(input) })
        .concurrency(slots)
        .handler("Sleep", "1.0.0", |_: serde_json::Value, _: Context| async move {
            tokio::time::sleep(SLEEP).await;
            Ok::<_, HandlerError>(())
        })
        .concurrency(slots)
        .handler("Mixed", "1.0.0", |number: u64, _: Context| async move {
            if number % 100 == LONG_ONE {
                tokio::time::sleep(LONG).await;
            } else {
                let began = Instant::now();
                while began.elapsed() < SHORT {
                    std::hint::spin_loop();
                }
            }
            Ok::<_, HandlerError>(())
        })
        .concurrency(slots)
}

async fn list(count: u64, jobs: JobList<String>, _: Context) -> Result<(), HandlerError> {
    for number in 0..count {
        jobs.push(format!("{number:0width$}", width = JOB_BYTES - 2)).await?;
    }
    Ok(())
}
