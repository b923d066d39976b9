//! `phasework runs replay`: gives the recorded jobs of a phase to a worker once more, and compares what it gives with what
//! was recorded. The worker gets a gateway of its own on this machine; nothing of it reaches an engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Consumer, Message, SharedBroker, Subscription};
use phasework_engine::api::{GatewayConfig, gateway_router, serve};
use phasework_workflows::Payload;
use phasework_workflows::id::{HandlerName, IdSource as _, Nonce, PhaseName, RunId, SystemIds, WorkflowName};
use phasework_workflows::message::job::{InputSource, Job, JobGroup, Jobs};
use phasework_workflows::message::outcome::{JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::message::{Body as _, decode, encode};
use phasework_workflows::time::Millis;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::failure::{Exit, Failure, Outcome as Ending};
use crate::file::{Came, Recorded, recorded};
use crate::interrupt::Interrupts;
use crate::output::{Format, Stream, note, say, say_items};
use crate::program::{CommandLine, Program};
use crate::session::{Form, Session};

/// How long a worker may take to announce itself.
const START: Duration = Duration::from_secs(60);

/// How many jobs are out at once.
const WINDOW: usize = 200;

/// How often a job that a worker hands back is given again.
const AGAIN: u32 = 5;

const EXAMPLES: &str = "\
Examples:
  phasework runs replay run.jsonl --phase fetching-pages --command './target/debug/my-worker'
  phasework runs replay run.jsonl --phase fetching-pages --command 'python3 worker.py' --job 7 --job 9
  phasework runs replay run.jsonl --phase resize --command ./worker --output jsonl | jq 'select(.result == \"differs\")'

The file is one that `phasework runs export` wrote. The command is started with PHASEWORK_URL set to a gateway that only
it knows, and must host the handlers of the phase, in whichever version; it gets the recorded inputs, and what else it
reaches (databases, other services) it reaches as always. Exit code 0 when every job gave what was recorded, 1 when one
did not.";

/// Give recorded jobs to a worker again, and compare what it gives
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// An exported run
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The phase whose jobs are given
    #[arg(long, value_name = "NAME")]
    phase: String,
    /// How to start the worker: a program and its arguments
    #[arg(long, value_name = "COMMAND")]
    command: String,
    /// Which visit of the phase, by its number; the latest that has inputs if not given
    #[arg(long, value_name = "N")]
    entry: Option<u32>,
    /// Only this job, by its index; may be given several times
    #[arg(long = "job", value_name = "INDEX")]
    jobs: Vec<u64>,
    /// How long one job may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = crate::length::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    form: Form,
}

/// Replays jobs.
pub(crate) async fn run(args: ReplayArgs, session: &Session) -> Ending {
    let format = session.format(&args.form)?;
    let mut recorded = recorded(&args.file, &args.phase, args.entry)?;
    if !args.jobs.is_empty() {
        recorded.jobs.retain(|(_, index), _| args.jobs.contains(index));
    }
    if recorded.jobs.is_empty() {
        return Err(Failure::new(Exit::NotFound, "none of these jobs is in the file"));
    }
    let command = CommandLine::read(&args.command)?;
    let mut interrupts = Interrupts::listen()?;
    let mut stage = Stage::open().await?;
    let results = tokio::select! {
        biased;
        _ = interrupts.next() => Err(Failure::silent(Exit::Interrupted)),
        results = stage.play(&command, &recorded, args.timeout) => results,
    };
    stage.close().await;
    tell(&results?, format)
}

/// What became of one job.
#[derive(Debug)]
struct Played<'a> {
    handler: &'a str,
    index: u64,
    before: Option<&'a Came>,
    now: Came,
}

impl Played<'_> {
    fn result(&self) -> &'static str {
        match self.before {
            None => "new",
            Some(before) if before.is_same(&self.now) => "same",
            Some(_) => "differs",
        }
    }

    fn view(&self) -> Value {
        json!({
            "handler": self.handler, "index": self.index, "result": self.result(),
            "recorded": self.before.map(Came::view), "now": self.now.view(),
        })
    }
}

