//! `phasework certify`, on workers in several languages: ours keep every promise, and one that was made to break a
//! promise is found to.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use phasework_tests::Setting;
use serde_json::Value;

use crate::processes::program;

/// Where the test command has put the libraries that the workers in Python import, and the worker in TypeScript.
const PYTHON_LIBRARIES: &str = "PHASEWORK_TEST_PYTHON_LIBRARIES";
const TYPESCRIPT_WORKER: &str = "PHASEWORK_TEST_TYPESCRIPT_WORKER";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("examples")
}

/// A worker to be tried.
struct Tried {
    command: String,
    /// The broker it uses, if it does not come over HTTP.
    broker: Option<String>,
    /// What it imports.
    libraries: Option<String>,
}

impl Tried {
    fn rust(broker: Option<&str>) -> Self {
        let command = program("certified-worker").display().to_string();
        Self { command, broker: broker.map(str::to_owned), libraries: None }
    }

    /// A worker in Python, from `directory`.
    fn python(directory: &Path, broker: Option<&str>) -> Self {
        let file = if broker.is_some() { "amqp_worker.py" } else { "http_worker.py" };
        let command = format!("python3 -u {}", directory.join(file).display());
        Self { command, broker: broker.map(str::to_owned), libraries: std::env::var(PYTHON_LIBRARIES).ok() }
    }

    fn typescript(worker: &str) -> Self {
        Self { command: format!("node {worker}"), broker: None, libraries: None }
    }

    fn certify(&self, only: &[&str]) -> Output {
        let mut arguments = vec!["certify"];
        arguments.extend(self.broker.iter().flat_map(|broker| ["--broker", broker]));
        arguments.extend(only.iter().flat_map(|name| ["--only", name]));
        self.run(&arguments)
    }

    /// Runs a command of ours with this worker.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("phasework"));
        command.args(arguments).args(["--command", &self.command, "--output", "json"]);
        if let Some(libraries) = &self.libraries {
            command.env("PYTHONPATH", libraries).env("PYTHONDONTWRITEBYTECODE", "1");
        }
        command.output().expect("the command runs")
    }
}

