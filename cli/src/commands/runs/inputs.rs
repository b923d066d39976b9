//! The inputs of jobs, made again as the coordinator made them: from the definition, the run's data and the outputs of
//! earlier phases. Asks for the outputs that expressions read, and for nothing else; writes nothing.

use std::collections::BTreeMap;

use phasework_workflows::Payload;
use phasework_workflows::definition::{ForEach, HandlerSpec, Reads, Scope, Workflow};
use phasework_workflows::id::PhaseName;
use phasework_workflows::run::{HandlerOutputs, Items};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::failure::{Exit, Failure};
use crate::http::{Api, Ask};
use crate::routes;
use crate::views::{HandlerView, OutputsPage, RunView};

/// The most items of a list that are read for an expression.
const MOST_ITEMS: usize = 8 * 1024 * 1024;

/// What a run was given.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Given {
    data: Option<Box<RawValue>>,
}

impl Given {
    /// As JSON.
    pub(super) fn json(&self) -> &str {
        self.data.as_ref().map_or("null", |data| data.get())
    }

    fn payload(&self) -> Payload {
        Payload::from_json(self.json().to_owned()).unwrap_or_else(|_| Payload::null())
    }
}

/// One visit of a run to a phase, as its history tells.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) entry: u32,
    pub(super) phase: String,
    /// The versions that handlers were pinned to, at last.
    pub(super) versions: BTreeMap<String, String>,
    /// What handlers came to, once the visit is over.
    pub(super) tallies: Vec<HandlerView>,
}

impl Visit {
    /// Notes what an event tells of visits.
    pub(super) fn note(visits: &mut Vec<Self>, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        match event["what"].as_str() {
            Some("entered") => visits.push(Self {
                entry: event["entry"].as_u64().and_then(|entry| entry.try_into().ok()).unwrap_or_default(),
                phase: text("phase"),
                versions: BTreeMap::new(),
                tallies: Vec::new(),
            }),
            Some("pinned") => {
                visits.last_mut().map(|visit| visit.versions.insert(text("handler"), text("version")));
            }
            Some("finished" | "abandoned") => {
                if let Some(visit) = visits.last_mut() {
                    visit.tallies = serde_json::from_value(event["handlers"].clone()).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
}

/// Makes inputs again.
pub(super) struct Inputs<'a> {
    api: &'a Api,
    run: &'a RunView,
    workflow: Workflow,
    data: Given,
    visits: &'a [Visit],
}

/// The inputs of the jobs of one handler in one visit.
pub(super) struct Made {
    spec: HandlerSpec,
    scope: Scope,
    items: Items,
    /// The one input of a handler that says nothing about it: the run's data.
    data: Option<Payload>,
}

impl Made {
    /// How many jobs there are.
    pub(super) fn len(&self) -> u64 {
        self.items.len()
    }

    /// The input of one job, or why there is none.
    pub(super) fn input(&self, index: u64) -> Result<Payload, String> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => self.items.input(&self.spec, &self.scope, index, usize::MAX).map_err(|error| error.message),
        }
    }
}

impl<'a> Inputs<'a> {
    pub(super) const fn new(
        api: &'a Api,
        run: &'a RunView,
        workflow: Workflow,
        data: Given,
        visits: &'a [Visit],
    ) -> Self {
        Self { api, run, workflow, data, visits }
    }

    /// The handlers of a phase.
    pub(super) fn handlers_of(&self, phase: &str) -> &[HandlerSpec] {
        let phase = PhaseName::new(phase).ok().and_then(|name| self.workflow.phase(&name));
        phase.map_or(&[], |phase| &phase.handlers)
    }

