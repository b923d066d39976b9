//! Exported runs, as they stand in a file: a record a line. Reads them back a line at a time, and says on which line
//! something is wrong.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use phasework_workflows::Payload;
use phasework_workflows::definition::nearest;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::failure::{Exit, Failure};
use crate::output::note;

/// The format that is written, and read.
pub(crate) const FORMAT: u64 = 1;

/// The size and the digest of what is not to be shown.
pub(crate) fn veil(text: &str) -> Value {
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "bytes": text.len(), "sha256": digest })
}

/// JSON on one line: within texts there are no line breaks, and between them they are only looks.
pub(crate) fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

/// A record, as far as it is read back.
#[derive(Debug)]
pub(crate) enum Record {
    Export {
        format: u64,
        is_redacted: bool,
    },
    Run(Value),
    Event(Value),
    Failure(Value),
    Jobs(JobsRecord),
    Input(JobRecord),
    Output(JobRecord),
    End,
    /// What a newer phasework may write besides, and what is not read back.
    Other,
}

/// What stands before the jobs of a handler in a visit.
#[derive(Debug, Deserialize)]
pub(crate) struct JobsRecord {
    entry: u32,
    phase: String,
    version: Option<String>,
    total: Option<u64>,
    done: Option<u64>,
    failed: Option<u64>,
}

/// What a job was given, or gave; as it was written.
#[derive(Debug, Deserialize)]
pub(crate) struct JobRecord {
    entry: u32,
    handler: String,
    index: u64,
    #[serde(alias = "input", alias = "output")]
    content: Box<RawValue>,
}

impl Record {
    fn read(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow)]
            record: Cow<'a, str>,
        }
        let field = |name: &str| serde_json::from_str::<Value>(text).map(|mut value| value[name].take());
        Ok(match serde_json::from_str::<Kind<'_>>(text)?.record.as_ref() {
            "export" => Self::Export {
                format: field("format")?.as_u64().unwrap_or_default(),
                is_redacted: field("redacted")? == true,
            },
            "run" => Self::Run(field("run")?),
            "event" => Self::Event(field("event")?),
            "failure" => Self::Failure(field("failure")?),
            "jobs" => Self::Jobs(serde_json::from_str(text)?),
            "input" => Self::Input(serde_json::from_str(text)?),
            "output" => Self::Output(serde_json::from_str(text)?),
            "end" => Self::End,
            _ => Self::Other,
        })
    }
}

/// A file that is read, record by record.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    lines: std::io::Lines<BufReader<File>>,
    line: usize,
    has_ended: bool,
    /// Whether sizes and digests stand in place of what jobs were given and gave.
    pub(crate) is_redacted: bool,
}

impl Records {
    /// Opens a file, and makes sure that it is an exported run.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file =
            File::open(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
        let lines = BufReader::new(file).lines();
        let mut records = Self { path: path.to_owned(), lines, line: 0, has_ended: false, is_redacted: false };
        match records.next()? {
            Some(Record::Export { format: FORMAT, is_redacted }) => Ok(Self { is_redacted, ..records }),
            Some(Record::Export { format, .. }) => {
                let words = format!("{} is of format {format}; this phasework reads {FORMAT}", path.display());
                Err(Failure::usage(words).hint("a newer phasework may read it"))
            }
            _ => Err(Failure::usage(format!("{} is no exported run", path.display()))
                .hint("`phasework runs export ID FILE` makes one")),
        }
    }

    /// The next record; nothing at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Failure> {
        let at = |line: usize| format!("{}:{line}", self.path.display());
        let Some(text) = self.lines.next() else {
            if !self.has_ended {
                note(&format!("warning: {} ends early: not all of the run is in it", self.path.display()));
                self.has_ended = true;
            }
            return Ok(None);
        };
        self.line += 1;
        let text = text.map_err(|error| Failure::usage(format!("{}: {error}", at(self.line))))?;
        let record = Record::read(&text).map_err(|error| {
            let error = error.to_string();
            let why = error.split(" at line ").next().unwrap_or_default();
            Failure::usage(format!("{}: this is no record of an exported run: {why}", at(self.line)))
                .hint("`phasework runs export ID FILE` makes such a file")
        })?;
        self.has_ended |= matches!(record, Record::End);
        Ok(Some(record))
    }
}

