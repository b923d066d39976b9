//! `phasework dev`: an engine with nothing around it, that keeps what it does in a directory beside your code; `serve
//! --embedded` with defaults for somebody who writes workflows and handlers.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use phasework_engine::api::check_exposure;
use phasework_store::RunCounts;
use phasework_store::sqlite::FILES;

use super::serve::until_stopped;
use crate::failure::{Failure, Outcome};
use crate::output::{Stream, note};
use crate::settings::{Key, Layers, LogFormat, Settings, StoreUrl};
use crate::telemetry;

/// Where everything is kept if nobody says.
const STATE: &str = ".phasework";

/// What is logged if nobody says: what somebody should know of.
const LOGS: &str = "warn,lapin=off";

const EXAMPLES: &str = "\
Examples:
  phasework dev
  phasework dev --state /tmp/try --listen 127.0.0.1:7190
  PHASEWORK_LOG=info phasework dev

The state stays when this ends, by Ctrl-C or otherwise: at the next start every run goes on. To begin afresh, delete the
directory. Nothing in it is to be committed: it gets a .gitignore, if nothing else lies there. Broker and store are of this
process, whatever other settings say.";

/// Run everything in one process, for somebody who writes workflows
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    /// Where everything is kept [env: PHASEWORK_STATE] [default: ./.phasework]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Where the API listens [env: PHASEWORK_LISTEN] [default: 127.0.0.1:7180]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// What callers of the API have to show; needed to listen to other machines [env: PHASEWORK_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Runs the engine.
pub(crate) async fn run(args: DevArgs) -> Outcome {
    let flags = [
        (Key::STATE, args.state.as_deref()),
        (Key::LISTEN, args.listen.as_deref()),
        (Key::TOKEN, args.token.as_deref()),
    ];
    let mut layers = Layers::new(&flags, |name| std::env::var(name).ok(), None);
    layers.embed(Some(STATE))?;
    let mut settings = Settings::read(&layers, "dev")?;
    let exposed = check_exposure(settings.listen, &settings.tokens);
    exposed.map_err(|error| Failure::usage(error.to_string()).hint("--token or PHASEWORK_TOKEN sets a token"))?;
    let StoreUrl::Sqlite(dir) = settings.store.clone() else {
        return Err(Failure::usage("there is no directory to keep things in, which is a defect"));
    };
    let telemetry = telemetry::log(LogFormat::Text, LOGS)?;
    settings.engine.tracer = telemetry.tracer();
    until_stopped(settings, |address, runs| {
        if let Err(error) = keep_out_of_git(&dir) {
            tracing::warn!(%error, "no .gitignore in {}", dir.display());
        }
        note(&banner(&dir, address, runs));
    })
    .await
}

/// Whoever commits everything around does not commit the state. Where other things lie too, that is not for us to say.
fn keep_out_of_git(dir: &Path) -> std::io::Result<()> {
    for found in std::fs::read_dir(dir)? {
        let name = found?.file_name();
        if !FILES.iter().any(|ours| name == *ours) {
            return Ok(());
        }
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).open(dir.join(".gitignore")) {
        Ok(mut file) => std::io::Write::write_all(&mut file, b"*\n"),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// What runs where, and what to do with it.
fn banner(dir: &Path, address: SocketAddr, runs: RunCounts) -> String {
    let paint = Stream::Err.paint();
    let url = format!("http://{address}");
    // The address that commands ask by themselves.
    let ask = if address.to_string() == "127.0.0.1:7180" { String::new() } else { format!(" --url {url}") };
    let kept = match (runs.live, runs.ended) {
        (0, 0) => "no runs yet".to_owned(),
        (live, ended) => format!("{live} live and {ended} ended runs"),
    };
    let lines = [
        ("engine", format!("{}, broker and store in this process", paint.cyan(&url))),
        ("state", format!("{}, {kept}", dir.display())),
        ("worker", format!("PHASEWORK_URL={url} ./my-worker")),
        ("submit", format!("phasework run workflow.json --follow{ask}")),
        ("look", format!("phasework runs list{ask}")),
        ("stop", "Ctrl-C; at the next start every run goes on".to_owned()),
    ];
    let lines = lines.map(|(what, words)| format!("  {} {words}\n", paint.dim(&format!("{what:<8}"))));
    format!("{} {} is ready\n\n{}", paint.bold("phasework"), env!("CARGO_PKG_VERSION"), lines.concat())
}
