//! `phasework doctor`: looks at an installation, and says what is well, what is not, and what to do about it.
//!
//! In reading order: `facts` is what can be found out, `look` finds it out, `line` is one line of the judgement, `judge`
//! judges, with `broker`, `store`, `timeline` and `work`, and here it is told.

mod broker;
mod facts;
mod judge;
mod line;
mod look;
mod store;
#[cfg(test)]
mod tests;
mod timeline;
mod work;

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Cell, Color};
use serde_json::json;

use self::line::{Line, Status};
use crate::failure::{Exit, Outcome};
use crate::http::Api;
use crate::output::{Format, Rows, Stream, cell, note, say, say_items};
use crate::session::{Form, Server, Session};
use crate::settings::{Key, Layers, Settings, SettingsFile};

const EXAMPLES: &str = "\
Examples:
  phasework doctor --broker amqp://127.0.0.1:5672 --store redis://127.0.0.1:6379
  phasework doctor --broker memory: --store sqlite:/var/lib/phasework
  phasework doctor --url http://phasework.example      an engine elsewhere, besides
  phasework doctor --output json | jq '.lines[] | select(.status != \"ok\")'

Settings come from where `phasework serve` takes them: flags, the environment, a TOML file. RabbitMQ and Redis are looked
at directly, and the engine by its API, if one is named or answers on this machine. Nothing is changed.
Exit code 0 when all is well or deserves a look, 1 when something is wrong, 2 when settings are wrong or the broker or the
store does not let us in, 3 when one cannot be reached.";

/// Look at broker, store and engine: what is well, what is not, what to do
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Where messages travel: amqp://user:password@host:5672/vhost, amqps://… [env: PHASEWORK_BROKER]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Where runs are kept: redis://:password@host:6379/0, rediss://…, sqlite:DIR [env: PHASEWORK_STORE]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where the API of an engine is [env: PHASEWORK_API] [default: that of the context, or where `serve` would listen]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The token that the API asks for [env: PHASEWORK_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// What the names of all queues and keys begin with [env: PHASEWORK_PREFIX] [default: phasework]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// How many coordinator queues there are [env: PHASEWORK_COORDINATOR_QUEUES] [default: 8]
    #[arg(long, value_name = "N")]
    coordinator_queues: Option<String>,
    /// A TOML file with settings
    #[arg(long, env = "PHASEWORK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

impl DoctorArgs {
    fn flags(&self) -> [(Key, Option<&str>); 5] {
        [
            (Key::BROKER, self.broker.as_deref()),
            (Key::STORE, self.store.as_deref()),
            (Key::TOKEN, self.token.as_deref()),
            (Key::PREFIX, self.prefix.as_deref()),
            (Key::COORDINATOR_QUEUES, self.coordinator_queues.as_deref()),
        ]
    }
}

/// Whom an engine lets in is not looked at, and may be kept from whoever looks.
const KEPT_BY_SERVE: [Key; 3] = [Key::TOKENS, Key::TOKENS_FILE, Key::WORKER_TOKEN];

/// Looks at an installation.
pub(crate) async fn run(args: DoctorArgs, session: &Session) -> Outcome {
    let format = session.format(&args.form)?;
    let file = SettingsFile::find(args.config.as_deref().filter(|path| !path.as_os_str().is_empty()))?;
    let mut layers = Layers::new(&args.flags(), |name| std::env::var(name).ok(), file.as_ref());
    layers.leave_out(&KEPT_BY_SERVE);
    let settings = Settings::read(&layers, "doctor")?;
    let asked = session.asked(&Server { url: args.url.clone(), token: args.token.clone() })?;
    let url = if asked.is_named { asked.url } else { format!("http://{}", settings.listen) };
    let api = Api::new(&url, asked.token.or_else(|| settings.token.clone()).as_deref())?;
    let lines = judge::judge(&look::look(&settings, &api, asked.is_named).await);
    tell(&lines, format)?;
    Ok(lines.iter().map(|line| line.exit).max().unwrap_or(Exit::Good))
}

fn tell(lines: &[Line], format: Format) -> Outcome {
    let count = |status| lines.iter().filter(|line| line.status == status).count();
    let (errors, warnings) = (count(Status::Error), count(Status::Warning));
    if format != Format::Table {
        say_items(&json!({ "errors": errors, "warnings": warnings, "lines": lines }), lines, format)?;
        return Ok(Exit::Good);
    }
    say(&table(lines, Rows::new(&[])))?;
    let paint = Stream::Err.paint();
    note(&match (errors, warnings) {
        (0, 0) => paint.green("all is well"),
        (0, warnings) => paint.yellow(&counted(warnings, "warning")),
        (errors, 0) => paint.red(&counted(errors, "error")),
        (errors, warnings) => paint.red(&format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"))),
    });
    Ok(Exit::Good)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Aligned columns; an area is named once, a hint stands under its line.
fn table(lines: &[Line], mut rows: Rows) -> String {
    let mut area = "";
    for line in lines {
        let named = if line.area == area { "" } else { line.area };
        area = line.area;
        rows.add(vec![cell(named), status_cell(line.status), cell(line.what), cell(&line.found)]);
        if let Some(hint) = &line.hint {
            rows.add(vec![cell(""), cell(""), cell(""), cell(format!("→ {hint}")).fg(Color::Cyan)]);
        }
    }
    rows.text(&[0, 1, 2])
}

fn status_cell(status: Status) -> Cell {
    match status {
        Status::Ok => cell("ok").fg(Color::Green),
        Status::Warning => cell("warning").fg(Color::Yellow),
        Status::Error => cell("error").fg(Color::Red),
    }
}