/// What is shown of an exported run: not what its jobs were given and gave.
pub(crate) fn summary(path: &Path) -> Result<Value, Failure> {
    let mut records = Records::open(path)?;
    let (mut run, mut events, mut failures) = (Value::Null, Vec::new(), Vec::new());
    while let Some(record) = records.next()? {
        match record {
            Record::Run(read) => run = read,
            Record::Event(event) => events.push(event),
            Record::Failure(failure) => failures.push(failure),
            Record::Export { .. }
            | Record::Jobs(_)
            | Record::Input(_)
            | Record::Output(_)
            | Record::End
            | Record::Other => {}
        }
    }
    if let Some(fields) = run.as_object_mut() {
        fields.insert("history".into(), events.into());
        fields.insert("failures".into(), failures.into());
    }
    Ok(run)
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Came {
    /// It was done, and gave this.
    Gave(Value),
    /// It failed for good.
    Failed { kind: String, message: String },
}

impl Came {
    /// Whether it is the same; what is redacted is compared by its digest.
    pub(crate) fn is_same(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Gave(before), Self::Gave(now)) => before == now || *before == veil(&now.to_string()),
            (before, now) => before == now,
        }
    }

    /// As JSON.
    pub(crate) fn view(&self) -> Value {
        match self {
            Self::Gave(output) => json!({ "output": output }),
            Self::Failed { kind, message } => json!({ "error": { "kind": kind, "message": message } }),
        }
    }

    /// In lines.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Gave(output) => format!("{output:#}"),
            Self::Failed { kind, message } => format!("{kind}: {message}"),
        }
    }
}

/// A job that was recorded.
#[derive(Clone, Debug)]
pub(crate) struct RecordedJob {
    pub(crate) input: Payload,
    /// What became of it; nothing when it had not come to its end.
    pub(crate) came: Option<Came>,
}

/// The jobs of one visit of a phase, by handler and index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) workflow: String,
    pub(crate) phase: String,
    pub(crate) entry: u32,
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) jobs: BTreeMap<(String, u64), RecordedJob>,
}

