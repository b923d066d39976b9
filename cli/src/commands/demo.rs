//! `phasework demo`: a whole system in one process, and one run of the `search` workflow through it. It uses the same
//! parts as a real installation; only the broker and the store are in memory.

mod stage;
mod summary;

use std::path::PathBuf;

use clap::Args;
use phasework_workflows::definition::catalog;
use serde_json::{Value, json};

use self::stage::{Scene, Stage};
use super::run::verdict;
use crate::failure::{Exit, Failure, Outcome};
use crate::follow::{Watched, follow};
use crate::http::read;
use crate::interrupt::Interrupts;
use crate::output::{Stream, note, say};
use crate::routes;
use crate::settings::LogFormat;
use crate::telemetry;
use crate::views::{FailuresPage, Submitted};

/// The workflow that is shown.
const WORKFLOW: &str = "search";

const EXAMPLES: &str = "\
Examples:
  phasework demo                                            a small site about sea birds, served from this process
  phasework demo --query puffin --keep pages/
  phasework demo --site https://www.rust-lang.org --query async --limit 50
  PHASEWORK_LOG=info phasework demo 2> demo.log

The run goes through the phases of `search`: GoogleSearcher looks for pages, PageDownloader gets each (50 at a time,
tried up to 5 times, one in ten may fail for good), JobFinisher sums up. Ctrl-C cancels it.
Exit code 0 when the run succeeded, 1 when it did not.";

/// See a workflow run: everything in one process, nothing to install
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// The site to search; without it a small one about sea birds, served from this process
    #[arg(long, value_name = "URL")]
    site: Option<String>,
    /// The words to search for
    #[arg(long, value_name = "WORDS", default_value = "cliff rock auk")]
    query: String,
    /// How many pages to get at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Keep the pages in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Shows a run.
pub(crate) async fn run(args: DemoArgs) -> Outcome {
    let telemetry = telemetry::log(LogFormat::Text, "off")?;
    let mut interrupts = Interrupts::listen()?;
    let mut stage = Stage::build(args.site.as_deref(), args.keep.as_deref(), telemetry.tracer()).await?;
    let scene = stage.scene();
    introduce(&args, &scene);
    let outcome = tokio::select! {
        biased;
        () = stage.failed() => Err(Failure::new(Exit::Bad, "a part of the demo has died, which is a defect")),
        outcome = play(&args, &scene, &mut interrupts) => outcome,
    };
    tokio::select! {
        biased;
        _ = interrupts.next() => Ok(Exit::Interrupted),
        () = stage.strike() => outcome,
    }
}

fn introduce(args: &DemoArgs, scene: &Scene) {
    let paint = Stream::Err.paint();
    let site = if args.site.is_some() { "" } else { ", a small site about sea birds in this process" };
    note(&format!("{} in one process: engine, broker, store and handlers\n", paint.bold("phasework")));
    for (what, value) in
        [("workflow", paint.cyan(WORKFLOW)), ("site", format!("{}{site}", scene.site)), ("words", args.query.clone())]
    {
        note(&format!("  {} {value}", paint.dim(&format!("{what:<8}"))));
    }
    note("");
}

async fn play(args: &DemoArgs, scene: &Scene, interrupts: &mut Interrupts) -> Outcome {
    let api = &scene.api;
    let (_, definition) = catalog()
        .iter()
        .find(|(name, _)| *name == WORKFLOW)
        .ok_or_else(|| Failure::new(Exit::Bad, format!("the catalog has no workflow `{WORKFLOW}`")))?;
    let data = json!({ "site": scene.site, "query": args.query, "limit": args.limit });
    let submitted: Submitted =
        api.post(&routes::START_RUN, &[], &json!({ "definition": definition, "data": data })).await?;
    let run = submitted.run.as_str();
    let watched = tokio::select! {
        biased;
        _ = interrupts.next() => None,
        watched = follow(api, run, None) => Some(watched?),
    };
    let Some(watched) = watched else {
        api.post::<Value>(&routes::CANCEL, &[run], &json!({ "reason": "Ctrl-C", "deadline": "0s" })).await?;
        note("the run is canceled");
        return Ok(Exit::Interrupted);
    };
    let failures: Value = api.get(&routes::FAILURES, &[run], Default::default()).await?;
    let failures = read::<FailuresPage>(failures)?.failures;
    let Watched { run, timeline, .. } = watched;
    say(&summary::tell(&run, &timeline, &failures, &scene.site, args.keep.as_deref()))?;
    // The server that could tell more ends with the demo.
    verdict(&run).map_err(|failure| Failure { hint: None, ..failure })
}
