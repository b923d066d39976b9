//! `cargo xtask fuzz`: builds the fuzz targets, runs each for a while, and says what came of it. The targets are a
//! package of their own outside of the workspace, as they are built with instrumentation, which stable Rust can do.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use xtask::tied::{self, Tied};

/// The targets, each with the files that the fuzzer begins with; `*` stands for every file of a folder.
const TARGETS: [(&str, &[&str]); 5] = [
    ("definition", &["workflows/catalog/*", "workflows/tests/fixtures/*", "fuzz/seeds/definition/*"]),
    ("expression", &["fuzz/seeds/expression/*"]),
    ("message", &["workflows/src/message/golden/*"]),
    ("state", &["workflows/src/run/tests/format-1/*"]),
    ("worker", &[]),
];

/// What has the compiler count what was reached and compared, for libFuzzer.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing";

/// An input may take so many seconds and so many megabytes. Our limits are far below, but a machine may be busy.
const LIMITS: [&str; 2] = ["-timeout=20", "-rss_limit_mb=2048"];

/// What `cargo xtask fuzz` is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only this one: definition, expression, message, state, worker
    target: Option<String>,
    /// For how long to run each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Run this input once in place of looking for others, as to see a failure again
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

/// What came of one target.
struct Ran {
    target: &'static str,
    /// What libFuzzer said last of what it reached, if it got as far.
    coverage: Option<String>,
    /// How many inputs it ran, and how many a second.
    runs: Option<String>,
    /// The input that broke something.
    crash: Option<PathBuf>,
    passed: bool,
}

/// Builds and runs them. Fails when one of them found something.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let chosen: Vec<_> =
        TARGETS.iter().filter(|(name, _)| arguments.target.as_ref().is_none_or(|wanted| wanted == name)).collect();
    let names = TARGETS.map(|(name, _)| name).join(", ");
    ensure!(!chosen.is_empty(), "there is no such target: choose one of {names}");
    let programs = build()?;
    if let (Some(input), [(target, _)]) = (&arguments.input, chosen.as_slice()) {
        let mut program = tied::command(programs.join(target));
        let status = Tied::spawn(program.args(LIMITS).arg(input)).and_then(Tied::wait).context("cannot run it")?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut ran = Vec::new();
    for (target, seeds) in chosen {
        ran.push(fuzz(target, seeds, &programs.join(target), arguments.seconds)?);
    }
    ran.iter().for_each(report);
    Ok(if ran.iter().all(|ran| ran.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds all targets; the folder they are in then.
fn build() -> Result<PathBuf> {
    let host = host()?;
    // With the target named, build scripts and macros are spared the instrumentation, which only the fuzzer has use for.
    let mut build = tied::cargo();
    build.args(["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target/fuzz"]);
    build.args(["--target", &host]).current_dir(root()).env("RUSTFLAGS", INSTRUMENTATION);
    let status = Tied::spawn(&mut build).and_then(Tied::wait).context("cannot run cargo")?;
    ensure!(
        status.success(),
        "the fuzz targets do not compile; they need a C++ compiler (g++ or clang++) besides Rust"
    );
    Ok(root().join("target/fuzz").join(host).join("release"))
}

/// The platform this is compiled for, in the compiler's words.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = words.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` does not name its host")?.to_owned())
}

/// Runs one target. What it has found interesting stays in its corpus for the next time.
fn fuzz(target: &'static str, seeds: &[&str], program: &Path, seconds: u32) -> Result<Ran> {
    println!("xtask: fuzzing {target} for {seconds} s");
    let place = root().join("target/fuzz").join(target);
    let (corpus, begin, crashes) = (place.join("corpus"), place.join("seeds"), place.join("crashes"));
    for folder in [&corpus, &begin, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    plant(target, seeds, &begin)?;
    let log = place.join("log.txt");
    let output = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = tied::command(program);
    command.args(LIMITS).arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", crashes.display()));
    command.args(["-print_final_stats=1", "-max_len=8192", "-use_value_profile=1"]).args([&corpus, &begin]);
    let status = Tied::spawn(command.stdout(Stdio::null()).stderr(output)).and_then(Tied::wait);
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let ran = read_log(target, &String::from_utf8_lossy(&said), status.success());
    if !ran.passed {
        println!("xtask: {target} found something: see {}", log.display());
    }
    Ok(ran)
}

/// What libFuzzer wrote down.
fn read_log(target: &'static str, said: &str, passed: bool) -> Ran {
    let coverage = said.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(" cov: ")?;
        Some(rest.split_whitespace().next()?.to_owned())
    });
    let stat = |name: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        line.map(|line| line.trim_start_matches(':').trim().to_owned())
    };
    let executed = stat("number_of_executed_units").zip(stat("average_exec_per_sec"));
    let runs = executed.map(|(units, rate)| format!("{units} inputs, {rate} a second"));
    let written = said.lines().rev().find_map(|line| line.split_once("Test unit written to "));
    Ran { target, coverage, runs, crash: written.map(|(_, file)| PathBuf::from(file.trim())), passed }
}

