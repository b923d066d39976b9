//! Reads a handler of a phase: its name alone, or an object that says more.

use std::sync::Arc;

use super::expression::Expression;
use super::fields::Fields;
use super::length;
use super::model::{Backoff, ForEach, HandlerSpec, RetryPolicy, Tolerance};
use super::node::{Content, Located};
use super::problem::Report;
use super::read::{Named, Use, read_template, report_expression, required_name};
use super::requirement::VersionRequirement;
use crate::id::{HandlerName, check_name};
use crate::time::Millis;

/// How long one attempt of a job may take when the definition does not say.
pub const DEFAULT_TIMEOUT: Millis = Millis::from_mins(10);

/// The longest that one attempt of a job may take, or wait for a worker.
pub const MAX_TIMEOUT: Millis = Millis::from_mins(30 * 24 * 60);

/// The most jobs that a number in `for_each` may ask for.
pub const MAX_FOR_EACH_COUNT: u64 = 100_000_000;

/// The most jobs of a handler that may be out at once.
pub const MAX_IN_FLIGHT: u32 = 1_000_000;

const MAX_ATTEMPTS: u64 = 1000;
const MAX_DELAY: Millis = Millis::from_mins(7 * 24 * 60);

/// Keys of the language that this version does not know yet.
const LATER: [&str; 7] = ["depends_on", "if", "notify", "on_error", "priority", "when", "workflow"];

/// A handler that has been read.
pub(super) struct DraftHandler<'n> {
    pub(super) name: Named,
    pub(super) spec: Option<HandlerSpec>,
    pub(super) uses: Vec<Use<'n>>,
}

/// A handler of a phase.
pub(super) fn read_handler<'n>(here: &Located<'n>, report: &mut Report<'_>) -> Option<DraftHandler<'n>> {
    match &here.node.content {
        Content::Text(text) => {
            let name = Named { text: text.clone(), place: here.place() };
            let spec = checked_name(&name, report).map(plain);
            Some(DraftHandler { name, spec, uses: Vec::new() })
        }
        Content::Map(_) => read_object(here, report),
        _ => here.mismatch("handler", "a name or an object", report),
    }
}

fn checked_name(name: &Named, report: &mut Report<'_>) -> Option<HandlerName> {
    HandlerName::new(&name.text).map_err(|error| report.error(&name.place, error.to_string())).ok()
}

/// The handler called `name`, with everything else left as it is by default.
fn plain(name: HandlerName) -> HandlerSpec {
    HandlerSpec {
        name,
        version: VersionRequirement::any(),
        input: None,
        for_each: None,
        enumerate: false,
        max_in_flight: None,
        retry: RetryPolicy::default(),
        timeout: DEFAULT_TIMEOUT,
        start_timeout: None,
        tolerate_failures: Tolerance::None,
        queue: None,
    }
}

fn read_object<'n>(here: &Located<'n>, report: &mut Report<'_>) -> Option<DraftHandler<'n>> {
    let mut fields = Fields::open(here, "handler", report)?;
    let name = required_name(&mut fields, here, "handler", report);
    let version = fields.get("version").and_then(|here| read_version(&here, report)).unwrap_or_default();
    let mut uses = Vec::new();
    let for_each_here = fields.get("for_each");
    let for_each = for_each_here.as_ref().and_then(|here| read_for_each(here, &mut uses, report));
    let enumerate_here = fields.get("enumerate");
    let enumerate = enumerate_here.as_ref().and_then(|here| here.boolean("enumerate", report)).unwrap_or_default();
    if let (Some(here), Some(_), true) = (&enumerate_here, &for_each_here, enumerate) {
        let hint = Some("a list of jobs comes from `for_each`, or from the handler's own `enumerate`".to_owned());
        report.error_with_hint(&here.place(), "`enumerate` beside `for_each`: a handler has one list", hint);
    }
    let input = fields.get("input").and_then(|here| {
        let (template, more) = read_template(&here, for_each_here.is_some(), report);
        uses.extend(more);
        template
    });
    let max_in_flight_here = fields.get("max_in_flight");
    let max_in_flight = max_in_flight_here
        .as_ref()
        .and_then(|here| here.integer("max_in_flight", 1..=u64::from(MAX_IN_FLIGHT), report))
        .and_then(|number| u32::try_from(number).ok());
    let retry = fields.get("retry").map(|here| read_retry(&here, report)).unwrap_or_default();
    let mut length = |key| fields.get(key).and_then(|here| length::read(&here, key, Millis(1), MAX_TIMEOUT, report));
    let timeout = length("timeout").unwrap_or(DEFAULT_TIMEOUT);
    let start_timeout = length("start_timeout");
    let tolerance_here = fields.get("tolerate_failures");
    let tolerate_failures = tolerance_here.as_ref().and_then(|here| read_tolerance(here, report)).unwrap_or_default();
    let queue = fields.get("queue").and_then(|here| read_queue(&here, report));
    fields.finish(&LATER, report);
    if for_each_here.is_none() && !enumerate {
        warn_without_list(max_in_flight_here.as_ref(), tolerance_here.as_ref(), tolerate_failures, report);
    }
    let name = name?;
    let spec = checked_name(&name, report).map(|name| HandlerSpec {
        version,
        input,
        for_each,
        enumerate,
        max_in_flight,
        retry,
        timeout,
        start_timeout,
        tolerate_failures,
        queue,
        ..plain(name)
    });
    Some(DraftHandler { name, spec, uses })
}

