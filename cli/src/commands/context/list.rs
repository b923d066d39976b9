//! `phasework context list` and `phasework context show`: which servers there are. Tokens are never shown.

use std::fmt::Write as _;

use clap::Args;
use clap_complete::ArgValueCandidates;
use serde_json::{Value, json};

use crate::complete;
use crate::contexts::Context;
use crate::failure::{Exit, Outcome};
use crate::output::{Format, Stream, note, say, say_items, say_json};
use crate::session::{Form, Session};
use crate::table::{Table, column, field};

const LIST_EXAMPLES: &str = "\
Examples:
  phasework context list
  phasework context list --output jsonl | jq -r .name

Contexts stand in ~/.config/phasework/config.toml (XDG_CONFIG_HOME and PHASEWORK_CONFIG say otherwise). The one with the
mark is asked when nothing else is said.";

const SHOW_EXAMPLES: &str = "\
Examples:
  phasework context show
  phasework context show prod
  PHASEWORK_CONTEXT=prod phasework context show --output json | jq -r .url";

/// List contexts
#[derive(Args, Debug)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    form: Form,
}

/// Show a context, or the one that would be asked
#[derive(Args, Debug)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArgs {
    /// The context; the one that would be asked if not given
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
    name: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// Lists contexts.
pub(super) fn list(args: &ListArgs, session: &Session) -> Outcome {
    let format = session.format(&args.form)?;
    let contexts = session.file()?.map_or(&[][..], |file| &file.contexts);
    let chosen = session.chosen()?.map(|context| context.name.as_str());
    let is_current = |context: &Context| Some(context.name.as_str()) == chosen;
    if format != Format::Table {
        let items: Vec<_> = contexts.iter().map(|context| view(context, is_current(context))).collect();
        say_items(&json!({ "contexts": &items }), &items, format)?;
        return Ok(Exit::Good);
    }
    if contexts.is_empty() {
        note("no contexts; `phasework context add NAME --url URL` adds one");
        return Ok(Exit::Good);
    }
    let columns = [
        column(""),
        column("NAME").keep(9).least(8),
        column("URL").keep(8).least(16),
        column("TOKEN").keep(2).least(12),
        column("OUTPUT").keep(3),
    ];
    let mut table = Table::new(&columns);
    for context in contexts {
        let mark = if is_current(context) { field("*").good() } else { field("") };
        let output = context.output.map_or("", Format::as_str);
        let (name, url) = (field(&context.name), field(&context.url));
        table.add(vec![mark, name, url, field(context.token.words()), field(output)]);
    }
    say(&table.text())?;
    Ok(Exit::Good)
}

/// Shows a context.
pub(super) fn show(args: &ShowArgs, session: &Session) -> Outcome {
    let format = session.format(&args.form)?;
    let chosen = session.chosen()?;
    let context = match (&args.name, session.file()?) {
        (Some(name), Some(file)) => Some(file.context(name, None)?),
        (Some(name), None) => return Err(crate::contexts::unknown_context(&format!("there is no context `{name}`"))),
        (None, _) => chosen,
    };
    let Some(context) = context else {
        note("no context is chosen; `phasework context use NAME` chooses one");
        return Ok(Exit::NotFound);
    };
    let is_current = chosen.is_some_and(|chosen| chosen.name == context.name);
    if format != Format::Table {
        say_json(&view(context, is_current), format)?;
        return Ok(Exit::Good);
    }
    let paint = Stream::Out.paint();
    let mut text = String::new();
    for (what, value) in [
        ("name", paint.bold(&context.name)),
        ("url", context.url.clone()),
        ("token", context.token.words()),
        ("output", context.output.unwrap_or_default().as_str().to_owned()),
        ("current", if is_current { "yes" } else { "no" }.to_owned()),
    ] {
        writeln!(text, "{} {value}", paint.dim(&format!("{what:<8}"))).expect("writing to memory");
    }
    say(&text)?;
    Ok(Exit::Good)
}

fn view(context: &Context, is_current: bool) -> Value {
    json!({
        "name": context.name,
        "url": context.url,
        "token_from": context.token.key(),
        "output": context.output.map(Format::as_str),
        "current": is_current,
    })
}