/// The gateway, and who listens behind it.
struct Stage {
    broker: SharedBroker,
    url: String,
    presence: Box<dyn Consumer>,
    reports: Box<dyn Consumer>,
    worker: Option<Program>,
    _end: DropGuard,
}

impl Stage {
    async fn open() -> Result<Self, Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::new(Exit::Bad, format!("the gateway cannot be served: {error}"));
        let broker: SharedBroker = Arc::new(MemoryBroker::new());
        let listen = |from| broker.subscribe(Subscription { from, prefetch: 256 });
        let presence = listen(Address::Presence).await.map_err(|error| failed(&error))?;
        let reports = listen(Address::Coordinator(0)).await.map_err(|error| failed(&error))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        let end = CancellationToken::new();
        let router = gateway_router(Arc::clone(&broker), Arc::new(SystemIds), GatewayConfig::default());
        tokio::spawn(serve(listener, router, end.clone()));
        let url = format!("http://{address}");
        Ok(Self { broker, url, presence, reports, worker: None, _end: end.drop_guard() })
    }

    async fn close(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            worker.kill().await;
        }
        self.broker.close().await;
    }

    /// Starts the worker, gives it the jobs, and hears what becomes of them.
    async fn play<'a>(
        &mut self,
        command: &CommandLine,
        recorded: &'a Recorded,
        timeout: Duration,
    ) -> Result<Vec<Played<'a>>, Failure> {
        let mut worker = command.start(&[("PHASEWORK_URL".to_owned(), self.url.clone())])?;
        let versions = tokio::select! {
            biased;
            versions = self.hosted(recorded) => versions,
            ended = worker.ended(START) => Err(not_started(&worker, ended.map(|status| format!("it ended with {status}")))),
        };
        self.worker = Some(worker);
        let versions = versions?;
        let group = Group { run: RunId::new(SystemIds.uuid()), recorded, versions: &versions, timeout };
        let (mut waiting, mut out, mut played) = (recorded.jobs.iter(), BTreeMap::new(), Vec::new());
        loop {
            let free = WINDOW - out.len();
            let next: Vec<_> = waiting.by_ref().take(free).map(|(name, _)| (name.clone(), 1)).collect();
            out.extend(next.iter().cloned());
            self.give(&group, &next).await?;
            if out.is_empty() {
                break;
            }
            let mut again = Vec::new();
            for (name, outcome) in self.heard(timeout).await? {
                let Some(attempt) = out.get_mut(&name).filter(|attempt| **attempt == outcome.attempt) else { continue };
                if outcome.status == Status::Returned && *attempt < AGAIN {
                    *attempt += 1;
                    again.push((name, *attempt));
                    continue;
                }
                out.remove(&name);
                if let Some(((handler, index), job)) = recorded.jobs.get_key_value(&name) {
                    played.push(Played { handler, index: *index, before: job.came.as_ref(), now: came(outcome) });
                }
            }
            self.give(&group, &again).await?;
        }
        played.sort_by_key(|played| (played.handler, played.index));
        Ok(played)
    }

    /// The versions in which the worker hosts the handlers of the jobs, once it has announced all of them.
    async fn hosted(&mut self, recorded: &Recorded) -> Result<BTreeMap<String, semver::Version>, Failure> {
        let wanted: std::collections::BTreeSet<_> = recorded.jobs.keys().map(|(handler, _)| handler.as_str()).collect();
        loop {
            let Ok(deliveries) = self.presence.next(16).await else {
                return Err(Failure::new(Exit::Bad, "the gateway has ended, which is a defect"));
            };
            for delivery in deliveries.iter().filter(|delivery| &*delivery.kind == WorkerAnnounced::KIND) {
                let Ok(announced) = decode::<WorkerAnnounced>(&delivery.body) else { continue };
                let hosted = announced.handlers.into_iter().map(|hosted| (hosted.name.to_string(), hosted.version));
                let hosted: BTreeMap<_, _> = hosted.filter(|(name, _)| wanted.contains(name.as_str())).collect();
                if let Some(missing) = wanted.iter().find(|name| !hosted.contains_key(**name)) {
                    return Err(Failure::usage(format!("the worker hosts no handler `{missing}`")));
                }
                for (name, version) in &hosted {
                    let before = recorded.versions.get(name).filter(|before| **before != version.to_string());
                    before
                        .iter()
                        .for_each(|before| note(&format!("{name} is {version}; it was {before} when recorded")));
                }
                return Ok(hosted);
            }
            let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
            self.presence.ack(&tags).await.ok(); // what is heard twice is no harm
        }
    }

    async fn give(&self, group: &Group<'_>, jobs: &[((String, u64), u32)]) -> Result<(), Failure> {
        let mut by_handler: BTreeMap<&str, Vec<Job>> = BTreeMap::new();
        for ((handler, index), attempt) in jobs {
            let Some(recorded) = group.recorded.jobs.get(&(handler.clone(), *index)) else { continue };
            let input = Some(recorded.input.clone());
            by_handler.entry(handler).or_default().push(Job {
                index: *index,
                attempt: *attempt,
                tried: 1,
                input,
                details: None,
            });
        }
        let mut messages = Vec::new();
        for (handler, jobs) in by_handler {
            // A job a message, as the engine sends those whose length is not known.
            for job in jobs {
                let (to, group) = group.of(handler, job)?;
                messages.push(Message::new(to, Jobs::KIND, encode(&Jobs { groups: vec![group] })));
            }
        }
        for published in self.broker.publish(messages).await {
            published.map_err(|error| Failure::new(Exit::Bad, format!("a job cannot be given: {error}")))?;
        }
        Ok(())
    }

    /// What the worker says next of jobs.
    async fn heard(&mut self, timeout: Duration) -> Result<Vec<((String, u64), Outcome)>, Failure> {
        let patience = timeout + START;
        let Some(worker) = self.worker.as_mut() else { return Ok(Vec::new()) };
        let deliveries = tokio::select! {
            biased;
            deliveries = self.reports.next(256) => deliveries,
            ended = worker.ended(patience) => return Err(match ended {
                Some(status) => not_started(worker, Some(format!("it ended with {status}, and jobs are left"))),
                None => not_started(worker, Some(format!("nothing was heard of it for {} s", patience.as_secs()))),
            }),
        };
        let deliveries =
            deliveries.map_err(|error| Failure::new(Exit::Bad, format!("the gateway has ended: {error}")))?;
        let mut outcomes = Vec::new();
        for delivery in deliveries.iter().filter(|delivery| &*delivery.kind == JobsFinished::KIND) {
            let finished = decode::<JobsFinished>(&delivery.body);
            let finished =
                finished.map_err(|error| Failure::new(Exit::Bad, format!("a report cannot be read: {error}")))?;
            outcomes.extend(finished.groups.into_iter().flat_map(|group| outcomes_of(&group)));
        }
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
        self.reports.ack(&tags).await.ok(); // what is heard twice is no harm
        Ok(outcomes)
    }
}

