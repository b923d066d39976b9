//! `phasework workers`: which workers are known, and what they host.

use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::http::{Ask, read};
use crate::routes;
use crate::session::{Server, Session, Times, WatchedForm};
use crate::table::{Table, column, field};
use crate::views::WorkerView;
use crate::watch::{Answer, Page, show};

const EXAMPLES: &str = "\
Examples:
  phasework workers
  phasework workers --watch
  phasework workers --output jsonl | jq 'select(.live | not)'";

/// List the workers and the handlers they host
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WorkersArgs {
    #[command(flatten)]
    form: WatchedForm,
    #[command(flatten)]
    server: Server,
}

/// Lists the workers.
pub(crate) async fn run(args: WorkersArgs, session: &Session) -> Outcome {
    let api = session.api(&args.server)?;
    let ask = async || {
        let whole: Value = api.get(&routes::WORKERS, &[], Ask::default()).await?;
        let items = whole.get("workers").and_then(Value::as_array).cloned();
        Ok(Answer { whole, items, is_final: false })
    };
    show(session, &args.form, "worker", ask, tell).await
}

fn tell(answer: &Answer, times: Times) -> Result<Page, Failure> {
    let workers: Vec<WorkerView> = read(answer.items.clone().into())?;
    if workers.is_empty() {
        let note = Some("no workers are known; a worker shows up here within seconds of its start".to_owned());
        return Ok(Page { note, ..Page::default() });
    }
    Ok(Page { text: table(&workers, times).text(), ..Page::default() })
}

fn table(workers: &[WorkerView], times: Times) -> Table {
    let mut table = Table::new(&[
        column("HOST").keep(7).least(8),
        column("PID").keep(6).right(),
        column("STATE").keep(8),
        column("SEEN").keep(4),
        column("HANDLER").keep(9).least(10),
        column("VERSION").keep(3).least(5),
        column("BUSY").keep(5).right(),
        column("SDK").keep(1).least(4),
    ]);
    for worker in workers {
        let state = match (worker.live, worker.draining) {
            (false, _) => field("lost").bad(),
            (true, true) => field("draining").odd(),
            (true, false) => field("live").good(),
        };
        let mut about = vec![field(&worker.host), field(worker.pid), state, field(times.tell(worker.last_seen))];
        for handler in &worker.handlers {
            let busy = field(format!("{}/{}", handler.in_flight, handler.slots));
            about.extend([field(&handler.name), field(&handler.version), busy, field(&worker.sdk)]);
            // Only the first of a worker's rows says whose they are.
            table.add(std::mem::replace(&mut about, vec![field(""); 4]));
        }
    }
    table
}
