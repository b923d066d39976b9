//! `phasework metrics`: the metrics of one coordinator, as Prometheus reads them.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::{Exit, Outcome};
use crate::output::{Format, say, say_items};
use crate::routes;
use crate::session::{Form, Server, Session};

const EXAMPLES: &str = "\
Examples:
  phasework metrics
  phasework metrics phasework_runs phasework_workers_live
  phasework metrics --output jsonl | jq 'select(.value > 0)'

Counters are those of the coordinator that answers; docs/operations.md says what each means.";

/// Print the metrics of the coordinator that answers
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MetricsArgs {
    /// Only metrics whose names begin with one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// Prints metrics.
pub(crate) async fn run(args: MetricsArgs, session: &Session) -> Outcome {
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    let text = api.get_text(&routes::METRICS, &[]).await?;
    let is_wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| name.starts_with(wanted));
    if format == Format::Table {
        let lines = text.lines().filter(|line| is_wanted(name_of(line)));
        say(&lines.map(|line| format!("{line}\n")).collect::<String>())?;
        return Ok(Exit::Good);
    }
    let samples = text.lines().filter(|line| is_wanted(name_of(line))).filter_map(sample);
    let samples: Vec<_> = samples.collect();
    say_items(&json!({ "metrics": &samples }), &samples, format)?;
    Ok(Exit::Good)
}

/// The metric that a line is about, also if it is a comment.
fn name_of(line: &str) -> &str {
    let about = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
    about.split(['{', ' ']).next().unwrap_or_default()
}

/// A value with its labels: `name{label="text"} 1`. A comment is none.
fn sample(line: &str) -> Option<Value> {
    let (about, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    let value: f64 = value.parse().ok()?;
    let labels = about.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
    let mut read = Map::new();
    for label in labels.split("\",") {
        if let Some((name, text)) = label.split_once("=\"") {
            read.insert(name.to_owned(), text.trim_end_matches('"').into());
        }
    }
    Some(json!({ "name": name_of(line), "labels": read, "value": value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        for (line, expected) in [
            ("a 1", Some(json!({ "name": "a", "labels": {}, "value": 1.0 }))),
            (
                "a_total{kind=\"x y\",le=\"+Inf\"} 2.5",
                Some(json!({ "name": "a_total", "labels": { "kind": "x y", "le": "+Inf" }, "value": 2.5 })),
            ),
            ("# TYPE a counter", None),
            ("", None),
        ] {
            assert_eq!(sample(line), expected, "{line}");
        }
        assert_eq!(name_of("# TYPE a_total counter"), "a_total");
    }
}