/// What the jobs of one replay have in common.
struct Group<'a> {
    run: RunId,
    recorded: &'a Recorded,
    versions: &'a BTreeMap<String, semver::Version>,
    timeout: Duration,
}

impl Group<'_> {
    /// A job as it goes out, and where to.
    fn of(&self, handler: &str, job: Job) -> Result<(Address, JobGroup), Failure> {
        let unfit = |error: &dyn std::fmt::Display| Failure::usage(format!("the file is not sound: {error}"));
        let name = HandlerName::new(handler).map_err(|error| unfit(&error))?;
        let version = self.versions.get(handler).cloned().ok_or_else(|| unfit(&"a handler nobody hosts"))?;
        let to = Address::Jobs(format!("{name}.{version}").into());
        let group = JobGroup {
            run: self.run,
            workflow: WorkflowName::new(&self.recorded.workflow).map_err(|error| unfit(&error))?,
            phase: PhaseName::new(&self.recorded.phase).map_err(|error| unfit(&error))?,
            entry: self.recorded.entry,
            nonce: Nonce(1),
            handler: name,
            version,
            coordinator: 0,
            timeout: Millis::from(self.timeout),
            max_attempts: 1,
            input: InputSource::Data,
            enumerate: false,
            traceparent: None,
            data: None,
            range: None,
            jobs: vec![job],
        };
        Ok((to, group))
    }
}

