//! `phasework workers`: which workers are known, and what they host.

use clap::Args;
use comfy_table::Color;
use phasework_workflows::time::{Clock as _, SystemClock};
use serde_json::Value;

use crate::failure::{Exit, Outcome};
use crate::http::{Api, Ask, Server, read};
use crate::length::ago;
use crate::output::{Format, Rows, cell, number, say, say_items};
use crate::views::WorkerView;

const EXAMPLES: &str = "\
Examples:
  phasework workers
  phasework workers --output json";

/// List the workers and the handlers they host
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WorkersArgs {
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Lists the workers.
pub(crate) async fn run(args: WorkersArgs) -> Outcome {
    let answer: Value = Api::new(&args.server)?.get(&["v1", "workers"], Ask::default()).await?;
    let items = answer.get("workers").and_then(Value::as_array).cloned().unwrap_or_default();
    if args.output != Format::Table {
        say_items(&answer, &items, args.output)?;
        return Ok(Exit::Good);
    }
    let views: Vec<WorkerView> = read(Value::Array(items))?;
    if views.is_empty() {
        say("no workers are known; a worker shows up here within seconds of its start\n")?;
        return Ok(Exit::Good);
    }
    say(&table(&views))?;
    Ok(Exit::Good)
}

fn table(workers: &[WorkerView]) -> String {
    let now = SystemClock.now();
    let mut rows = Rows::new(&["HOST", "PID", "STATE", "SEEN", "HANDLER", "VERSION", "BUSY", "SDK"]);
    for worker in workers {
        let state = match (worker.live, worker.draining) {
            (false, _) => cell("lost").fg(Color::Red),
            (true, true) => cell("draining").fg(Color::Yellow),
            (true, false) => cell("live").fg(Color::Green),
        };
        let mut about = vec![cell(&worker.host), number(worker.pid), state, cell(ago(worker.last_seen, now))];
        for handler in &worker.handlers {
            let busy = number(format!("{}/{}", handler.in_flight, handler.slots));
            about.extend([cell(&handler.name), cell(&handler.version), busy, cell(&worker.sdk)]);
            // Only the first of a worker's rows says whose they are.
            rows.add(std::mem::replace(&mut about, vec![cell(""); 4]));
        }
    }
    rows.text(&[4, 5])
}