/// Says which settings do nothing for a handler with a single job.
fn warn_without_list(
    max_in_flight: Option<&Located<'_>>,
    tolerance: Option<&Located<'_>>,
    tolerated: Tolerance,
    report: &mut Report<'_>,
) {
    let hint = || Some("a list of jobs comes from `for_each` or `enumerate`".to_owned());
    if let Some(here) = max_in_flight {
        report.warning(&here.place(), "`max_in_flight` changes nothing: this handler has one job", hint());
    }
    if let (Some(here), Tolerance::Percent(0..=99)) = (tolerance, tolerated) {
        report.warning(&here.place(), "this tolerates nothing: the handler has one job", hint());
    }
}

fn read_version(here: &Located<'_>, report: &mut Report<'_>) -> Option<VersionRequirement> {
    if let Content::Number(text) = &here.node.content {
        let hint = Some(format!("write \"version\": \"{text}\""));
        report.error_with_hint(&here.place(), "`version` must be a text in quotes; this is a number", hint);
        return None;
    }
    let parsed = VersionRequirement::parse(here.text("version", report)?);
    parsed.map_err(|error| report.error(&here.place(), error.to_string())).ok()
}

fn read_for_each<'n>(here: &Located<'n>, uses: &mut Vec<Use<'n>>, report: &mut Report<'_>) -> Option<ForEach> {
    match &here.node.content {
        Content::Number(_) => here.integer("for_each", 0..=MAX_FOR_EACH_COUNT, report).map(ForEach::Count),
        Content::Text(text) => match Expression::parse(text) {
            Ok(expression) => {
                let reads = expression.paths().to_vec();
                let expects_missing = expression.expects_missing();
                uses.push(Use { text: here.clone(), offset: 0, reads, has_item: false, expects_missing });
                Some(ForEach::Expression(expression))
            }
            Err(error) => {
                report_expression(here, &error, report);
                None
            }
        },
        _ => here.mismatch("for_each", "an expression that gives a list, or a number of jobs", report),
    }
}

fn read_tolerance(here: &Located<'_>, report: &mut Report<'_>) -> Option<Tolerance> {
    let expected = "a number of jobs, or a whole percentage from \"0%\" to \"100%\"";
    let tolerance = match &here.node.content {
        Content::Number(text) => text.parse().ok().filter(|count| *count <= MAX_FOR_EACH_COUNT).map(Tolerance::Count),
        Content::Text(text) => percentage(text).map(Tolerance::Percent),
        _ => None,
    };
    match tolerance {
        Some(Tolerance::Count(0) | Tolerance::Percent(0)) => Some(Tolerance::None),
        Some(tolerance) => Some(tolerance),
        None => here.mismatch("tolerate_failures", expected, report),
    }
}

fn percentage(text: &str) -> Option<u8> {
    let number = text.strip_suffix('%')?.trim_end();
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|percent| plain && *percent <= 100)
}

fn read_queue(here: &Located<'_>, report: &mut Report<'_>) -> Option<Arc<str>> {
    let text = here.text("queue", report)?;
    check_name("queue", text).map_err(|error| report.error(&here.place(), error.to_string())).ok()?;
    Some(text.into())
}

fn read_retry(here: &Located<'_>, report: &mut Report<'_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let Some(mut fields) = Fields::open(here, "retry", report) else { return default };
    let max_attempts =
        fields.get("max_attempts").and_then(|here| here.integer("max_attempts", 1..=MAX_ATTEMPTS, report));
    let backoff = fields.get("backoff").and_then(|here| read_backoff(&here, report));
    let delay = fields.get("delay").and_then(|here| length::read(&here, "delay", Millis(0), MAX_DELAY, report));
    let max_delay_here = fields.get("max_delay");
    let max_delay =
        max_delay_here.as_ref().and_then(|here| length::read(here, "max_delay", Millis(0), MAX_DELAY, report));
    let jitter = fields.get("jitter").and_then(|here| read_jitter(&here, report));
    fields.finish(&[], report);
    let delay = delay.unwrap_or(default.delay.min(max_delay.unwrap_or(default.delay)));
    if let (Some(here), Some(max_delay)) = (&max_delay_here, max_delay)
        && max_delay < delay
    {
        report.error(&here.place(), format!("`max_delay` is shorter than `delay`, which is {delay}"));
    }
    RetryPolicy {
        max_attempts: max_attempts.and_then(|number| u32::try_from(number).ok()).unwrap_or(default.max_attempts),
        backoff: backoff.unwrap_or(default.backoff),
        delay,
        max_delay: max_delay.unwrap_or(default.max_delay.max(delay)),
        jitter_percent: jitter.unwrap_or(default.jitter_percent),
    }
}

fn read_backoff(here: &Located<'_>, report: &mut Report<'_>) -> Option<Backoff> {
    match here.text("backoff", report)? {
        "fixed" => Some(Backoff::Fixed),
        "exponential" => Some(Backoff::Exponential),
        other => {
            let hint = report.did_you_mean(other, ["fixed", "exponential"]);
            report.error_with_hint(&here.place(), "`backoff` must be \"fixed\" or \"exponential\"", hint);
            None
        }
    }
}

fn read_jitter(here: &Located<'_>, report: &mut Report<'_>) -> Option<u8> {
    let percent = match &here.node.content {
        Content::Bool(true) => Some(RetryPolicy::default().jitter_percent),
        Content::Bool(false) => Some(0),
        Content::Number(text) => text.parse().ok().filter(|percent| *percent <= 100),
        Content::Text(text) => percentage(text),
        _ => None,
    };
    percent.or_else(|| here.mismatch("jitter", "true, false, or a whole percentage from 0 to 100", report))
}
