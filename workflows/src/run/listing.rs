//! What answers to questions are made of, once it is known what expressions can see: the list of a handler's jobs, the
//! input of each, and what a phase's handler left. Looks nothing up.

use serde_json::{Value, json};

use super::entry::HandlerOutputs;
use super::state::Head;
use crate::definition::{ForEach, HandlerSpec, MAX_FOR_EACH_COUNT, Scope};
use crate::id::JobIndex;
use crate::message::outcome::JobError;
use crate::payload::Payload;

/// What a handler's jobs are made from.
#[derive(Clone, Debug, PartialEq)]
pub enum Items {
    /// One job, without an item.
    One,
    /// So many jobs, each with its index.
    Count(u64),
    /// A job for each.
    List(Vec<Value>),
}

impl Items {
    /// What `for_each` gives.
    ///
    /// # Errors
    /// When it cannot be evaluated, or gives neither a list nor a number of jobs.
    pub fn of(spec: &HandlerSpec, scope: &Scope) -> Result<Self, JobError> {
        let expression = match &spec.for_each {
            None => return Ok(Self::One),
            Some(ForEach::Count(count)) => return Ok(Self::Count(*count)),
            Some(ForEach::Expression(expression)) => expression,
        };
        let fault = |error: &dyn std::fmt::Display| {
            expression_fault(&format!("`for_each` of {}, `{}`", spec.name, expression.source()), error)
        };
        match expression.evaluate(scope).map_err(|error| fault(&error))? {
            Value::Array(items) => Ok(Self::List(items)),
            Value::Number(number) => match number.as_u64() {
                Some(count) if count <= MAX_FOR_EACH_COUNT => Ok(Self::Count(count)),
                _ => Err(fault(&format!("{number} is not a number of jobs"))),
            },
            other => Err(fault(&format!("gives {}, not a list or a number", kind_of(&other)))),
        }
    }

    /// How many jobs there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::One => 1,
            Self::Count(count) => *count,
            Self::List(items) => items.len() as u64,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The input of one job, of at most so many bytes.
    ///
    /// # Errors
    /// When its template cannot be rendered, or the input is too large.
    pub fn input(
        &self,
        spec: &HandlerSpec,
        scope: &Scope,
        index: JobIndex,
        max_bytes: usize,
    ) -> Result<Payload, JobError> {
        let fault = |error: &dyn std::fmt::Display| {
            expression_fault(&format!("the input of {}'s job {index}", spec.name), error)
        };
        let item = match self {
            Self::One => None,
            Self::Count(_) => Some(Value::from(index)),
            Self::List(items) => usize::try_from(index).ok().and_then(|index| items.get(index)).cloned(),
        };
        let input = match (&spec.input, item) {
            (None, item) => item.unwrap_or(Value::Null),
            (Some(template), None) => template.render(scope).map_err(|error| fault(&error))?,
            (Some(template), Some(item)) => {
                template.render(&scope.with_item(index, item)).map_err(|error| fault(&error))?
            }
        };
        let payload = Payload::from(input);
        payload.check(max_bytes).map_err(|words| fault(&words))?;
        Ok(payload)
    }
}

/// Something that the definition and the data, put together, do not give. For good: they stay what they are.
pub fn expression_fault(place: &str, error: &(impl std::fmt::Display + ?Sized)) -> JobError {
    JobError::new("expression", format!("{place}: {error}")).for_good()
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Head {
    /// What expressions see as `run`: the [`RUN_FACTS`](crate::definition::RUN_FACTS).
    pub fn facts(&self) -> Value {
        json!({
            "id": self.id,
            "workflow": self.workflow,
            "revision": self.revision,
            "key": self.key,
            "phase": self.entry.phase,
            "entry": self.entry.number,
            "created_at": self.created_at,
        })
    }
}

impl HandlerOutputs {
    /// What expressions see of it: the output itself when there was one job by declaration; otherwise the list of outputs
    /// in the order of jobs, at most so many, with `null` for those that left none.
    pub fn value(&self, stored: impl IntoIterator<Item = (JobIndex, Payload)>, most: usize) -> Value {
        if !self.is_list {
            return stored.into_iter().next().map_or(Value::Null, |(_, output)| output.to_value());
        }
        let mut list = vec![Value::Null; usize::try_from(self.total).unwrap_or(usize::MAX).min(most)];
        for (index, output) in stored {
            if let Some(place) = usize::try_from(index).ok().and_then(|index| list.get_mut(index)) {
                *place = output.to_value();
            }
        }
        Value::Array(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{handler, phase, workflow};

    fn spec(build: impl Into<crate::testkit::HandlerBuilder>) -> HandlerSpec {
        workflow("w").phase(phase("p").handler(build)).build().phases.remove(0).handlers.remove(0)
    }

    #[test]
    fn lists_and_inputs_follow_the_definition() {
        let scope = Scope::new(&json!({ "urls": ["a", "b"], "n": 3, "name": "x" }).into(), json!({}), json!({}));
        for (spec, expected) in [
            (spec("A"), "1: null"),
            (spec(handler("A").input(json!({ "who": "{{ data.name }}" }))), r#"1: {"who":"x"}"#),
            (spec(handler("A").count(2)), "2: 0"),
            (spec(handler("A").each("data.urls")), r#"2: "a""#),
            (spec(handler("A").each("data.n")), "3: 0"),
            (spec(handler("A").each("data.urls").input(json!("{{ index }}{{ item }}"))), r#"2: "0a""#),
            (
                spec(handler("A").each("data.name")),
                "`for_each` of A, `data.name`: gives a text, not a list or a number",
            ),
            (spec(handler("A").each("-1")), "`for_each` of A, `-1`: -1 is not a number of jobs"),
            (spec(handler("A").input(json!("{{ data.urls.more }}"))), "the input of A's job 0: "),
        ] {
            let found = Items::of(&spec, &scope)
                .and_then(|items| Ok(format!("{}: {}", items.len(), items.input(&spec, &scope, 0, 100)?)));
            let found = found.unwrap_or_else(|error| format!("{} {}", error.retry, error.message));
            assert!(found == expected || found.starts_with(&format!("false {expected}")), "{expected}\n{found}");
        }
    }

    #[test]
    fn outputs_are_one_or_a_list() {
        let left = |is_list, total| HandlerOutputs { name: "A".parse().unwrap(), total, outputs: 1, is_list };
        let stored = || [(1, Payload::from(json!("b")))];
        assert_eq!(left(false, 1).value([(0, Payload::from(json!(7)))], 10), json!(7));
        assert_eq!(left(false, 1).value([], 10), Value::Null);
        assert_eq!(left(true, 3).value(stored(), 10), json!([null, "b", null]));
        assert_eq!(left(true, 3).value(stored(), 1), json!([null]));
    }
}
