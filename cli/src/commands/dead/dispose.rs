//! `phasework dead requeue` and `phasework dead drop`: what is to become of dead letters. With `--all` only of those
//! that are there now: what is put back and dies again is not put back again.

use std::io::IsTerminal as _;

use clap::Args;
use clap_complete::ArgValueCandidates;
use serde_json::{Value, json};

use crate::complete;
use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, Ask};
use crate::output::{Format, note, say, say_items};
use crate::routes;
use crate::session::{Form, Server, Session};
use crate::views::DeadPage;

/// How many letters are asked for at once.
const PAGE: usize = 200;

const EXAMPLES: &str = "\
Examples:
  phasework dead requeue 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b
  phasework dead requeue --all          asks first
  phasework dead drop --all --yes";

/// Arguments of both commands
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DisposeArgs {
    /// The dead letters
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    #[arg(add = ArgValueCandidates::new(complete::dead_letters))]
    ids: Vec<String>,
    /// All that are there
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// What is to become of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// Back on their queues.
    Requeue,
    /// Gone.
    Drop,
}

impl Way {
    const fn done(self) -> &'static str {
        match self {
            Self::Requeue => "requeued",
            Self::Drop => "dropped",
        }
    }

    const fn order(self) -> &'static str {
        match self {
            Self::Requeue => "Put back",
            Self::Drop => "Drop for good",
        }
    }
}

/// Disposes of dead letters, one after the other; says of each what became of it.
pub(crate) async fn run(args: DisposeArgs, way: Way, session: &Session) -> Outcome {
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    let ids = if args.all { all(&api).await? } else { args.ids };
    if ids.is_empty() {
        note("no dead letters");
        return Ok(Exit::Good);
    }
    if args.all && !args.yes && !confirmed(way, ids.len())? {
        note("nothing was done");
        return Ok(Exit::Good);
    }
    let (mut results, mut worst) = (Vec::new(), Exit::Good);
    for id in &ids {
        let answer = match way {
            Way::Requeue => api.post::<Value>(&routes::REQUEUE, &[id], &json!({})).await,
            Way::Drop => api.delete(&routes::DROP_LETTER, &[id]).await,
        };
        match answer {
            Ok(_) => results.push(json!({ "id": id, "result": way.done() })),
            Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
            Err(failure) => {
                results.push(json!({ "id": id, "result": "failed", "message": failure.message }));
                worst = worst.max(failure.tell());
            }
        }
    }
    let done = results.iter().filter(|result| result["result"] == way.done()).count();
    match format {
        Format::Table => say(&format!("{done} of {} {}\n", ids.len(), way.done()))?,
        format => say_items(&results, &results, format)?,
    }
    Ok(worst)
}

/// The ids of all letters that are there now.
async fn all(api: &Api) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    loop {
        let query = vec![("skip", ids.len().to_string()), ("limit", PAGE.to_string())];
        let page: DeadPage = api.get(&routes::DEAD, &[], Ask { query, ..Ask::default() }).await?;
        let got = page.dead.len();
        ids.extend(page.dead.into_iter().map(|letter| letter.id));
        if got == 0 || ids.len() as u64 >= page.count {
            ids.sort();
            ids.dedup();
            return Ok(ids);
        }
    }
}

fn confirmed(way: Way, count: usize) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("--all asks first, and nobody is there to answer").hint("--yes goes ahead"));
    }
    note(&format!("{} {count} dead letter{}? [y/N]", way.order(), if count == 1 { "" } else { "s" }));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::usage(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