/// The broker, and the worker in TypeScript; `None` when the test command has not brought them, and Python's libraries.
fn brought() -> Option<(String, String)> {
    let Some(Setting::Real { broker, .. }) = Setting::real() else {
        eprintln!("not run: no real parts were started; `cargo xtask test` does");
        return None;
    };
    let typescript = std::env::var(TYPESCRIPT_WORKER).ok().filter(|_| std::env::var_os(PYTHON_LIBRARIES).is_some());
    if typescript.is_none() {
        eprintln!("not run: {PYTHON_LIBRARIES} and {TYPESCRIPT_WORKER} are not set; `cargo xtask test` sets them");
    }
    Some((broker, typescript?))
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn workers_in_every_language_are_certified() {
    let Some((broker, typescript)) = brought() else { return };
    let python = examples().join("python");
    let tried = [
        ("Rust over AMQP", Tried::rust(Some(&broker))),
        ("Rust over HTTP", Tried::rust(None)),
        ("Python over AMQP", Tried::python(&python, Some(&broker))),
        ("Python over HTTP", Tried::python(&python, None)),
        ("TypeScript over HTTP", Tried::typescript(&typescript)),
    ];
    std::thread::scope(|scope| {
        let certified = tried.iter().map(|(name, worker)| (name, scope.spawn(|| worker.certify(&[]))));
        for (name, output) in certified.collect::<Vec<_>>() {
            let output = output.join().expect("no panic");
            let (stdout, stderr) = texts(&output);
            assert!(output.status.success() && stdout.contains("\"broken\": 0"), "{name}:\n{stderr}\n{stdout}");
        }
    });
}

/// How a worker is broken, and which promise that breaks: what is written in one of its files, and what is put there.
const BREAKS: &[(&str, &str, &str, &str)] = &[
    ("jobs.py", "\"attempt\": self.attempt}", "\"attempt\": 1}", "echo"),
    (
        "amqp_worker.py",
        "ensure_ascii=False).encode()",
        "ensure_ascii=False).encode().replace(b'\\xc3', b'?')",
        "unicode",
    ),
    ("jobs.py", "if \"input\" in item else", "if item.get(\"input\") else", "inputs"),
    ("worker.py", "queue = f\"coordinator.{job.group['coordinator']}\"", "queue = \"coordinator.1\"", "groups"),
    ("jobs.py", "retry=not isinstance(error, GiveUp)", "retry=True", "fails-for-good"),
    ("jobs.py", "self.group[\"timeout_ms\"] / 1000)", "None)", "timeout"),
    ("jobs.py", "if size > MOST_BYTES:", "if False:", "oversize"),
    ("worker.py", "any(job.is_canceled_by(item) for item in body[\"items\"])", "True", "canceled"),
    ("worker.py", "answers = [(\"dead\"", "_ = [(\"dead\"", "garbage"),
    ("worker.py", "\"ProbeReturned\", {\"items\": [probe]}", "\"ProbeReturned\", {\"items\": []}", "probe"),
    ("jobs.py", "if redelivered:", "if False:", "redelivered"),
    // Answers only the first of what comes twice.
    (
        "worker.py",
        "for item in items(group)]",
        "for item in items(group) if not SEEN.get((group['run'], item['index'])) and not SEEN.update({(group['run'], \
         item['index']): 1})]",
        "twice",
    ),
    // Says of jobs together that they are done, under another nonce.
    ("worker.py", "job.told(outcomes=[job.outcome])", "told(job)", "echo"),
    // Asks no more for a lease that it does not get, and goes on.
    ("jobs.py", "else self.stop(\"canceled\")", "else setattr(self, \"leased\", 1e12)", "lease"),
    // Keeps the message of a leased job.
    ("jobs.py", "self.safe.set() if \"leased_ms\" in answer", "None if \"leased_ms\" in answer", "lease"),
    // Keeps the message of a job that failed.
    ("worker.py", "job.safe.set()\n", "job.outcome[\"status\"] == \"failed\" or job.safe.set()\n", "acknowledged"),
    // Acknowledges a message when the first of its jobs is told of.
    (
        "worker.py",
        "await asyncio.gather(*(job.safe.wait() for job in jobs))",
        "jobs and await asyncio.wait([asyncio.create_task(job.safe.wait()) for job in jobs], \
         return_when=asyncio.FIRST_COMPLETED)",
        "acknowledged",
    ),
    ("amqp_worker.py", "self.deliver)) for queue", "self.deliver, no_ack=True)) for queue", "killed"),
    ("worker.py", "job.stop(\"draining\")", "job.safe.set()", "drain"),
];

/// What broken workers need besides: put behind the file that is changed.
const BROKEN: &str = r#"

SEEN = {}


def told(job):
    if job.outcome["status"] == "done" and job.outcome["output"] is None and job.attempt == 1:
        return job.told(done=[[job.index, 1]], nonce=7)
    return job.told(outcomes=[job.outcome])
"#;

/// What only a broker that confirms nothing finds out: over HTTP.
const HTTP_BREAKS: &[(&str, &str, &str, &str)] =
    &[("http_worker.py", "if result[\"status\"] == \"unconfirmed\"]", "if False]", "confirmed")];

#[test]
fn a_worker_that_breaks_a_promise_is_found_to() {
    let Some((broker, _)) = brought() else { return };
    let over_amqp = BREAKS.iter().map(|it| (it, Some(&*broker)));
    let over_http = HTTP_BREAKS.iter().map(|it| (it, None));
    let broken = over_amqp.chain(over_http).map(|(&(file, from, to, promise), broker)| {
        let directory = broken_worker(file, from, to);
        (Tried::python(directory.path(), broker), directory, promise)
    });
    let broken: Vec<_> = broken.collect();
    std::thread::scope(|scope| {
        let tried = broken.iter().map(|(worker, _, promise)| (promise, scope.spawn(|| worker.certify(&[promise]))));
        for (promise, output) in tried.collect::<Vec<_>>() {
            let output = output.join().expect("no panic");
            let (stdout, stderr) = texts(&output);
            assert_eq!(output.status.code(), Some(1), "{promise} was not seen to be broken:\n{stderr}\n{stdout}");
            assert!(stdout.contains("\"kept\": false"), "{promise}:\n{stderr}\n{stdout}");
        }
    });
}

/// Promises about lists, by what a worker does that breaks them: the check that has to find it, and what that says.
const LIST_BREAKS: &[(&str, &str, &str)] = &[
    ("names-the-entry", "lists", "a page says"),
    ("names-the-nonce", "lists", "a page says"),
    ("names-the-handler", "lists", "a page says"),
    ("names-the-attempt", "lists", "a page says"),
    ("says-it-there", "lists", "a page says"),
    ("number-from-1", "lists", "0 is no number for a list"),
    ("number-to-2^53", "lists", "9007199254740992 is no number for a list"),
    ("one-number", "lists", "two lists of one attempt"),
    ("lists-some", "lists", "a page has no jobs"),
    ("lists-them", "lists", "job 0 of the list is"),
    ("in-order", "lists", "out of order"),
    ("speaks", "lists", "nothing was heard for 15 s"),
    ("fails-for-good", "lists", "`retry` is not false"),
    ("says-what-it-sealed", "lists", "not with `list` and `jobs`"),
    ("counts", "lists", "3000 were listed, and the list is sealed with 2999"),
    ("seals-its-own", "lists", "sealed under another number"),
    ("seals-once", "lists", "sealed twice"),
    ("ends-with-its-seal", "lists", "a page came after the list was sealed"),
    ("waits", "unanswered", "17 pages came, and none of them was answered"),
    ("waits-for-answers", "unanswered", "no page was answered, and it says Done"),
    ("publishes-again", "unanswered", "not published again in 30 s"),
    ("can-be-told", "unanswered", "no `reply`"),
    ("stops", "unanswered", "more pages came"),
    ("hands-back", "unanswered", "did not hand it back"),
    ("hands-back-as-canceled", "unanswered", "handed back as `busy`"),
    ("works-on", "unanswered", "afterwards it does nothing more"),
    ("draws-anew", "one-list", "do they have the same number?"),
    ("gives-way", "one-list", "it sealed the other"),
    ("gives-way-as-such", "one-list", "handed back as `canceled`"),
    // What it is told of the other list has it hand back this one, or go on with that: whatever comes first.
    ("heeds-its-own", "one-list", "was taken"),
    ("draws-anew", "lists-apart", "the number of the list before"),
    ("speaks", "lists-apart", "it published no page within 15 s"),
    ("returns-redelivered", "lists-apart", "two lists mix"),
    ("tells-of-redelivered", "lists-apart", "nothing was said of a message that was delivered before"),
];

/// How many workers are tried at once, of those that take little.
const TOGETHER: usize = 12;

#[test]
fn a_worker_that_breaks_a_promise_about_lists_is_found_to() {
    let broker = if let Some(Setting::Real { broker, .. }) = Setting::real() { Some(broker) } else { None };
    let lister = |breaks: &str, broker: Option<&String>| Tried {
        command: format!("{} {breaks}", program("faithless-lister").display()),
        ..Tried::rust(broker.map(String::as_str))
    };
    let mut tried: Vec<_> = LIST_BREAKS.iter().map(|it| (it, None)).collect();
    tried.extend(broker.iter().flat_map(|broker| LIST_BREAKS.iter().map(move |it| (it, Some(broker)))));
    for tried in tried.chunks(TOGETHER) {
        std::thread::scope(|scope| {
            let certified = tried.iter().map(|&(it, broker)| {
                let worker = lister(it.0, broker);
                (it, scope.spawn(move || worker.certify(&[it.1])))
            });
            for ((breaks, promise, words), output) in certified.collect::<Vec<_>>() {
                let (stdout, stderr) = texts(&output.join().expect("no panic"));
                let told: Value = serde_json::from_str(&stdout).unwrap_or_default();
                let told = &told["promises"][0];
                let note = told["note"].as_str().unwrap_or_default();
                let is_found = told["name"] == *promise && told["kept"] == false && note.contains(words);
                assert!(is_found, "`{breaks}` was not found by `{promise}`: {note}\n{stderr}\n{stdout}");
            }
        });
    }
    // So it was that, and nothing else.
    for broker in [None].into_iter().chain(broker.iter().map(Some)) {
        let good = lister("none", broker).certify(&["lists", "unanswered", "one-list", "lists-apart"]);
        let (stdout, stderr) = texts(&good);
        assert!(good.status.success() && !stdout.contains("not tried"), "{stderr}\n{stdout}");
    }
}

/// Drills a worker with a workflow.
fn drill(worker: &Tried, workflow: &Path, data: &str) -> Output {
    worker.run(&["drill", &workflow.display().to_string(), "--data", data, "--seed", "7"])
}

/// Drills a worker that counts the words of three texts.
fn drill_counting(worker: &Tried) -> Output {
    drill(worker, &examples().join("word-count.json"), r#"{ "texts": ["to be or not to be", "that is", ""] }"#)
}

/// What a drill that went well has told.
fn told(output: &Output) -> Value {
    let (stdout, stderr) = texts(output);
    assert!(output.status.success(), "{stderr}\n{stdout}");
    serde_json::from_str(&stdout).expect("it is JSON")
}

#[test]
fn a_drill_says_whether_results_stay_the_same() {
    if brought().is_none() {
        return;
    }
    let told = told(&drill_counting(&Tried::python(&examples().join("python"), None)));
    assert_eq!((&told["same"], &told["seed"], &told["handlers"][0]["jobs"]), (&true.into(), &7.into(), &3.into()));
    let disturbances = told["rounds"].as_array().expect("rounds").iter().map(|round| round["disturbances"].as_u64());
    assert!(disturbances.skip(1).all(|count| count > Some(0)), "{told}");

    let clock = "\"at\": __import__('time').time(), \"words\": counted.total()";
    let directory = broken_worker("handlers.py", "\"words\": counted.total()", clock);
    let bad = drill_counting(&Tried::python(directory.path(), None));
    let (stdout, stderr) = texts(&bad);
    assert_eq!(bad.status.code(), Some(1), "{stderr}\n{stdout}");
    assert!(stdout.contains("\"same\": false") && stdout.contains("\"other\""), "{stderr}\n{stdout}");

    // What may differ may do so in the run's result too.
    let workflow = examples().join("word-count.json").display().to_string();
    let mut arguments = vec!["drill", &workflow, "--data", r#"{ "texts": ["to be", ""] }"#, "--seed", "7"];
    arguments.extend(["/at", "/texts/0/at", "/texts/1/at"].iter().flat_map(|pointer| ["--ignore", pointer]));
    self::told(&Tried::python(directory.path(), None).run(&arguments));
}

/// A workflow of one phase with the handler that certification asks for, as `handler` says.
fn workflow(directory: &Path, handler: &str) -> PathBuf {
    let path = directory.join("workflow.json");
    let text = format!(
        r#"{{ "workflow": "drilled", "phases": {{
             "working": {{ "is_initial": true, "transitions_to": "end", "handlers": [{handler}] }},
             "end": {{ "is_final": true }} }} }}"#
    );
    std::fs::write(&path, text).expect("it can be written");
    path
}

