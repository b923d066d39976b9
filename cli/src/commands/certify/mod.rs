//! `phasework certify`: plays the engine for a worker of any language, and checks that it keeps each promise of the wire
//! format. What the worker's handler has to do for it is in docs/certify.md.
//!
//! In reading order: `check` lists the promises; `site` is what the worker is connected to (`wary` stands behind a
//! gateway), `stage` where promises are tried, `heard` what the worker says;
//! `values`, `outcomes`, `manners`, `leases`, `lists` and `faults` try them; here it is told.

mod check;
mod faults;
mod heard;
mod leases;
mod lists;
mod manners;
mod outcomes;
mod site;
mod stage;
mod values;
mod wary;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use phasework_broker::{Address, SharedBroker};
use phasework_workflows::id::HandlerName;
use serde::Serialize;
use serde_json::json;

use self::check::{CHECKS, Check, Kept};
use self::site::Site;
use self::stage::{QUEUES, Stage};
use crate::failure::{Exit, Failure, Outcome};
use crate::interrupt::Interrupts;
use crate::output::{Format, Rows, Stream, cell, note, say, say_items};
use crate::program::CommandLine;
use crate::session::{Form, Session};

const EXAMPLES: &str = "\
Examples:
  phasework certify --command 'python3 http_worker.py'
  phasework certify --command ./my-worker --only drain --only lease
  phasework certify --command 'python3 amqp_worker.py' --broker amqp://127.0.0.1:5672
  phasework certify --list

The worker is started with PHASEWORK_URL set: to a gateway over HTTP, or to the broker that is given. There PHASEWORK_PREFIX is
set too, to a prefix of its own, so no other worker or engine is disturbed. It must host a handler `Certify` in version 1.0.0 that does what its input says; docs/certify.md
has the dozen lines that this takes. All of it takes about three minutes.
Exit code 0 when every promise is kept, 1 when one is not, 2 when the command line makes no sense, 3 when the broker cannot be
reached.";

/// Check that a worker of any language keeps the promises of the wire format
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CertifyArgs {
    /// How to start the worker: a program and its arguments
    #[arg(long, value_name = "COMMAND", required_unless_present = "list")]
    command: Option<String>,
    /// The broker that the worker is to use, in place of HTTP: amqp://user:password@host:5672/vhost
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// The handler that does what it is told
    #[arg(long, value_name = "NAME", default_value = "Certify")]
    handler: String,
    /// Its version
    #[arg(long, value_name = "VERSION", default_value = "1.0.0")]
    version: semver::Version,
    /// Try only this promise; may be given several times
    #[arg(long, value_name = "PROMISE")]
    only: Vec<String>,
    /// List the promises, and try none
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    form: Form,
}

/// What became of one promise.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    promise: &'static str,
    /// Whether it is kept.
    kept: bool,
    /// What is wrong, or worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    took_ms: u64,
}

/// Tries a worker.
pub(crate) async fn run(args: CertifyArgs, session: &Session) -> Outcome {
    let (chosen, format) = (choose(&args.only)?, session.format(&args.form)?);
    let (Some(command), false) = (&args.command, args.list) else {
        return list(&chosen, format);
    };
    let command = CommandLine::read(command)?;
    let handler = HandlerName::new(&args.handler).map_err(|error| Failure::usage(error.to_string()))?;
    let mut interrupts = Interrupts::listen()?;
    let site = match &args.broker {
        Some(url) => Site::rabbit(url).await?,
        None => Site::gateway().await?,
    };
    let broker = Arc::clone(&site.broker);
    let mut stage = Stage::open(site, command, (handler, args.version.clone())).await?;
    let lines = tokio::select! {
        biased;
        _ = interrupts.next() => Err(Failure::silent(Exit::Interrupted)),
        lines = try_all(&mut stage, &chosen) => lines,
    };
    stage.kill().await;
    clean_up(&broker, &stage).await;
    broker.close().await;
    tell(&lines?, format)
}

/// The promises that are asked for: all, or those named.
fn choose(only: &[String]) -> Result<Vec<&'static Check>, Failure> {
    if let Some(unknown) = only.iter().find(|name| CHECKS.iter().all(|check| check.name != **name)) {
        let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        return Err(
            Failure::usage(format!("there is no promise `{unknown}`")).hint(format!("there are {}", names.join(", ")))
        );
    }
    Ok(CHECKS.iter().filter(|check| only.is_empty() || only.iter().any(|name| name == check.name)).collect())
}

