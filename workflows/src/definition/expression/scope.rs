//! What an expression can see. Made once for an entry; an item is added to it without converting the rest again.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Value as Inner};
use serde_json::Value;

use crate::Payload;

/// The variables that an expression can read.
pub(in crate::definition) const VARIABLES: [&str; 5] = ["data", "outputs", "run", "item", "index"];

/// The facts about a run that an expression can read, as `run.id` and so on.
pub const RUN_FACTS: [&str; 7] = ["id", "workflow", "revision", "key", "phase", "entry", "created_at"];

/// What an expression can see: `data`, `outputs`, `run`, and for a job of a list `item` and `index`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Scope {
    shared: Arc<Shared>,
    item: Option<(u64, Inner)>,
}

#[derive(Debug)]
struct Shared {
    data: Inner,
    outputs: Inner,
    run: Inner,
}

impl Scope {
    /// The scope of an entry: the run's `data`, the `outputs` of earlier phases as
    /// `{ <phase>: { <handler>: output } }`, and the [`RUN_FACTS`]. What is not read need not be there; see
    /// [`Expression::reads`](super::Expression::reads).
    pub fn new(data: &Payload, outputs: Value, run: Value) -> Self {
        let data = data.read::<Inner>().unwrap_or_else(|error| {
            let unreadable = minijinja::Error::new(minijinja::ErrorKind::BadSerialization, error.to_string());
            Inner::from(unreadable)
        });
        let outputs = Inner::from_object(Outputs(inner(outputs)));
        Self { shared: Arc::new(Shared { data, outputs, run: inner(run) }), item: None }
    }

    /// This scope for one job of a list. For a list that is only a count, the item is the index.
    #[must_use]
    pub fn with_item(&self, index: u64, item: Value) -> Self {
        Self { shared: Arc::clone(&self.shared), item: Some((index, inner(item))) }
    }

    pub(super) fn root(&self) -> Inner {
        Inner::from_object(self.clone())
    }
}

impl Object for Scope {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Inner> {
        match key {
            "data" => Some(self.shared.data.clone()),
            "outputs" => Some(self.shared.outputs.clone()),
            "run" => Some(self.shared.run.clone()),
            "item" => self.item.as_ref().map(|(_, item)| item.clone()),
            "index" => self.item.as_ref().map(|(index, _)| Inner::from(*index)),
            _ => None,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Inner) -> Option<Inner> {
        self.get_value_by_str(key.as_str()?)
    }
}

/// The outputs by phase. A phase that has not run has an empty object, so that
/// `outputs.finished.JobFinisher | default(none)` holds wherever the run ended.
#[derive(Debug)]
struct Outputs(Inner);

impl Object for Outputs {
    fn get_value(self: &Arc<Self>, key: &Inner) -> Option<Inner> {
        key.as_str()?;
        let phase = self.0.get_item(key).ok().filter(|phase| !phase.is_undefined());
        Some(phase.unwrap_or_else(|| Inner::from_pairs(std::iter::empty::<(&str, Inner)>())))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.try_iter().map(Iterator::collect).unwrap_or_default())
    }
}

/// `value` as minijinja's; every number stays what it is.
pub(super) fn inner(value: Value) -> Inner {
    match value {
        Value::Null => Inner::from(()),
        Value::Bool(value) => Inner::from(value),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => Inner::from(number),
            (_, Some(number), _) => Inner::from(number),
            (_, _, number) => Inner::from(number.unwrap_or(f64::NAN)),
        },
        Value::String(text) => Inner::from(text),
        Value::Array(items) => items.into_iter().map(inner).collect(),
        Value::Object(members) => Inner::from_pairs(members.into_iter().map(|(key, value)| (key, inner(value)))),
    }
}