#[test]
fn lists_that_handlers_make_are_drilled_like_jobs() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let workflow = workflow(directory.path(), r#"{ "name": "Certify", "enumerate": true }"#);
    let good = told(&drill(&Tried::rust(None), &workflow, r#"{ "list": 5 }"#));
    let handler = &good["handlers"][0];
    assert_eq!((&handler["jobs"], &handler["lists"]), (&5.into(), &1.into()), "{good}");
    // Undisturbed, killed twice or more, late; what was delivered again was told that it does not matter any more.
    assert!(handler["listed"].as_u64() >= Some(4), "{good}");

    for (how, expected) in [("items", "\"list\": true"), ("length", "that are not there undisturbed")] {
        let bad = Tried { command: format!("{} {how}", program("bad-lister").display()), ..Tried::rust(None) };
        let bad = drill(&bad, &workflow, "null");
        let (stdout, stderr) = texts(&bad);
        assert_eq!(bad.status.code(), Some(1), "{how}:\n{stderr}\n{stdout}");
        assert!(stdout.contains("\"list\": true"), "{how}:\n{stderr}\n{stdout}");
        assert!(stdout.contains(expected) || how == "length", "{how}:\n{stderr}\n{stdout}");
    }
}

#[test]
fn a_drill_leaves_each_job_a_try() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for (attempts, most) in [(1, 1), (2, 2)] {
        // One job at a time, so that the same job is there whenever the worker dies.
        let handler = format!(r#"{{ "name": "Certify", "retry": {{ "max_attempts": {attempts}, "delay": "10ms" }} }}"#);
        let workflow = workflow(directory.path(), &handler);
        let good = told(&drill(&Tried::rust(None), &workflow, r#"{ "do": "echo", "value": "once more" }"#));
        let killed = &good["rounds"][2];
        assert_eq!((&killed["round"], &killed["state"]), (&"killed".into(), &"succeeded".into()), "{good}");
        assert!((1..=most).contains(&killed["disturbances"].as_u64().unwrap_or(0)), "{attempts}: {good}");
    }
}

/// A copy of the worker in Python, with one thing in it changed.
fn broken_worker(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for name in ["amqp_worker.py", "handlers.py", "http_worker.py", "jobs.py", "worker.py"] {
        let mut text = std::fs::read_to_string(examples().join("python").join(name)).expect("it can be read");
        if name == file {
            assert!(text.contains(from), "{file} does not contain `{from}`");
            text = text.replace(from, to) + BROKEN;
        }
        std::fs::write(directory.path().join(name), text).expect("it can be written");
    }
    directory
}
