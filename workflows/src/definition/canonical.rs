//! Writes a workflow down in its one canonical form: the spelling with `phases` as an object, defaults left out, phases
//! and handlers in their order, keys of templates sorted. It parses back to an equal workflow, and its hash is the
//! revision.

use serde_json::{Map, Value, json};

use super::handler::DEFAULT_TIMEOUT;
use super::model::{Backoff, ForEach, HandlerSpec, Phase, QueueNaming, RetryPolicy, Tolerance, Workflow};

impl Workflow {
    /// The canonical form of this workflow, as JSON on one line.
    pub fn to_canonical_json(&self) -> String {
        let mut out = Map::new();
        put(&mut out, "workflow", Some(json!(self.name)));
        put(&mut out, "description", self.description.as_deref().map(Value::from));
        put(&mut out, "queues", (self.queues == QueueNaming::PerPhase).then(|| "per_phase".into()));
        let phases = self.phases.iter().map(|phase| (phase.name.to_string(), phase_json(phase)));
        put(&mut out, "phases", Some(Value::Object(phases.collect())));
        put(&mut out, "output", self.output.as_ref().map(|output| sorted(output.source())));
        Value::Object(out).to_string()
    }
}

fn put(out: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        out.insert(key.to_owned(), value);
    }
}

fn phase_json(phase: &Phase) -> Value {
    let mut out = Map::new();
    put(&mut out, "is_initial", phase.is_initial.then_some(Value::Bool(true)));
    put(&mut out, "is_final", phase.is_final.then_some(Value::Bool(true)));
    let handlers = phase.handlers.iter().map(handler_json).collect();
    put(&mut out, "handlers", (!phase.handlers.is_empty()).then_some(Value::Array(handlers)));
    put(&mut out, "transitions_to", phase.transitions_to.as_ref().map(|name| json!(name)));
    put(&mut out, "on_error_transition_to", phase.on_error_transition_to.as_ref().map(|name| json!(name)));
    Value::Object(out)
}

fn handler_json(handler: &HandlerSpec) -> Value {
    let mut out = Map::new();
    put(&mut out, "name", Some(json!(handler.name)));
    put(&mut out, "version", (!handler.version.is_any()).then(|| handler.version.as_str().into()));
    put(
        &mut out,
        "for_each",
        handler.for_each.as_ref().map(|for_each| match for_each {
            ForEach::Count(count) => json!(count),
            ForEach::Expression(expression) => expression.source().into(),
        }),
    );
    put(&mut out, "enumerate", handler.enumerate.then_some(Value::Bool(true)));
    put(&mut out, "input", handler.input.as_ref().map(|input| sorted(input.source())));
    put(&mut out, "max_in_flight", handler.max_in_flight.map(Value::from));
    put(&mut out, "retry", retry_json(&handler.retry));
    put(&mut out, "timeout", (handler.timeout != DEFAULT_TIMEOUT).then(|| handler.timeout.to_string().into()));
    put(&mut out, "start_timeout", handler.start_timeout.map(|length| length.to_string().into()));
    put(
        &mut out,
        "tolerate_failures",
        match handler.tolerate_failures {
            Tolerance::None => None,
            Tolerance::Count(count) => Some(json!(count)),
            Tolerance::Percent(percent) => Some(format!("{percent}%").into()),
        },
    );
    put(&mut out, "queue", handler.queue.as_deref().map(Value::from));
    match out.len() {
        1 => json!(handler.name),
        _ => Value::Object(out),
    }
}

fn retry_json(retry: &RetryPolicy) -> Option<Value> {
    let default = RetryPolicy::default();
    let mut out = Map::new();
    let length = |length: crate::time::Millis| Value::from(length.to_string());
    put(&mut out, "max_attempts", (retry.max_attempts != default.max_attempts).then(|| retry.max_attempts.into()));
    let backoff = match retry.backoff {
        Backoff::Fixed => "fixed",
        Backoff::Exponential => "exponential",
    };
    put(&mut out, "backoff", (retry.backoff != default.backoff).then(|| backoff.into()));
    put(&mut out, "delay", (retry.delay != default.delay).then(|| length(retry.delay)));
    put(&mut out, "max_delay", (retry.max_delay != default.max_delay).then(|| length(retry.max_delay)));
    put(&mut out, "jitter", (retry.jitter_percent != default.jitter_percent).then(|| retry.jitter_percent.into()));
    (!out.is_empty()).then_some(Value::Object(out))
}

/// `value` with the keys of all its objects in order: the order in which they were written means nothing.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(members.into_iter().collect())
        }
        _ => value.clone(),
    }
}
