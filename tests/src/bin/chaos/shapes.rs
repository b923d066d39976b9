//! The runs, and what has to come of them, whatever happens on the way.

use serde_json::{Value, json};

/// How a run is to go. Each shape is a workflow; its size decides how many jobs the fan-outs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One job after the other.
    Chain,
    /// A number of jobs, and their sum.
    Count,
    /// A list with inputs, and their sum.
    List,
    /// Jobs that fail at first.
    Retry,
    /// Jobs that fail for good, and are tolerated.
    Tolerate,
    /// Jobs that fail for good, and another way.
    Mend,
    /// Several handlers side by side.
    Wide,
}

/// Every shape.
pub(crate) const SHAPES: [Shape; 7] =
    [Shape::Chain, Shape::Count, Shape::List, Shape::Retry, Shape::Tolerate, Shape::Mend, Shape::Wide];

/// What has to come of a run.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The state it ends in.
    pub(crate) state: &'static str,
    /// The phases it goes through.
    pub(crate) phases: Vec<Phase>,
}

/// What has to come of a phase.
#[derive(Debug)]
pub(crate) struct Phase {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its handlers.
    pub(crate) handlers: Vec<Jobs>,
    /// Whether it fails, and is left as soon as it does.
    pub(crate) fails: bool,
}

/// What has to come of a handler's jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// The handler.
    pub(crate) handler: &'static str,
    /// Whether it has a list of jobs; else it has one job.
    pub(crate) is_list: bool,
    /// What each job gives; `None` fails for good.
    pub(crate) values: Vec<Option<Value>>,
}

/// A process that dies counts against a job in the end; there are enough tries for all that die here.
const RETRY: &str = r#"{ "max_attempts": 100, "delay": "200ms", "max_delay": "1s" }"#;

impl Shape {
    /// The definition, the same for every size.
    pub(crate) fn definition(self) -> Value {
        let retry: Value = serde_json::from_str(RETRY).unwrap_or_default();
        let one = |name: &str, input: Value| json!({ "name": name, "input": input, "retry": retry });
        let many = |name: &str, list: &str| json!({ "name": name, "for_each": list, "retry": retry });
        let sum_of = |outputs: &str| {
            one("Sum", json!(format!("{{{{ {outputs} | reject('none') | map(attribute='value') | list }}}}")))
        };
        let size = || json!("{{ data.size }}");
        let way = |handlers: Value, to: &str| json!({ "handlers": handlers, "transitions_to": to });
        let phases = match self {
            Self::Chain => json!({
                "a": way(json!([one("Step", size())]), "b"),
                "b": way(json!([one("Step", json!("{{ outputs.a.Step.value }}"))]), "c"),
                "c": way(json!([one("Step", json!("{{ outputs.b.Step.value }}"))]), "d"),
                "d": { "is_final": true, "handlers": [one("Step", json!("{{ outputs.c.Step.value }}"))] },
            }),
            Self::Count => json!({
                "a": way(json!([many("Count", "data.size")]), "b"),
                "b": { "is_final": true, "handlers": [sum_of("outputs.a.Count")] },
            }),
            Self::List => json!({
                "a": way(json!([one("List", size())]), "b"),
                "b": way(json!([many("Double", "outputs.a.List.value")]), "c"),
                "c": { "is_final": true, "handlers": [sum_of("outputs.b.Double")] },
            }),
            Self::Retry => json!({
                "a": way(json!([many("Flaky", "data.size")]), "b"),
                "b": { "is_final": true, "handlers": [sum_of("outputs.a.Flaky")] },
            }),
            Self::Tolerate => {
                let mut picky = many("Picky", "data.size");
                picky["tolerate_failures"] = json!("50%");
                json!({
                    "a": way(json!([picky]), "b"),
                    "b": { "is_final": true, "handlers": [sum_of("outputs.a.Picky")] },
                })
            }
            Self::Mend => json!({
                "a": { "handlers": [many("Picky", "data.size")], "transitions_to": "c", "on_error_transition_to": "b" },
                "b": way(json!([one("Step", size())]), "c"),
                "c": { "is_final": true, "handlers": [one("Step", size())] },
            }),
            Self::Wide => json!({
                "a": way(json!([one("Step", size()), many("Count", "data.size"), many("Double", "range(0, data.size)")]), "b"),
                "b": { "is_final": true, "handlers": [sum_of("outputs.a.Double")] },
            }),
        };
        let mut phases = phases;
        phases["a"]["is_initial"] = json!(true);
        // Under names that lead the checker back to the jobs.
        let mut output = serde_json::Map::new();
        for phase in self.expected(1).phases.iter().filter(|phase| !phase.fails) {
            for Jobs { handler, .. } in &phase.handlers {
                output.insert(
                    format!("{}/{handler}", phase.name),
                    json!(format!("{{{{ outputs.{}.{handler} }}}}", phase.name)),
                );
            }
        }
        json!({ "workflow": self.workflow(), "phases": phases, "output": output })
    }

    /// The workflow's name.
    pub(crate) const fn workflow(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Count => "count",
            Self::List => "list",
            Self::Retry => "retry",
            Self::Tolerate => "tolerate",
            Self::Mend => "mend",
            Self::Wide => "wide",
        }
    }

    /// What has to come of a run of this size.
    pub(crate) fn expected(self, size: u64) -> Expected {
        let one = |handler, value: u64| Jobs { handler, is_list: false, values: vec![Some(json!(value))] };
        let step = |name, value| Phase { name, handlers: vec![one("Step", value)], fails: false };
        let all = |handler, value: fn(u64) -> Option<u64>| Jobs {
            handler,
            is_list: true,
            values: (0..size).map(|index| value(index).map(|value| json!(value))).collect(),
        };
        let phase = |name, handlers| Phase { name, handlers, fails: false };
        let sum =
            |name, value: fn(u64) -> Option<u64>| phase(name, vec![one("Sum", (0..size).filter_map(value).sum())]);
        let picky = |number| (number % 10 != 3).then_some(number);
        let phases = match self {
            Self::Chain => vec![step("a", size + 1), step("b", size + 2), step("c", size + 3), step("d", size + 4)],
            Self::Count => vec![phase("a", vec![all("Count", Some)]), sum("b", Some)],
            Self::List => {
                let items: Vec<Value> = (0..size).map(|number| json!({ "number": number })).collect();
                let list = Jobs { handler: "List", is_list: false, values: vec![Some(json!(items))] };
                vec![
                    phase("a", vec![list]),
                    phase("b", vec![all("Double", |n| Some(2 * n))]),
                    sum("c", |n| Some(2 * n)),
                ]
            }
            Self::Retry => vec![phase("a", vec![all("Flaky", Some)]), sum("b", Some)],
            Self::Tolerate => vec![phase("a", vec![all("Picky", picky)]), sum("b", picky)],
            Self::Mend => vec![
                Phase { name: "a", handlers: vec![all("Picky", picky)], fails: true },
                step("b", size + 1),
                step("c", size + 1),
            ],
            Self::Wide => vec![
                phase("a", vec![one("Step", size + 1), all("Count", Some), all("Double", |n| Some(2 * n))]),
                sum("b", |n| Some(2 * n)),
            ],
        };
        Expected { state: if self == Self::Mend { "failed" } else { "succeeded" }, phases }
    }
}
