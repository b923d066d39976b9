//! `cargo xtask`: what a contributor types. It finds or installs what the tests need, starts private services, runs
//! cargo and sums up. The services are the library beside it.

mod bench;
mod beside;
mod chaos;
mod check;
mod fuzz;
mod new_handler;
mod simulate;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a contributor types.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                             everything, on real RabbitMQ and Redis
  cargo xtask test fan_in                      the tests with `fan_in` in their name
  cargo xtask with cargo test -p phasework-store    one crate, with services at hand
  cargo xtask simulate                         2,000 simulations of the whole engine, and nothing lost
  cargo xtask chaos --minutes 30               processes killed, frozen and cut off, and nothing lost
  cargo xtask bench                            what a job costs
  cargo xtask fuzz                             bytes that nobody thought of, a minute for each reader
  cargo xtask new-handler PageCounter          a crate with one handler and its tests, to begin with
  cargo xtask check                            what a change must pass besides the tests";

#[derive(Subcommand)]
enum Command {
    /// Run all tests, with a RabbitMQ and a Redis of their own
    ///
    /// RabbitMQ and Redis are taken from this machine. On Debian and Ubuntu, as root or with sudo, a missing one is
    /// installed with apt-get. Private instances are started on free ports of 127.0.0.1, in a temporary directory, and
    /// are stopped and removed at the end, however that comes. An instance that runs already is never touched.
    ///
    /// Beside them go 2,000 simulations (see `cargo xtask simulate`), and in the end comes a minute of chaos (see `cargo
    /// xtask chaos`), unless only some tests were asked for.
    ///
    /// To use your own, set PHASEWORK_TEST_BROKER_URL (amqp://…) and PHASEWORK_TEST_STORE_URL (redis://…).
    ///
    /// The last line is `N passed, N failed, N skipped`; the exit status is that of the tests.
    Test(test::Arguments),
    /// Run a command with a RabbitMQ and a Redis of its own
    ///
    /// The command finds them in PHASEWORK_TEST_BROKER_URL and PHASEWORK_TEST_STORE_URL. They end when it ends.
    With(test::WithArguments),
    /// Play the whole engine in simulated time, on parts that fail as a seed has it, and check the invariants
    ///
    /// Real coordinators, workers and clients in one thread, on a broker, a store and clocks that fail in every way. The
    /// same seed is the same simulation. What fails is shown with the least that has to go wrong for it, and with the
    /// command that plays it again. `cargo xtask simulate --help` says more.
    #[command(disable_help_flag = true)]
    Simulate(simulate::Arguments),
    /// Kill, freeze and cut off real processes at random, and check that nothing is lost
    ///
    /// Three coordinators and four workers, as processes of their own on a RabbitMQ and a Redis of their own, work on
    /// some hundreds of runs, while faults strike at moments that the seed decides. Then it is checked, from what the
    /// handlers wrote down and what the HTTP API says, that nothing was lost and nothing counted twice.
    Chaos(chaos::Arguments),
    /// Measure what a job costs, on a RabbitMQ and a Redis of its own
    ///
    /// Builds with optimisations and runs fan-outs, chains, single runs, small runs beside a huge one, slow jobs and large
    /// payloads: on RabbitMQ and Redis, embedded, and over the gateway, with workers as processes of their own. Prints a
    /// table of what each took, beside what the servers could do alone. `cargo xtask bench --help` says more.
    #[command(disable_help_flag = true)]
    Bench(bench::Arguments),
    /// Run the fuzz targets, a minute each
    ///
    /// A fuzzer looks for bytes that make a reader panic, hang, or break what it promises: definitions, expressions,
    /// messages, stored runs, and runs whose workers say anything. It needs a C++ compiler besides Rust. What it finds is
    /// kept under target/fuzz, and the last lines say how to see it again.
    Fuzz(fuzz::Arguments),
    /// Make a small crate to begin with: one handler, its tests, a workflow
    ///
    /// A copy of examples/greeter with another name, which finds the SDK where this repository is.
    NewHandler(new_handler::Arguments),
    /// Check formatting, lints, documentation, and licences where cargo-deny is installed
    Check,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::With(arguments) => test::with(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Chaos(arguments) => chaos::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::NewHandler(arguments) => new_handler::run(&arguments),
        Command::Check => check::run(),
    };
    // Not returned from here: what a person has to do would come with a backtrace.
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
