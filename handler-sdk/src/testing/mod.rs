//! For the tests of handlers and of workflows: nothing here needs a broker, a store or a coordinator.
//!
//! [`TestContext`] makes up what a handler may know of its job, to call it by hand or, with [`TestContext::call`], as a
//! worker would. [`TestRun`] runs a whole workflow, some of its handlers real and some made up, in the engine's own
//! state machine and with its retries, lists and transitions, and says what became of it. Waits take no time.
//!
//! ```
//! # use phasework_sdk::{Context, HandlerError, testing::TestRun};
//! # use serde_json::json;
//! async fn download(url: String, _: Context) -> Result<usize, HandlerError> {
//!     Ok(url.len())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), phasework_sdk::testing::TestError> {
//! let run = TestRun::of(json!({
//!     "workflow": "search",
//!     "phases": {
//!         "searching": { "is_initial": true, "handlers": ["Searcher"], "transitions_to": "fetching" },
//!         "fetching": {
//!             "handlers": [{ "name": "Downloader", "for_each": "outputs.searching.Searcher.urls" }],
//!             "transitions_to": "finished"
//!         },
//!         "finished": { "is_final": true }
//!     },
//!     "output": "{{ outputs.fetching.Downloader }}"
//! }))
//! .data(&json!({ "query": "birds" }))
//! .handler("Downloader", "1.0.0", download)
//! .mock("Searcher", |input| json!({ "urls": [input["query"], "b"] }))
//! .failing(2, HandlerError::retry_after("too many requests", std::time::Duration::from_secs(3600)))
//! .run()
//! .await?;
//!
//! assert_eq!((run.state(), run.phases()), ("succeeded", vec!["searching", "fetching", "finished"]));
//! assert_eq!(run.output::<Vec<usize>>(), [5, 1]);
//! assert_eq!(run.calls_of("Searcher").len(), 3);
//! assert_eq!(run.calls_of("Downloader")[0].input::<String>(), "birds");
//! assert!(run.took() >= std::time::Duration::from_secs(7200)); // of the run's time, not of yours
//! # Ok(())
//! # }
//! ```

mod call;
mod context;
mod driver;
mod ended;
mod given;
mod outside;
mod run;

pub use self::call::Call;
pub use self::context::TestContext;
#[cfg(test)]
pub(crate) use self::context::group;
pub use self::ended::EndedRun;
pub use self::run::{TestError, TestRun};
pub use crate::batch::Verdict;
pub use phasework_workflows::message::outcome::JobError;