fn report(ran: &Ran) {
    let result = if ran.passed { "ok" } else { "FAILED" };
    let runs = ran.runs.as_deref().unwrap_or("an unknown number of inputs");
    let coverage = ran.coverage.as_deref().unwrap_or("an unknown number of");
    println!("xtask: {:<10} {result}: {runs}, {coverage} edges reached", ran.target);
    if let Some(crash) = &ran.crash {
        println!("xtask:   to see it again: cargo xtask fuzz {} --input {}", ran.target, crash.display());
    }
}

/// Puts what the fuzzer begins with into `folder`, as the target reads it.
fn plant(target: &str, sources: &[&str], folder: &Path) -> Result<()> {
    for source in sources {
        let parent = root().join(source.trim_end_matches("/*"));
        let files = fs::read_dir(&parent).with_context(|| format!("cannot read {}", parent.display()))?;
        for file in files {
            let path = file?.path();
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().context("a file without a name")?;
            let seed = seed(target, &path, content)?;
            fs::write(folder.join(name), seed).with_context(|| format!("cannot write to {}", folder.display()))?;
        }
    }
    Ok(())
}

/// A file as its target reads it, and as short as it can be.
fn seed(target: &str, path: &Path, content: Vec<u8>) -> Result<Vec<u8>> {
    let compact = || -> Result<Value> {
        serde_json::from_slice(&content).with_context(|| format!("{} is no JSON", path.display()))
    };
    Ok(match target {
        "message" => {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut seed = vec![letter(&name)?];
            seed.extend(compact()?.to_string().into_bytes());
            seed
        }
        "state" => {
            let mut run = compact()?;
            if let Some(parts) = run.as_object_mut() {
                parts.retain(|part, _| matches!(part.as_str(), "head" | "bits" | "exceptions" | "outbox"));
            }
            // Some events: bytes of which the target makes them.
            let mut seed = run.to_string().into_bytes();
            seed.extend((0..200_u8).map(|n| n.wrapping_mul(37)));
            seed
        }
        _ => content,
    })
}

/// The letter by which the target `message` knows the kind of a golden file.
fn letter(golden: &str) -> Result<u8> {
    const KINDS: [(&str, u8); 15] = [
        ("jobs", b'a'),
        ("jobs_finished", b'b'),
        ("start_run", b'c'),
        ("phase_finished", b'd'),
        ("control", b'e'),
        ("leases", b'f'),
        ("leases_answered", b'g'),
        ("probe", b'h'),
        ("probe_returned", b'i'),
        ("submit", b'j'),
        ("worker_announced", b'k'),
        ("lifecycle", b'l'),
        ("dead_letter", b'm'),
        ("jobs_listed", b's'),
        ("list_answered", b't'),
    ];
    let exact = KINDS.iter().find(|(name, _)| *name == golden);
    // `control_rerun` is a `control` too.
    let found = exact.or_else(|| KINDS.iter().find(|(name, _)| golden.starts_with(name)));
    let Some((_, letter)) = found else {
        bail!("the golden file {golden} is new: give it its letter in xtask's fuzz.rs")
    };
    Ok(*letter)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_wrote_is_read() {
        let ok = "INFO: seed corpus: files: 5\n#2\tINITED cov: 30 ft: 31 corp: 1/1b\n\
                  #977\tDONE   cov: 1234 ft: 9000 corp: 10/1Kb\n\
                  stat::number_of_executed_units: 977\nstat::average_exec_per_sec:     48\n";
        let ran = read_log("message", ok, true);
        assert_eq!(ran.coverage.as_deref(), Some("1234"));
        assert_eq!(ran.runs.as_deref(), Some("977 inputs, 48 a second"));
        assert!(ran.crash.is_none() && ran.passed);

        let crashed =
            "#5\tNEW    cov: 7 ft: 9\nthread panicked\nartifact_prefix='/x/'; Test unit written to /x/crash-1\n";
        let ran = read_log("message", crashed, false);
        assert_eq!((ran.coverage.as_deref(), ran.crash), (Some("7"), Some(PathBuf::from("/x/crash-1"))));
    }

    #[test]
    fn every_target_has_its_program_and_its_seeds() {
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        let programs =
            manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""));
        assert_eq!(programs.collect::<Vec<_>>(), TARGETS.map(|(name, _)| name));
        let folder = tied::Directory::create(false).unwrap();
        for (target, seeds) in TARGETS {
            plant(target, seeds, folder.path()).unwrap();
        }
        assert!(fs::read_dir(folder.path()).unwrap().count() >= 20);
    }
}
