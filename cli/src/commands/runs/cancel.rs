//! `phasework runs cancel`: ends runs, and waits until their jobs have stopped.

use std::time::Duration;

use clap::Args;
use phasework_workflows::time::Millis;
use serde_json::Value;

use super::order::{Carried, Details, Order, OrderArgs, give};
use crate::failure::{Exit, Failure, Outcome};
use crate::follow::until_ended;
use crate::http::Api;
use crate::interrupt::Interrupts;
use crate::length::parse_duration;
use crate::output::note;
use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  phasework runs cancel 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b --reason 'wrong input'
  phasework runs cancel ID ID --deadline 5m     let running jobs take five minutes to stop
  phasework runs cancel ID --deadline 0s        wait for nothing
  phasework runs cancel ID --no-wait
  phasework runs cancel ID --force              a run that is refused as damaged

Jobs that run are told to stop; the run has ended once they have, or when the deadline is over. Until then this command
waits; Ctrl-C stops waiting, not the order. Exit code 1 when a run had ended otherwise before. Canceling again changes
nothing, but for an earlier deadline.";

/// Cancel runs
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    order: OrderArgs,
    /// How long running jobs may go on; 10s if not given
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// End them at once, even if what is stored of them is damaged
    #[arg(long, conflicts_with = "deadline")]
    force: bool,
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
}

/// Cancels runs.
pub(crate) async fn run(args: CancelArgs, session: &Session) -> Outcome {
    let deadline = args.deadline.map(|deadline| Millis::from(deadline).to_string());
    let details = Details { deadline, force: args.force, ..Details::default() };
    let (api, mut report) = give(&args.order, Order::Cancel, details, session).await?;
    let mut is_interrupted = false;
    if !args.no_wait {
        let mut interrupts = Interrupts::listen()?;
        let waited = tokio::select! {
            biased;
            _ = interrupts.next() => {
                is_interrupted = true;
                Ok(())
            }
            waited = wait(&api, &mut report.carried) => waited,
        };
        if let Err(failure) = waited {
            failure.tell();
            report.tell()?;
            return Ok(failure.exit);
        }
    }
    let exit = report.tell()?;
    if is_interrupted {
        note("what is being canceled ends without being watched");
        return Ok(Exit::Interrupted);
    }
    Ok(exit)
}

/// Waits for the end of those that are being canceled.
async fn wait(api: &Api, carried: &mut [Carried]) -> Result<(), Failure> {
    for one in carried.iter_mut().filter(|one| one.state == "canceling") {
        let ended = until_ended(api, &one.run).await?;
        one.answer["state"] = Value::String(ended.state.clone());
        (one.state, one.changed) = (ended.state, true);
    }
    Ok(())
}
