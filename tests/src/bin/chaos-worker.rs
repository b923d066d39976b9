//! A worker for the chaos program. Each of its handlers appends one line for every execution to the file in `LEDGER`,
//! which no other process writes: `stamp run entry phase handler index attempt result`. The stamp names the execution
//! and goes into the output too, so that every output can be led back to the execution that it is from.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use phasework_sdk::{Context, HandlerError, Worker};
use serde::{Deserialize, Serialize};

const VERSION: &str = "1.0.0";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter("info").with_writer(io::stderr).with_ansi(false).init();
    let ledger =
        Arc::new(Ledger::open(&std::env::var("LEDGER").context("started by the chaos program, not by hand")?)?);
    let hosted = |result: fn(&Input, &Context) -> Result<Value, HandlerError>| {
        let ledger = Arc::clone(&ledger);
        move |input: Input, ctx: Context| {
            let ledger = Arc::clone(&ledger);
            async move {
                tokio::time::sleep(pause(&ctx)).await;
                let result = result(&input, &ctx);
                let stamp = ledger.note(&ctx, if result.is_ok() { "done" } else { "failed" })?;
                Ok::<_, HandlerError>(Output { value: result?, stamp })
            }
        }
    };
    Worker::from_env()?
        .handler("Step", VERSION, hosted(|input, _| Ok(Value::Number(input.number() + 1))))
        .handler("Count", VERSION, hosted(|input, _| Ok(Value::Number(input.number()))))
        .handler("List", VERSION, hosted(|input, _| Ok(Value::Items((0..input.number()).map(Item::new).collect()))))
        .handler("Double", VERSION, hosted(|input, _| Ok(Value::Number(input.number() * 2))))
        .handler("Sum", VERSION, hosted(|input, _| Ok(Value::Number(input.sum()))))
        .handler("Flaky", VERSION, hosted(flaky))
        .handler("Picky", VERSION, hosted(picky))
        .concurrency(8)
        .run()
        .await?;
    Ok(())
}

/// Fails as often as the index of the job says, at most twice.
fn flaky(input: &Input, ctx: &Context) -> Result<Value, HandlerError> {
    if u64::from(ctx.try_number()) <= ctx.index() % 3 {
        return Err(HandlerError::retry("not yet"));
    }
    Ok(Value::Number(input.number()))
}

/// Fails for good where the number ends with 3.
fn picky(input: &Input, _: &Context) -> Result<Value, HandlerError> {
    match input.number() {
        number if number % 10 == 3 => Err(HandlerError::fail("a 3")),
        number => Ok(Value::Number(number)),
    }
}

/// Between 50 and 200 ms, by which job it is: so that there is always something under way.
fn pause(ctx: &Context) -> Duration {
    Duration::from_millis(50 + ctx.index() * 37 % 151)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Number(u64),
    Numbers(Vec<u64>),
    Item(Item),
}

impl Input {
    fn number(&self) -> u64 {
        match self {
            Self::Number(number) | Self::Item(Item { number }) => *number,
            Self::Numbers(_) => self.sum(),
        }
    }

    fn sum(&self) -> u64 {
        match self {
            Self::Numbers(numbers) => numbers.iter().sum(),
            Self::Number(_) | Self::Item(_) => self.number(),
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Item {
    number: u64,
}

impl Item {
    const fn new(number: u64) -> Self {
        Self { number }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    Items(Vec<Item>),
}

#[derive(Serialize)]
struct Output {
    value: Value,
    stamp: String,
}

/// What the handlers of this process did.
struct Ledger {
    file: File,
    name: String,
    lines: AtomicU64,
}

impl Ledger {
    fn open(path: &str) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create_new(true).append(true).open(path).with_context(|| path.to_owned())?;
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        Ok(Self { file, name, lines: AtomicU64::new(0) })
    }

    /// One write of a short line to a file opened for appending is not torn.
    fn note(&self, ctx: &Context, result: &str) -> io::Result<String> {
        let stamp = format!("{}.{}", self.name, self.lines.fetch_add(1, Ordering::Relaxed));
        let (run, entry, phase, handler) = (ctx.run(), ctx.entry(), ctx.phase(), ctx.handler());
        let line = format!("{stamp} {run} {entry} {phase} {handler} {} {} {result}\n", ctx.index(), ctx.attempt());
        (&self.file).write_all(line.as_bytes())?;
        Ok(stamp)
    }
}