fn list(chosen: &[&Check], format: Format) -> Outcome {
    if format == Format::Table {
        let mut rows = Rows::new(&["PROMISE", "A WORKER"]);
        chosen.iter().for_each(|check| rows.add(vec![cell(check.name), cell(check.promise)]));
        say(&rows.text(&[0]))?;
    } else {
        let items: Vec<_> =
            chosen.iter().map(|check| json!({ "name": check.name, "promise": check.promise })).collect();
        say_items(&json!({ "promises": items }), &items, format)?;
    }
    Ok(Exit::Good)
}

/// Tries one promise after the other. A worker that died of one is started again for the next.
async fn try_all(stage: &mut Stage, chosen: &[&'static Check]) -> Result<Vec<Line>, Failure> {
    if let Err(fault) = stage.start().await {
        let mut failure = Failure::new(Exit::Bad, format!("the worker does not start: {fault}"));
        let wrote = stage.last_lines();
        if !wrote.is_empty() {
            failure = failure.hint(format!("it wrote:\n  {}", wrote.join("\n  ")));
        }
        return Err(failure);
    }
    let mut lines = Vec::new();
    for check in chosen {
        let (began, from) = (Instant::now(), stage.heard.so_far());
        let kept = (check.tried)(stage).await;
        let kept = judged(stage, from, kept);
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let line = match kept {
            Ok(note) => Line { name: check.name, promise: check.promise, kept: true, note, took_ms },
            Err(fault) => Line { name: check.name, promise: check.promise, kept: false, note: Some(fault), took_ms },
        };
        show(&line);
        if stage.crashed().is_some() || !line.kept {
            // Whatever it still had would spoil the next.
            stage.kill().await;
            clean_up_jobs(stage).await;
        }
        lines.push(line);
        if stage.worker().is_none_or(|worker| worker.has_ended().is_some()) && lines.len() < chosen.len() {
            stage.start().await.map_err(|fault| {
                Failure::new(Exit::Bad, format!("the worker does not start again after `{}`: {fault}", check.name))
            })?;
        }
    }
    Ok(lines)
}

/// What a check came to, seen together with what else happened meanwhile.
fn judged(stage: &mut Stage, from: usize, kept: Kept) -> Kept {
    use self::heard::Said;

    let garbled = stage.heard.all(from, |said| if let Said::Garbled(what) = said { Some(what.clone()) } else { None });
    if let Some(garbled) = garbled.into_iter().next() {
        return Err(format!("it published what nobody can read: {garbled}"));
    }
    kept.map_err(|fault| match stage.crashed() {
        Some((how, wrote)) if wrote.is_empty() => format!("{fault}; {how}"),
        Some((how, wrote)) => format!("{fault}; {how} and wrote: {}", wrote.join(" ⏎ ")),
        None => fault,
    })
}

fn show(line: &Line) {
    let paint = Stream::Err.paint();
    let mark = if line.kept { paint.green("✔") } else { paint.red("✘") };
    let seconds = Duration::from_millis(line.took_ms).as_secs_f32();
    note(&format!("{mark} {:<15} {} {}", line.name, line.promise, paint.dim(&format!("{seconds:.1}s"))));
    if let Some(text) = &line.note {
        let text = format!("  {:<15} → {text}", "");
        note(&if line.kept { paint.yellow(&text) } else { paint.red(&text) });
    }
}

fn tell(lines: &[Line], format: Format) -> Outcome {
    let broken = lines.iter().filter(|line| !line.kept).count();
    let exit = if broken == 0 { Exit::Good } else { Exit::Bad };
    if format != Format::Table {
        say_items(&json!({ "kept": lines.len() - broken, "broken": broken, "promises": lines }), lines, format)?;
        return Ok(exit);
    }
    let paint = Stream::Out.paint();
    say(&match broken {
        0 => paint.green(&format!("certified: all {} promises are kept\n", lines.len())),
        _ => paint.red(&format!("{broken} of {} promises are broken\n", lines.len())),
    })?;
    Ok(exit)
}

/// Forgets what a worker has left in its queue.
async fn clean_up_jobs(stage: &Stage) {
    // The next check says what is wrong with the broker, if something is.
    stage.broker.delete(&stage.queue()).await.ok();
}

/// Removes the queues that were made for this.
async fn clean_up(broker: &SharedBroker, stage: &Stage) {
    let queues = (0..QUEUES).map(Address::Coordinator);
    for queue in queues.chain([Address::Dead, stage.queue()]) {
        if let Err(error) = broker.delete(&queue).await {
            note(&format!("the queue {} is left behind: {error}", broker.name_of(&queue)));
        }
    }
}
