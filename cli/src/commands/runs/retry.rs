//! `phasework runs retry` and `phasework runs rerun`: a run goes on once the cause of its trouble is mended, if need be
//! with other data.

use clap::Args;
use phasework_workflows::id::PhaseName;
use serde_json::value::RawValue;

use super::order::{Details, Order, OrderArgs, give};
use crate::commands::source;
use crate::failure::{Failure, Outcome};
use crate::session::Session;

const RETRY_EXAMPLES: &str = "\
Examples:
  phasework runs retry 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b --reason 'the disk has room again'
  phasework runs retry ID --data @mended.json
  phasework runs retry ID ID ID

Jobs that had failed for good get all their tries again; what is done stays done. Lists and inputs that were made stay
as they are: `phasework runs rerun` makes them anew. Exit code 1 for a run that has not halted.";

const RERUN_EXAMPLES: &str = "\
Examples:
  phasework runs rerun 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b         the phase it is in, from its beginning
  phasework runs rerun ID --phase fetching-pages
  phasework runs rerun ID --data '{\"query\":\"petrel\"}'

For runs that are running or have halted. What is not done is abandoned, and the phase is entered as if for the first
time. Exit code 1 for a run in any other state, 4 when its workflow has no such phase.";

/// Try again what made runs halt
#[derive(Args, Debug)]
#[command(after_help = RETRY_EXAMPLES)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    order: OrderArgs,
    /// Data in place of the run's: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    data: Option<String>,
}

/// Let runs enter a phase anew
#[derive(Args, Debug)]
#[command(after_help = RERUN_EXAMPLES)]
pub(crate) struct RerunArgs {
    #[command(flatten)]
    order: OrderArgs,
    /// The phase; the one it is in if not given
    #[arg(long, value_name = "NAME")]
    phase: Option<PhaseName>,
    /// Data in place of the run's: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    data: Option<String>,
}

/// Tries again what made runs halt.
pub(crate) async fn retry(args: RetryArgs, session: &Session) -> Outcome {
    let details = Details { data: data(args.data.as_deref())?, ..Details::default() };
    give(&args.order, Order::Retry, details, session).await?.1.tell()
}

/// Lets runs enter a phase anew.
pub(crate) async fn rerun(args: RerunArgs, session: &Session) -> Outcome {
    let details = Details { phase: args.phase, data: data(args.data.as_deref())?, ..Details::default() };
    give(&args.order, Order::Rerun, details, session).await?.1.tell()
}

fn data(given: Option<&str>) -> Result<Option<Box<RawValue>>, Failure> {
    given.map(|given| source::read_json("--data", given)).transpose()
}