    /// The inputs of a handler's jobs in a visit, or why they cannot be made.
    pub(super) async fn made(&self, visit: &Visit, handler: &str) -> Result<Result<Made, String>, Failure> {
        let Some(spec) = self.handlers_of(&visit.phase).iter().find(|spec| spec.name.as_str() == handler) else {
            return Ok(Err("the phase has no such handler".to_owned()));
        };
        // Nobody else can make that list again.
        if spec.enumerate {
            return Ok(Err(
                "the handler listed its jobs itself, and the list is not kept longer than its phase".to_owned()
            ));
        }
        let mut reads = Reads::default();
        if let Some(ForEach::Expression(expression)) = &spec.for_each {
            reads = reads.and(expression.reads());
        }
        if let Some(input) = &spec.input {
            reads = reads.and(input.reads());
        }
        let outputs = match self.outputs(visit, &reads).await? {
            Ok(outputs) => outputs,
            Err(why) => return Ok(Err(why)),
        };
        let scope = Scope::new(&self.data.payload(), outputs, self.facts(visit));
        let items = match Items::of(spec, &scope) {
            Ok(items) => items,
            Err(error) => return Ok(Err(error.message)),
        };
        let total = visit.tallies.iter().find(|tally| tally.name == handler).and_then(|tally| tally.total);
        if total.is_some_and(|total| total != items.len()) {
            return Ok(Err(
                "the list would be another now: an order or a later visit changed what it was made from".to_owned()
            ));
        }
        let data = (spec.for_each.is_none() && spec.input.is_none()).then(|| self.data.payload());
        Ok(Ok(Made { spec: spec.clone(), scope, items, data }))
    }

    /// What expressions see as `run`.
    fn facts(&self, visit: &Visit) -> Value {
        json!({
            "id": self.run.run, "workflow": self.run.workflow, "revision": self.run.revision, "key": self.run.key,
            "phase": visit.phase, "entry": visit.entry, "created_at": self.run.created_at,
        })
    }

    /// What expressions of a visit see as `outputs`, as far as they read it.
    async fn outputs(&self, visit: &Visit, reads: &Reads) -> Result<Result<Value, String>, Failure> {
        let before = self.visits.iter().filter(|earlier| earlier.entry < visit.entry && !earlier.tallies.is_empty());
        let latest: BTreeMap<_, _> = before.map(|earlier| (earlier.phase.as_str(), earlier)).collect();
        let mut phases = Map::new();
        for (phase, left) in latest {
            let mut handlers = Map::new();
            for spec in self.handlers_of(phase) {
                let name = spec.name.as_str();
                if reads.outputs.includes(phase, name) {
                    match self.handler_outputs(left, spec).await? {
                        Ok(value) => drop(handlers.insert(name.to_owned(), value)),
                        Err(why) => return Ok(Err(why)),
                    }
                }
            }
            phases.insert(phase.to_owned(), Value::Object(handlers));
        }
        Ok(Ok(Value::Object(phases)))
    }

    async fn handler_outputs(&self, left: &Visit, spec: &HandlerSpec) -> Result<Result<Value, String>, Failure> {
        let (name, mut stored, mut from) = (spec.name.as_str(), Vec::new(), Some(0));
        while let Some(place) = from {
            let query =
                vec![("entry", left.entry.to_string()), ("handler", name.to_owned()), ("from", place.to_string())];
            let ask = Ask { query, ..Ask::default() };
            let page = match self.api.get::<OutputsPage>(&routes::OUTPUTS, &[&self.run.run], ask).await {
                Ok(page) => page,
                Err(failure) if failure.exit == Exit::NotFound => {
                    return Ok(Err(format!("the outputs of {name} in entry {} are no longer kept", left.entry)));
                }
                Err(failure) => return Err(failure),
            };
            for row in page.outputs {
                stored.push((
                    row.index,
                    Payload::from_json(row.output.get().to_owned()).unwrap_or_else(|_| Payload::null()),
                ));
            }
            from = page.next;
        }
        let total =
            left.tallies.iter().find(|tally| tally.name == name).and_then(|tally| tally.total).unwrap_or_default();
        let outputs = stored.len() as u64;
        let left = HandlerOutputs { name: spec.name.clone(), total, outputs, is_list: spec.has_list() };
        Ok(Ok(left.value(stored, MOST_ITEMS)))
    }
}