fn outcomes_of(group: &OutcomeGroup) -> Vec<((String, u64), Outcome)> {
    let handler = group.handler.to_string();
    let done = group.done.iter().flat_map(|&(first, count)| first..first + count);
    let done =
        done.map(|index| Outcome { index, attempt: 1, status: Status::Done, output: None, error: None, details: None });
    let all = done.chain(group.outcomes.iter().cloned());
    all.map(|outcome| ((handler.clone(), outcome.index), outcome)).collect()
}

/// What an outcome comes to.
fn came(outcome: Outcome) -> Came {
    match (outcome.status, outcome.error) {
        (Status::Done, _) => Came::Gave(outcome.output.unwrap_or_else(Payload::null).to_value()),
        (_, Some(error)) => Came::Failed { kind: error.kind.to_string(), message: error.message },
        (status, None) => Came::Failed { kind: format!("{status:?}").to_lowercase(), message: String::new() },
    }
}

fn not_started(worker: &Program, why: Option<String>) -> Failure {
    let why = why.unwrap_or_else(|| format!("it announces no handler within {} s", START.as_secs()));
    let failure = Failure::new(Exit::Bad, format!("the worker does not do its jobs: {why}"));
    match worker.last_lines() {
        lines if lines.is_empty() => failure,
        lines => failure.hint(format!("it wrote:\n  {}", lines.join("\n  "))),
    }
}

fn tell(played: &[Played<'_>], format: Format) -> Ending {
    let count = |result| played.iter().filter(|played| played.result() == result).count();
    let (same, differs) = (count("same"), count("differs"));
    if format == Format::Table {
        let paint = Stream::Out.paint();
        let mut text = String::new();
        for played in played {
            let mark = match played.result() {
                "same" => paint.green("✔ same"),
                "differs" => paint.red("✘ differs"),
                _ => paint.dim("• no record"),
            };
            text += &format!("{} job {}  {mark}\n", played.handler, played.index);
            if let Some(before) = played.before.filter(|_| played.result() == "differs") {
                for line in difference(&before.text(), &played.now.text()) {
                    let line = if line.starts_with('-') { paint.red(&line) } else { paint.green(&line) };
                    text += &format!("    {line}\n");
                }
            }
        }
        say(&text)?;
        note(&format!("{same} of {} the same, {differs} different", played.len()));
    } else {
        let items: Vec<_> = played.iter().map(Played::view).collect();
        say_items(&json!({ "jobs": &items, "same": same, "different": differs }), &items, format)?;
    }
    Ok(if differs == 0 { Exit::Good } else { Exit::Bad })
}

/// The lines that differ: without those that both begin or end with.
fn difference(before: &str, now: &str) -> Vec<String> {
    let (before, now): (Vec<_>, Vec<_>) = (before.lines().collect(), now.lines().collect());
    let first = before.iter().zip(&now).take_while(|(a, b)| a == b).count();
    let (before, now) = (&before[first..], &now[first..]);
    let last = before.iter().rev().zip(now.iter().rev()).take_while(|(a, b)| a == b).count();
    let lines = before[..before.len() - last].iter().map(|line| format!("- {line}"));
    lines.chain(now[..now.len() - last].iter().map(|line| format!("+ {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_differ_are_shown() {
        assert_eq!(difference("a\nb\nc", "a\nx\ny\nc"), ["- b", "+ x", "+ y"]);
        assert_eq!(difference("a", "a\nb"), ["+ b"]);
        assert_eq!(difference("1", "2"), ["- 1", "+ 2"]);
        assert!(difference("a", "a").is_empty());
    }
}
