//! `phasework runs export`: all that is kept of a run, in one file: what it was given, what happened, what its jobs were
//! given and gave. Written as it comes, so that a run of a million jobs needs no more memory than a small one.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::ArgValueCandidates;
use phasework_workflows::Payload;
use phasework_workflows::definition::parse;
use phasework_workflows::id::RunId;
use phasework_workflows::time::{Clock as _, SystemClock};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::inputs::{Given, Inputs, Visit};
use crate::complete;
use crate::failure::{Exit, Failure, Outcome};
use crate::file::{FORMAT, one_line, veil};
use crate::http::{Api, Ask};
use crate::output::{Stream, note};
use crate::routes::{self, Route};
use crate::session::{Server, Session};
use crate::views::{InputsPage, OutputsPage, RunView};

const EXAMPLES: &str = "\
Examples:
  phasework runs export 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b run.jsonl
  phasework runs export ID run.jsonl --redact        sizes and digests in place of what jobs were given and gave
  phasework runs export ID | gzip > run.jsonl.gz
  phasework runs show --file run.jsonl               reads it back, without a server; so does `runs history`

A record a line, in JSON, with the number of the format in the first; docs/cli.md has them all. Of phases that were
visited several times outputs are kept for the latest visit only. Inputs that are no longer kept are made again from the
definition, the data and the outputs, as the coordinator made them.";

/// Write all that is kept of a run into a file
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The run
    #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::runs))]
    run: RunId,
    /// Where to; stdout if not given
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Sizes and digests in place of data, inputs and outputs
    #[arg(long)]
    redact: bool,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: Server,
}

/// Exports a run.
pub(crate) async fn run(args: ExportArgs, session: &Session) -> Outcome {
    let (api, run) = (session.api(&args.server)?, args.run.to_string());
    let Some(file) = args.file.filter(|file| file.as_os_str() != "-") else {
        let mut sink =
            Sink { out: Box::new(BufWriter::new(io::stdout().lock())), name: "stdout".to_owned(), records: 0 };
        Export { api: &api, run: &run, redact: args.redact, sink: &mut sink }.write().await?;
        return Ok(Exit::Good);
    };
    let name = file.display().to_string();
    if file.exists() && !args.force {
        return Err(Failure::usage(format!("{name} is there already")).hint("--force writes over it"));
    }
    // What is begun is under another name, until it is whole.
    let begun = PathBuf::from(format!("{name}.part"));
    let written = write_file(&api, &run, args.redact, &begun).await;
    let records = match written {
        Ok(records) => records,
        Err(failure) => {
            std::fs::remove_file(&begun).ok(); // it may not even have been made
            return Err(failure);
        }
    };
    std::fs::rename(&begun, &file).map_err(|error| cannot_write(&name, &error))?;
    note(&format!("{} {name}: {records} records", Stream::Err.paint().green("✔")));
    Ok(Exit::Good)
}

async fn write_file(api: &Api, run: &str, redact: bool, path: &Path) -> Result<u64, Failure> {
    let name = path.display().to_string();
    let file = File::create(path).map_err(|error| cannot_write(&name, &error))?;
    let mut sink = Sink { out: Box::new(BufWriter::new(file)), name, records: 0 };
    Export { api, run, redact, sink: &mut sink }.write().await?;
    Ok(sink.records)
}

fn cannot_write(name: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Exit::Good),
        _ => Failure::new(Exit::Bad, format!("cannot write {name}: {error}")),
    }
}

/// Where records go.
struct Sink<'a> {
    out: Box<dyn Write + 'a>,
    name: String,
    records: u64,
}

impl Sink<'_> {
    fn put(&mut self, record: &Value) -> Result<(), Failure> {
        self.records += 1;
        writeln!(self.out, "{record}").map_err(|error| cannot_write(&self.name, &error))
    }

    /// A record with a text in it that is JSON already: it stays as it is, digit by digit.
    fn put_with(&mut self, record: &Value, field: &str, text: &str) -> Result<(), Failure> {
        let mut line = record.to_string();
        line.pop();
        self.records += 1;
        writeln!(self.out, "{line},\"{field}\":{}}}", one_line(text)).map_err(|error| cannot_write(&self.name, &error))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| cannot_write(&self.name, &error))
    }
}

/// One export.
struct Export<'a, 's> {
    api: &'a Api,
    run: &'a str,
    redact: bool,
    sink: &'a mut Sink<'s>,
}

impl Export<'_, '_> {
    async fn write(mut self) -> Result<(), Failure> {
        let at = SystemClock.now();
        let head = json!({ "record": "export", "format": FORMAT, "run": self.run, "at": at, "redacted": self.redact });
        self.sink.put(&head)?;
        let whole: Box<RawValue> = self.api.get(&routes::RUN, &[self.run], Ask::default()).await?;
        let view: RunView = serde_json::from_str(whole.get()).map_err(|error| unreadable(&error))?;
        self.put_run(&whole)?;
        let data: Given = self.api.get(&routes::DATA, &[self.run], Ask::default()).await?;
        self.put_payload(&json!({ "record": "data" }), "data", data.json())?;
        let query = vec![("revision", view.revision.clone())];
        let stored: Value = self.api.get(&routes::WORKFLOW, &[&view.workflow], Ask { query, ..Ask::default() }).await?;
        let definition = stored["definition"].clone();
        self.sink.put(&json!({ "record": "definition", "revision": view.revision, "definition": definition }))?;
        let visits = self.put_history().await?;
        self.put_failures().await?;
        let document = parse(&definition.to_string()).map_err(|_| {
            Failure::new(Exit::Unreachable, "the definition cannot be read by this version of phasework")
        })?;
        let inputs = Inputs::new(self.api, &view, document.workflow, data, &visits);
        for visit in &visits {
            self.put_visit(visit, &view, &inputs).await?;
        }
        self.sink.put(&json!({ "record": "end" }))?;
        self.sink.flush()
    }

