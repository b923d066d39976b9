//! The handler `Greeter`: what it takes, what it gives, and what it does.

use phasework_sdk::{Context, HandlerError, Worker};
use serde::{Deserialize, Serialize};

/// What a job gets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Input {
    /// Who is to be greeted.
    pub name: String,
}

/// What a job gives.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The greeting.
    pub greeting: String,
}

/// Does one job. Any error has it tried again; [`HandlerError::fail`] does not.
///
/// # Errors
/// When there is nobody to greet.
pub async fn handle(input: Input, ctx: Context) -> Result<Output, HandlerError> {
    if input.name.is_empty() {
        return Err(HandlerError::fail("nobody to greet"));
    }
    ctx.progress(50);
    Ok(Output { greeting: format!("Hello {}", input.name) })
}

/// Every handler of this program. `main` gives them to a worker, and the tests to theirs.
pub fn handlers(worker: Worker) -> Worker {
    worker.handler("Greeter", "0.1.0", handle).concurrency(10)
}
