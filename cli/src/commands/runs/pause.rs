//! `phasework runs pause` and `phasework runs resume`: nothing of a run goes out for a while.

use clap::Args;

use super::order::{Details, Order, OrderArgs, give};
use crate::failure::Outcome;
use crate::session::Session;

const PAUSE_EXAMPLES: &str = "\
Examples:
  phasework runs pause 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b --reason 'the site is down'
  phasework runs list --state live --output jsonl | jq -r .run | xargs phasework runs pause

Jobs that are out go on, and count. Nothing else goes out, and the run enters no other phase, until
`phasework runs resume`. Exit code 1 for a run that is neither running nor paused.";

const RESUME_EXAMPLES: &str = "\
Examples:
  phasework runs resume 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b

The run goes on as if it had been slow. Exit code 1 for a run that is neither paused nor running.";

/// Pause runs: let nothing more of them out
#[derive(Args, Debug)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    order: OrderArgs,
}

/// Let paused runs go on
#[derive(Args, Debug)]
#[command(after_help = RESUME_EXAMPLES)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    order: OrderArgs,
}

/// Pauses runs.
pub(crate) async fn pause(args: PauseArgs, session: &Session) -> Outcome {
    give(&args.order, Order::Pause, Details::default(), session).await?.1.tell()
}

/// Lets paused runs go on.
pub(crate) async fn resume(args: ResumeArgs, session: &Session) -> Outcome {
    give(&args.order, Order::Resume, Details::default(), session).await?.1.tell()
}