    fn put_run(&mut self, whole: &RawValue) -> Result<(), Failure> {
        if !self.redact {
            return self.sink.put_with(&json!({ "record": "run" }), "run", whole.get());
        }
        let mut run: Value = serde_json::from_str(whole.get()).map_err(|error| unreadable(&error))?;
        if let Some(output) = run.get_mut("output") {
            *output = veil(&output.to_string());
        }
        self.sink.put(&json!({ "record": "run", "run": run }))
    }

    fn put_payload(&mut self, record: &Value, field: &str, text: &str) -> Result<(), Failure> {
        if self.redact {
            return self.sink.put_with(record, field, &veil(text).to_string());
        }
        self.sink.put_with(record, field, text)
    }

    /// Puts the events, and gives the visits that they tell of.
    async fn put_history(&mut self) -> Result<Vec<Visit>, Failure> {
        let mut visits: Vec<Visit> = Vec::new();
        let mut after = 0;
        loop {
            let query = vec![("after", after.to_string()), ("limit", "1000".to_owned())];
            let page: Value = self.page(&routes::HISTORY, query).await?;
            for event in page["events"].as_array().into_iter().flatten() {
                Visit::note(&mut visits, event);
                self.sink.put(&json!({ "record": "event", "event": event }))?;
            }
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return Ok(visits),
            }
        }
    }

    async fn put_failures(&mut self) -> Result<(), Failure> {
        let mut skip = 0;
        loop {
            let query = vec![("skip", skip.to_string()), ("limit", "1000".to_owned())];
            let page: Value = self.page(&routes::FAILURES, query).await?;
            let failures = page["failures"].as_array().map_or(&[][..], Vec::as_slice);
            for failure in failures {
                self.sink.put(&json!({ "record": "failure", "failure": failure }))?;
            }
            skip += failures.len();
            if failures.len() < 1000 {
                return Ok(());
            }
        }
    }

    /// Puts what the jobs of a visit were given and gave.
    async fn put_visit(&mut self, visit: &Visit, run: &RunView, inputs: &Inputs<'_>) -> Result<(), Failure> {
        for spec in inputs.handlers_of(&visit.phase) {
            let handler = spec.name.as_str();
            let now = run.handlers.iter().find(|now| visit.entry == run.entry && now.name == handler);
            let tally = visit.tallies.iter().find(|tally| tally.name == handler).or(now);
            let total = tally.and_then(|tally| tally.total);
            let header = json!({
                "record": "jobs", "entry": visit.entry, "phase": visit.phase, "handler": handler,
                "version": visit.versions.get(handler), "total": total,
                "done": tally.map(|tally| tally.done), "failed": tally.map(|tally| tally.failed),
            });
            self.sink.put(&header)?;
            self.put_inputs(visit, handler, inputs).await?;
            self.put_outputs(visit, handler).await?;
        }
        Ok(())
    }

    /// The inputs as they are stored, or else as they are made again.
    async fn put_inputs(&mut self, visit: &Visit, handler: &str, inputs: &Inputs<'_>) -> Result<(), Failure> {
        let about = |index| json!({ "record": "input", "entry": visit.entry, "handler": handler, "index": index });
        let mut from = Some(0);
        while let Some(place) = from {
            let query =
                vec![("entry", visit.entry.to_string()), ("handler", handler.to_owned()), ("from", place.to_string())];
            match self.page::<InputsPage>(&routes::INPUTS, query).await {
                Ok(page) => {
                    for row in page.inputs {
                        self.put_payload(&about(row.index), "input", row.input.get())?;
                    }
                    from = page.next;
                }
                Err(failure) if failure.exit == Exit::NotFound => break,
                Err(failure) => return Err(failure),
            }
        }
        if from.is_none() {
            return Ok(());
        }
        match inputs.made(visit, handler).await? {
            Ok(made) => {
                for index in 0..made.len() {
                    let input: Payload = match made.input(index) {
                        Ok(input) => input,
                        Err(why) => return self.put_gap("inputs", visit, handler, &why),
                    };
                    self.put_payload(&about(index), "input", input.as_json())?;
                }
                Ok(())
            }
            Err(why) => self.put_gap("inputs", visit, handler, &why),
        }
    }

    async fn put_outputs(&mut self, visit: &Visit, handler: &str) -> Result<(), Failure> {
        let mut from = Some(0);
        while let Some(place) = from {
            let query =
                vec![("entry", visit.entry.to_string()), ("handler", handler.to_owned()), ("from", place.to_string())];
            match self.page::<OutputsPage>(&routes::OUTPUTS, query).await {
                Ok(page) => {
                    for row in page.outputs {
                        let about =
                            json!({ "record": "output", "entry": visit.entry, "handler": handler, "index": row.index });
                        self.put_payload(&about, "output", row.output.get())?;
                    }
                    from = page.next;
                }
                Err(failure) if failure.exit == Exit::NotFound => {
                    return self.put_gap("outputs", visit, handler, "a later visit of the phase has taken their place");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Says that something is not in the file, and why.
    fn put_gap(&mut self, what: &str, visit: &Visit, handler: &str, why: &str) -> Result<(), Failure> {
        self.sink.put(&json!({ "record": "gap", "what": what, "entry": visit.entry, "handler": handler, "why": why }))
    }

    async fn page<T: DeserializeOwned>(&self, route: &Route, query: Vec<(&str, String)>) -> Result<T, Failure> {
        self.api.get(route, &[self.run], Ask { query, ..Ask::default() }).await
    }
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Unreachable, format!("the server's answer cannot be read: {error}"))
}
