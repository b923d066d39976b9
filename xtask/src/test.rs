//! `cargo xtask test` and `cargo xtask with`: builds, starts the services, runs, sums up. Which tests there are is
//! cargo's business, and what they need to know is in two environment variables.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::beside::{Beside, built, politely};
use crate::new_handler;
use crate::tally::Tally;
use xtask::languages::Languages;
use xtask::services::{Plan, Services};
use xtask::tied::{self, Tied};

/// What `cargo xtask test` is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only the tests whose name contains this
    filter: Option<String>,
    /// Leave the services' logs and data where they are, and say where
    #[arg(long)]
    keep: bool,
    /// Start no services; tests that need one find it only where the environment already names it
    #[arg(long)]
    no_services: bool,
    /// Leave out the chaos, which takes about two minutes and is left out with a filter anyway
    #[arg(long)]
    no_chaos: bool,
    /// Leave out the simulations, which are left out with a filter anyway
    #[arg(long)]
    no_simulations: bool,
    /// For the test programs, such as `-- --nocapture`
    #[arg(last = true, value_name = "ARGUMENTS")]
    passed_on: Vec<OsString>,
}

/// What `cargo xtask with` is told.
#[derive(clap::Args)]
pub(crate) struct WithArguments {
    /// Leave the services' logs and data where they are, and say where
    #[arg(long)]
    keep: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs a command with services. Its status becomes ours.
pub(crate) fn with(arguments: &WithArguments) -> Result<ExitCode> {
    let services = Services::start(arguments.keep)?;
    let mut command = tied::command(&arguments.command[0]);
    services.announce_to(command.args(&arguments.command[1..]));
    let status = Tied::spawn(&mut command).and_then(Tied::wait).context("cannot run the command")?;
    Ok(code(status))
}

/// Runs the tests of the whole workspace, and their documentation's examples.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let began = Instant::now();
    // What cannot work is said before minutes of compiling.
    let plan = if arguments.no_services { None } else { Some((Plan::make()?, Languages::prepare(&workspace())?)) };
    let mut build = tied::cargo();
    build.args(["test", "--workspace", "--all-targets", "--no-run"]);
    let status = Tied::spawn(&mut build).and_then(Tied::wait).context("cannot run cargo")?;
    if !status.success() {
        eprintln!("xtask: the tests do not compile, so none has run");
        return Ok(code(status));
    }
    let services = match plan {
        Some((plan, languages)) => Some((plan.start(arguments.keep)?, languages)),
        None => None,
    };

    let is_whole = arguments.filter.is_none();
    let simulations = if is_whole && !arguments.no_simulations {
        Some(Beside::start(politely().arg(built("simulate")?))?)
    } else {
        None
    };
    // What it is built with takes minutes to compile, and its test comes last.
    let template = if is_whole { Some(new_handler::build_beside()?) } else { None };
    let mut tally = Tally::default();
    let mut result = ExitCode::SUCCESS;
    for targets in ["--all-targets", "--doc"] {
        let failed_before = tally.failed;
        let status = cargo_test(targets, arguments, services.as_ref(), &mut tally)?;
        if !status.success() {
            result = code(status);
            if tally.failed == failed_before {
                fail(&mut tally, format!("`cargo test {targets}` ended with {status} (see above)"));
            }
        }
    }
    drop((services, template));
    if let Some(simulations) = simulations {
        count(&mut tally, "the simulations", simulations.finish("simulations"));
    }
    // What has the services to itself: it kills them.
    if chaos_too(arguments) {
        count(&mut tally, "the chaos", crate::chaos::holds(CHAOS_SEED, arguments.keep));
    }
    if tally.failed > 0 && result == ExitCode::SUCCESS {
        result = ExitCode::FAILURE;
    }
    report(&tally, began.elapsed());
    Ok(result)
}

/// The faults of every test run are the same, so that one that fails is that of the change. Others come with `cargo xtask
/// chaos`, which draws a seed.
const CHAOS_SEED: u64 = 24914;

/// Chaos belongs to a whole test, on servers that it may kill.
fn chaos_too(arguments: &Arguments) -> bool {
    arguments.filter.is_none() && !arguments.no_services && !arguments.no_chaos && Plan::all_is_ours()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Counts what is not one of cargo's tests.
fn count(tally: &mut Tally, name: &str, passed: Result<bool>) {
    match passed {
        Ok(true) => tally.passed += 1,
        Ok(false) => fail(tally, format!("{name} (see above)")),
        Err(error) => fail(tally, format!("{name}: {error:#}")),
    }
}

fn fail(tally: &mut Tally, name: String) {
    tally.failed += 1;
    tally.failures.push(name);
}

/// Runs one `cargo test`, shows what it writes and counts along.
fn cargo_test(
    targets: &str,
    arguments: &Arguments,
    services: Option<&(Services, Languages)>,
    tally: &mut Tally,
) -> Result<ExitStatus> {
    let mut command = tied::cargo();
    command.args(["test", "--workspace", targets, "--no-fail-fast"]).args(&arguments.filter);
    if !arguments.passed_on.is_empty() {
        command.arg("--").args(&arguments.passed_on);
    }
    // Most tests of whole systems wait most of the time.
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        command.env("RUST_TEST_THREADS", (2 * cores).to_string());
    }
    if let Some((services, languages)) = services {
        services.announce_to(&mut command);
        languages.announce_to(&mut command);
    }
    let mut process = Tied::spawn(command.stdout(Stdio::piped())).context("cannot run cargo")?;
    let stdout = process.take_stdout().context("cargo's output is not piped")?;

    let shared = Arc::new(Mutex::new(std::mem::take(tally)));
    let at_the_end = show(stdout, Arc::clone(&shared));
    let status = process.wait().context("cannot wait for cargo")?;
    // A program that a test left running, out of our reach, could hold the output open for ever.
    if at_the_end.recv_timeout(Duration::from_secs(10)) == Err(mpsc::RecvTimeoutError::Timeout) {
        eprintln!("xtask: a test has left a program running that holds its output open");
    }
    *tally = std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner));
    tally.end();
    Ok(status)
}

/// Writes out and counts every line, on a thread of its own; the channel closes at the end of them.
fn show(stdout: ChildStdout, tally: Arc<Mutex<Tally>>) -> mpsc::Receiver<()> {
    let (open, at_the_end) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _open = open;
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(mut line) = line else { return };
            tally.lock().unwrap_or_else(PoisonError::into_inner).read(String::from_utf8_lossy(&line).trim_end());
            line.push(b'\n');
            // Nobody may be reading any more; the tests and their count go on.
            io::stdout().write_all(&line).ok();
        }
    });
    at_the_end
}

fn report(tally: &Tally, took: Duration) {
    println!();
    if !tally.failures.is_empty() {
        println!("Failed:");
        tally.failures.iter().for_each(|name| println!("  {name}"));
    }
    println!("Took {} min {} s.", took.as_secs() / 60, took.as_secs() % 60);
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
}

/// The status of a child as our own; one that ended by a signal is a failure.
fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
