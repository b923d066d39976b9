//! `cargo xtask check`: what a change must pass besides the tests. All parts run, so that one round shows everything.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use xtask::install::find_on_path;
use xtask::tied::{self, Tied};

/// The parts, by what they are called, with the arguments of cargo.
const PARTS: [(&str, &[&str]); 5] = [
    ("formatting (mend with `cargo fmt --all`)", &["fmt", "--all", "--check"]),
    (
        "formatting of the fuzz targets (mend with `cargo fmt --manifest-path fuzz/Cargo.toml`)",
        &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"],
    ),
    ("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("lints of the fuzz targets", &FUZZ_LINTS),
    ("documentation", &["doc", "--workspace", "--no-deps"]),
];

/// The fuzz targets are outside of the workspace. Not linked with the fuzzer, they need no C++ compiler.
const FUZZ_LINTS: [&str; 12] = [
    "clippy",
    "--locked",
    "--manifest-path",
    "fuzz/Cargo.toml",
    "--target-dir",
    "target",
    "--no-default-features",
    "--lib",
    "--bins",
    "--",
    "-D",
    "warnings",
];

/// Runs every part and says which did not pass.
pub(crate) fn run() -> Result<ExitCode> {
    let mut failed = Vec::new();
    for (name, arguments) in PARTS {
        if !passes(name, arguments)? {
            failed.push(name);
        }
    }
    let licences = "licences, sources and banned crates";
    if find_on_path("cargo-deny").is_none() {
        println!("xtask: {licences}: only as the tests have it; for the rest, `cargo install --locked cargo-deny`");
    } else if !passes(
        licences,
        &["deny", "--workspace", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"],
    )? {
        failed.push(licences);
    }
    if failed.is_empty() {
        println!("xtask: all checks pass");
        return Ok(ExitCode::SUCCESS);
    }
    for name in failed {
        println!("xtask: does not pass: {name}");
    }
    Ok(ExitCode::FAILURE)
}

fn passes(name: &str, arguments: &[&str]) -> Result<bool> {
    println!("xtask: {name}");
    let mut command = tied::cargo();
    command.args(arguments).env("RUSTDOCFLAGS", "-D warnings");
    let status = Tied::spawn(&mut command).and_then(Tied::wait);
    Ok(status.with_context(|| format!("cannot run `cargo {}`", arguments.join(" ")))?.success())
}
