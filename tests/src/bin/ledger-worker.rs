//! A worker for tests of whole processes. Its handler `Note` appends a line to the file in `LEDGER` when a job starts
//! and when it is done; with `HANG_AT` set it hangs for ever in the job with that index, with `BLOCK_AT` it blocks every
//! thread of its runtime there.

use std::fs::OpenOptions;
use std::io::Write as _;

use phasework_sdk::{Context, HandlerError, Worker};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let ledger = std::env::var("LEDGER")?;
    let index_in = |name| std::env::var(name).ok().map(|index| index.parse::<u64>()).transpose();
    let (hang_at, block_at) = (index_in("HANG_AT")?, index_in("BLOCK_AT")?);
    let note = move |index: u64, ctx: Context| {
        let ledger = ledger.clone();
        async move {
            let line = |what: &str| -> std::io::Result<()> {
                // One write of a short line to a file opened for appending is not torn.
                let line = format!("{what} {} {} {index} {}\n", ctx.run(), ctx.phase(), ctx.attempt());
                OpenOptions::new().create(true).append(true).open(&ledger)?.write_all(line.as_bytes())
            };
            line("start")?;
            if hang_at == Some(index) {
                std::future::pending::<()>().await;
            }
            if block_at == Some(index) {
                block_every_thread();
            }
            line("done")?;
            Ok::<_, HandlerError>(index)
        }
    };
    Worker::from_env()?.handler("Note", "1.0.0", note).concurrency(8).run().await?;
    Ok(())
}

/// Never comes back.
fn block_every_thread() {
    for _ in 0..tokio::runtime::Handle::current().metrics().num_workers() {
        tokio::spawn(async {
            loop {
                std::thread::park();
            }
        });
    }
    loop {
        std::thread::park();
    }
}
