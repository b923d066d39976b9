//! `phasework runs follow`: watches a run that was started before.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;
use phasework_workflows::id::RunId;

use crate::commands::run::watch;
use crate::complete;
use crate::failure::Outcome;
use crate::length::parse_duration;
use crate::session::{Form, Server, Session};

const EXAMPLES: &str = "\
Examples:
  phasework runs follow 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b
  phasework runs follow ID --timeout 10m --output json | jq .output

As `phasework run --follow`: exit code 0 when the run succeeded, 1 when it failed, was canceled, halted, or had not
ended in time. Ctrl-C stops watching; the run goes on.";

/// Watch a run until it is over, then print its result
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FollowArgs {
    /// The run
    #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::live_runs))]
    run: RunId,
    /// How long to watch
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// Watches a run.
pub(crate) async fn run(args: FollowArgs, session: &Session) -> Outcome {
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    watch(&api, &args.run.to_string(), "is watched", args.timeout, format).await
}