/// The jobs of a visit of a phase: of this one, or of the latest that the file has inputs of.
pub(crate) fn recorded(path: &Path, phase: &str, entry: Option<u32>) -> Result<Recorded, Failure> {
    let mut records = Records::open(path)?;
    if records.is_redacted {
        return Err(Failure::usage(format!("{} is redacted: it has no inputs", path.display())));
    }
    let (mut found, mut phases, mut failures) = (Recorded::default(), BTreeSet::new(), Vec::new());
    // Of the handlers in the visit that was found, how many jobs came to a good end without giving anything is told
    // by the total: whatever has neither an output nor a failure gave nothing, once all are done.
    let mut complete = BTreeSet::new();
    let mut current = None;
    while let Some(record) = records.next()? {
        match record {
            Record::Run(run) => found.workflow = run["workflow"].as_str().unwrap_or_default().to_owned(),
            Record::Failure(failure) => failures.push(failure),
            Record::Jobs(jobs) => {
                phases.insert(jobs.phase.clone());
                let is_wanted = jobs.phase == phase && entry.is_none_or(|entry| entry == jobs.entry);
                current = is_wanted.then_some(jobs);
            }
            Record::Input(job) => {
                let Some(jobs) = current.as_ref().filter(|jobs| jobs.entry == job.entry) else { continue };
                if found.entry != jobs.entry {
                    (found.versions, found.jobs) = (BTreeMap::new(), BTreeMap::new());
                    complete.clear();
                    (found.phase, found.entry) = (jobs.phase.clone(), jobs.entry);
                }
                if jobs.total.is_some() && jobs.total == jobs.done.zip(jobs.failed).map(|(done, failed)| done + failed)
                {
                    complete.insert(job.handler.clone());
                }
                found.versions.extend(jobs.version.clone().map(|version| (job.handler.clone(), version)));
                let input = payload(&records, job.content)?;
                found.jobs.insert((job.handler, job.index), RecordedJob { input, came: None });
            }
            Record::Output(job) => {
                if let Some(recorded) =
                    found.jobs.get_mut(&(job.handler, job.index)).filter(|_| found.entry == job.entry)
                {
                    recorded.came = Some(Came::Gave(payload(&records, job.content)?.to_value()));
                }
            }
            Record::Export { .. } | Record::Event(_) | Record::End | Record::Other => {}
        }
    }
    for failure in failures.iter().filter(|failure| failure["entry"] == found.entry) {
        let name = failure["handler"].as_str().map(str::to_owned).zip(failure["index"].as_u64());
        if let Some(recorded) = name.and_then(|name| found.jobs.get_mut(&name)) {
            let text = |field: &str| failure["error"][field].as_str().unwrap_or_default().to_owned();
            recorded.came = Some(Came::Failed { kind: text("kind"), message: text("message") });
        }
    }
    for ((handler, _), recorded) in &mut found.jobs {
        if recorded.came.is_none() && complete.contains(handler) {
            recorded.came = Some(Came::Gave(Value::Null));
        }
    }
    if found.jobs.is_empty() {
        let near = nearest(phase, phases.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let words = format!("{} has no jobs with inputs in phase `{phase}`{near}", path.display());
        return Err(Failure::new(Exit::NotFound, words));
    }
    Ok(found)
}

fn payload(records: &Records, text: Box<RawValue>) -> Result<Payload, Failure> {
    let at = format!("{}:{}", records.path.display(), records.line);
    Payload::from_json(String::from(Box::<str>::from(text))).map_err(|error| Failure::usage(format!("{at}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_veiled_shows_its_size_and_digest() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(veil("abc"), json!({ "bytes": 3, "sha256": expected }));
    }

    #[test]
    fn a_file_is_read_a_record_a_line() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("f.jsonl");
        let check = |text: &str, expected: Result<usize, &str>| {
            std::fs::write(&path, text).unwrap();
            let read = || {
                let (mut records, mut count) = (Records::open(&path)?, 0);
                while records.next()?.is_some() {
                    count += 1;
                }
                Ok::<_, Failure>(count)
            };
            match (read(), expected) {
                (Ok(count), Ok(expected)) => assert_eq!(count, expected),
                (Err(failure), Err(expected)) => assert!(failure.message.contains(expected), "{failure:?}"),
                (read, expected) => panic!("{read:?}, not {expected:?}"),
            }
        };
        let head = "{\"record\":\"export\",\"format\":1}\n";
        check(&format!("{head}{{\"record\":\"end\"}}\n"), Ok(1));
        check(&format!("{head}{{\"record\":\"of-tomorrow\",\"x\":1}}\n{{\"record\":\"end\"}}"), Ok(2));
        check("{\"record\":\"export\",\"format\":2}\n", Err("is of format 2; this phasework reads 1"));
        check("{\"record\":\"end\"}\n", Err("is no exported run"));
        check("", Err("is no exported run"));
        check(&format!("{head}{{\"record\":"), Err("f.jsonl:2: this is no record"));
        check("not JSON", Err("f.jsonl:1: this is no record"));
    }

    #[test]
    fn json_is_put_on_one_line() {
        assert_eq!(one_line("{\n  \"a\": \"x\\ny\"\r\n}"), "{   \"a\": \"x\\ny\"  }");
    }
}
