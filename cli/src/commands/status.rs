//! `phasework status`: which server answers, whether it can work, and how much there is.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, Ask};
use crate::output::{Paint, Stream, note};
use crate::routes;
use crate::session::{Server, Session, WatchedForm};
use crate::views::ReadinessView;
use crate::watch::{Answer, Page, show};

const EXAMPLES: &str = "\
Examples:
  phasework status
  phasework status --watch 5
  phasework status --output json | jq .ready
  until phasework status; do sleep 1; done      wait for a server that is starting

Exit code 0 when the server can work, 3 when it cannot, or is not there. One that is starting is given 5 seconds.";

/// How long a server that is starting is waited for.
const STARTING: Duration = Duration::from_secs(5);

/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Show which server answers, whether it can work, and how much there is
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    form: WatchedForm,
    #[command(flatten)]
    server: Server,
}

/// Shows how a server is.
pub(crate) async fn run(args: StatusArgs, session: &Session) -> Outcome {
    let api = session.api(&args.server)?;
    if args.form.watch.is_none() {
        until_started(&api).await?;
    }
    let is_ready = std::cell::Cell::new(false);
    let ask = async || {
        let whole = ask(&api).await?;
        is_ready.set(whole["ready"] == true);
        Ok(Answer { whole, items: None, is_final: false })
    };
    let shown =
        show(session, &args.form, "server", ask, |answer, _| Ok(tell(&answer.whole, Stream::Out.paint()))).await?;
    Ok(if shown == Exit::Good && !is_ready.get() { Exit::Unreachable } else { shown })
}

/// Waits for a server that is starting, which mostly takes a moment.
async fn until_started(api: &Api) -> Result<(), Failure> {
    let begun = Instant::now();
    while api.readiness().await?.starting && begun.elapsed() < STARTING {
        if begun.elapsed() < ASK_EVERY {
            note("the server is starting");
        }
        // Another process: it can only be asked.
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

async fn ask(api: &Api) -> Result<Value, Failure> {
    let _: Value = api.get(&routes::LIVE, &[], Ask::default()).await?;
    let ReadinessView { starting, reasons, warnings } = api.readiness().await?;
    let mut whole = json!({ "server": api.address(), "ready": reasons.is_empty(), "reasons": reasons });
    if !warnings.is_empty() {
        whole["warnings"] = json!(warnings);
    }
    if !reasons.is_empty() {
        whole["starting"] = starting.into();
        return Ok(whole); // what it cannot do now it need not be asked
    }
    let about: Value = api.get(&routes::ABOUT, &[], Ask::default()).await?;
    let one = || Ask { query: vec![("limit", "1".to_owned())], ..Ask::default() };
    let runs: Value = api.get(&routes::RUNS, &[], one()).await?;
    let dead: Value = api.get(&routes::DEAD, &[], one()).await?;
    let coordinators: Value = api.get(&routes::COORDINATORS, &[], Ask::default()).await?;
    let workers: Value = api.get(&routes::WORKERS, &[], Ask::default()).await?;
    let workers = workers["workers"].as_array().map_or(&[][..], Vec::as_slice);
    let live = workers.iter().filter(|worker| worker["live"] == true).count();
    whole["version"] = about["version"].clone();
    whole["runs"] = runs["counts"].clone();
    whole["coordinators"] = coordinators["coordinators"].as_array().map_or(0, Vec::len).into();
    whole["workers"] = json!({ "live": live, "lost": workers.len() - live });
    whole["dead_letters"] = dead["count"].clone();
    Ok(whole)
}

fn tell(status: &Value, paint: Paint) -> Page {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        writeln!(text, "{} {value}", paint.dim(&format!("{what:<8}"))).expect("writing to memory");
    };
    line("server", status["server"].as_str().unwrap_or_default().to_owned());
    if status["ready"] != true {
        line("ready", if status["starting"] == true { paint.yellow("starting") } else { paint.red("no") });
        for reason in status["reasons"].as_array().into_iter().flatten() {
            line("", paint.yellow(reason.as_str().unwrap_or_default()));
        }
        return Page { text, ..Page::default() };
    }
    let count = |part: &str, field: &str| status[part][field].as_u64().unwrap_or_default();
    line("version", status["version"].as_str().unwrap_or("?").to_owned());
    line("ready", paint.green("yes"));
    for warning in status["warnings"].as_array().into_iter().flatten() {
        line("", paint.yellow(warning.as_str().unwrap_or_default()));
    }
    line(
        "engine",
        match status["coordinators"].as_u64().unwrap_or_default() {
            1 => "1 coordinator".to_owned(),
            count => format!("{count} coordinators"),
        },
    );
    line("runs", format!("{} live, {} ended", count("runs", "live"), count("runs", "ended")));
    let lost = match count("workers", "lost") {
        0 => String::new(),
        lost => paint.yellow(&format!(", {lost} not heard of lately")),
    };
    line("workers", format!("{} live{lost}", count("workers", "live")));
    let dead = status["dead_letters"].as_u64().unwrap_or_default();
    line("dead", if dead == 0 { "no letters".to_owned() } else { paint.yellow(&format!("{dead} letters")) });
    Page { text, ..Page::default() }
}
