//! Two spellings, one canonical form, one revision; and no text makes the reader panic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use phasework_workflows::definition::{Backoff, Document, ForEach, Tolerance, Workflow, parse};
use phasework_workflows::time::Millis;
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::{Map, Value, json};

const BY_NAME: &str = include_str!("fixtures/search-map.json");
const AS_LIST: &str = include_str!("fixtures/search-list.json");

fn read(text: &str) -> Document {
    parse(text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[track_caller]
fn comes_back(workflow: &Workflow) {
    let canonical = workflow.to_canonical_json();
    let again = read(&canonical);
    assert_eq!(again.workflow, *workflow, "{canonical}");
    assert_eq!(again.workflow.to_canonical_json(), canonical);
}

#[test]
fn the_example_says_what_it_says() {
    let document = read(BY_NAME);
    assert_eq!((document.data, document.warnings), (None, vec![]));
    let workflow = document.workflow;
    let names: Vec<_> = workflow.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, ["pending", "searching", "fetching-pages", "error", "finished"]);
    assert_eq!(workflow.initial().name, "pending");
    assert_eq!(workflow.phases.iter().filter(|phase| phase.is_final).count(), 2);
    let fetching = &workflow.phases[2];
    assert_eq!(fetching.transitions_to.as_ref().unwrap(), "finished");
    assert_eq!(fetching.on_error_transition_to.as_ref().unwrap(), "error");
    let downloader = &fetching.handlers[0];
    assert_eq!(downloader.version.as_str(), "~> 1.2");
    assert!(matches!(&downloader.for_each, Some(ForEach::Expression(list)) if list.source().ends_with(".urls")));
    assert_eq!((downloader.max_in_flight, downloader.timeout), (Some(50), Millis::from_secs(30)));
    assert_eq!((downloader.retry.max_attempts, downloader.retry.backoff), (5, Backoff::Exponential));
    assert_eq!(downloader.tolerate_failures, Tolerance::None);
    comes_back(&workflow);
}

#[test]
fn both_spellings_mean_the_same() {
    let (by_name, as_list) = (read(BY_NAME), read(AS_LIST));
    assert_eq!(by_name.workflow, as_list.workflow);
    assert_eq!(by_name.workflow.revision, as_list.workflow.revision);
    let data = as_list.data.unwrap();
    assert_eq!(data.as_json(), r#"{"site":"https://example.org","query":"message queues","limit":20}"#);
}

#[test]
fn a_start_timeout_is_part_of_the_definition() {
    let text = r#"{ "name": "w", "phases": [ { "name": "p", "is_initial": true, "is_final": true,
        "handlers": [ { "name": "H", "timeout": "40m", "start_timeout": "90s" } ] } ] }"#;
    let workflow = read(text).workflow;
    let handler = &workflow.phases[0].handlers[0];
    assert_eq!((handler.timeout, handler.start_timeout), (Millis::from_mins(40), Some(Millis::from_secs(90))));
    assert!(workflow.to_canonical_json().contains(r#""timeout":"40m","start_timeout":"90s""#));
    comes_back(&workflow);
}

#[test]
fn the_canonical_form_never_changes() {
    let text = r#"{ "name": "w", "description": "d", "queues": "per_phase", "output": { "b": "{{ data.x }}", "a": 1.50 },
      "data": { "n": 123456789012345678901234567890.10 },
      "phases": [
        { "name": "z", "is_initial": true, "transitions_to": "a", "on_error_transition_to": "a", "is_final": false,
          "handlers": [ { "name": "H" }, { "name": "I", "version": " ~> 1.2 ", "for_each": 3, "tolerate_failures": "10%",
            "input": { "y": 1, "x": { "b": null, "a": "{{ index }}" } }, "max_in_flight": 2, "queue": "gpu", "timeout": 1500,
            "retry": { "max_attempts": 1, "backoff": "fixed", "delay": "0s", "max_delay": "1d", "jitter": false } } ] },
        { "name": "a", "is_final": true, "handlers": [] } ] }"#;
    let document = read(text);
    let canonical = r#"{"workflow":"w","description":"d","queues":"per_phase","phases":{"z":{"is_initial":true,"handlers":["H",{"name":"I","version":"~> 1.2","for_each":3,"input":{"x":{"a":"{{ index }}","b":null},"y":1},"max_in_flight":2,"retry":{"max_attempts":1,"backoff":"fixed","delay":"0s","max_delay":"24h","jitter":0},"timeout":"1500ms","tolerate_failures":"10%","queue":"gpu"}],"transitions_to":"a","on_error_transition_to":"a"},"a":{"is_final":true}},"output":{"a":1.5,"b":"{{ data.x }}"}}"#;
    assert_eq!(document.workflow.to_canonical_json(), canonical);
    assert_eq!(document.workflow.revision.as_str(), "9a2ba6086490d015c9fd8034797f3412");
    assert_eq!(document.data.unwrap().as_json(), r#"{"n":123456789012345678901234567890.10}"#);
    comes_back(&document.workflow);
}

#[test]
fn defaults_are_left_out_however_they_are_written() {
    let plain =
        r#"{ "workflow": "w", "phases": { "a": { "is_initial": true, "is_final": true, "handlers": ["H"] } } }"#;
    let full = r#"{ "workflow": "w", "queues": "per_handler", "phases": { "a": { "is_initial": true, "is_final": true,
      "handlers": [ { "name": "H", "version": "*", "timeout": 600000, "tolerate_failures": "0%",
        "retry": { "max_attempts": 3, "backoff": "exponential", "delay": 1000, "max_delay": "300s", "jitter": true } } ] } } }"#;
    assert_eq!(read(plain).workflow, read(full).workflow);
}

/// A workflow in the list spelling: a chain of phases with handlers of all kinds.
fn workflow() -> impl Strategy<Value = Value> {
    let handler = (any::<[u8; 8]>(), 0_u32..4).prop_map(|(dice, kind)| handler(&dice, kind));
    let phase = (prop::collection::vec(handler, 0..4), any::<bool>());
    (prop::collection::vec(phase, 1..6), any::<bool>()).prop_map(|(phases, per_phase)| {
        let last = phases.len();
        let mut list: Vec<Value> = phases
            .into_iter()
            .enumerate()
            .map(|(at, (handlers, on_error))| {
                let mut phase = json!({ "name": format!("p-{at}"), "transitions_to": format!("p-{}", at + 1) });
                if at == 0 {
                    phase["is_initial"] = true.into();
                }
                if on_error {
                    phase["on_error_transition_to"] = format!("p-{last}").into();
                }
                phase["handlers"] = handlers.into_iter().enumerate().map(|(number, handler)| named(handler, number)).collect();
                phase
            })
            .collect();
        list.push(json!({ "name": format!("p-{last}"), "is_final": true }));
        let queues = if per_phase { "per_phase" } else { "per_handler" };
        json!({ "name": "w", "queues": queues, "phases": list, "output": { "b": ["{{ data.x }}"], "a": { "d": 1, "c": 2 } } })
    })
}

fn handler(dice: &[u8; 8], kind: u32) -> Value {
    let mut handler = json!({});
    match kind {
        0 => {}
        1 => handler["for_each"] = json!(dice[0]),
        2 => handler["for_each"] = "data.list".into(),
        _ => handler["input"] = json!({ "z": "{{ data.x }}", "a": { "n": dice[1], "b": [null, { "y": 1, "x": 2 }] } }),
    }
    if dice[2].is_multiple_of(2) {
        handler["version"] = "~> 1.2".into();
    }
    if dice[3].is_multiple_of(2) {
        handler["timeout"] = format!("{}s", dice[3] + 1).into();
    }
    if dice[4].is_multiple_of(2) && kind > 0 {
        handler["tolerate_failures"] = json!(dice[4]);
    }
    if dice[5].is_multiple_of(2) {
        handler["retry"] = json!({ "max_attempts": dice[5] + 1, "delay": u32::from(dice[6]), "jitter": dice[7] % 101 });
    }
    handler
}

fn named(mut handler: Value, number: usize) -> Value {
    handler["name"] = format!("H{number}").into();
    if handler.as_object().is_some_and(|members| members.len() == 1) { handler["name"].clone() } else { handler }
}

/// The same workflow with `phases` as an object.
fn by_name(workflow: &Value) -> Value {
    let mut phases = Map::new();
    for phase in workflow["phases"].as_array().unwrap() {
        let mut phase = phase.as_object().unwrap().clone();
        let name = phase.shift_remove("name").unwrap();
        phases.insert(name.as_str().unwrap().to_owned(), Value::Object(phase));
    }
    let mut workflow = workflow.as_object().unwrap().clone();
    let name = workflow.shift_remove("name").unwrap();
    workflow.insert("workflow".to_owned(), name);
    workflow.insert("phases".to_owned(), Value::Object(phases));
    Value::Object(workflow)
}

/// `value` with the keys of its objects in another order, except for phases, whose order counts.
fn shuffled(value: &Value, seed: &mut u64, keep_order: bool) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| shuffled(item, seed, false)).collect(),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for end in (1..members.len()).rev().filter(|_| !keep_order) {
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                members.swap(end, usize::try_from(*seed >> 33).unwrap() % (end + 1));
            }
            let inner = members.into_iter().map(|(key, value)| {
                let is_phases = key == "phases" && value.is_object();
                (key.clone(), shuffled(value, seed, is_phases))
            });
            Value::Object(inner.collect())
        }
        _ => value.clone(),
    }
}

/// `text` with some of its characters replaced, doubled or gone.
fn damaged(text: &str, edits: &[(usize, u8, char)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for &(at, kind, new) in edits {
        let at = at % (characters.len() + 1);
        match (kind % 4, characters.get(at).copied()) {
            (0, _) => characters.insert(at, new),
            (1, Some(_)) => characters[at] = new,
            (2, Some(old)) => characters.insert(at, old),
            (_, Some(_)) => drop(characters.remove(at)),
            (_, None) => {}
        }
    }
    characters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_definition_has_one_revision_however_it_is_spelled(workflow in workflow(), mut seed in any::<u64>()) {
        let first = read(&workflow.to_string()).workflow;
        let texts = [
            serde_json::to_string_pretty(&shuffled(&workflow, &mut seed, false)).unwrap(),
            shuffled(&by_name(&workflow), &mut seed, false).to_string(),
        ];
        for text in &texts {
            let other = read(text).workflow;
            prop_assert_eq!(&other.revision, &first.revision, "{}", text);
            prop_assert_eq!(&other, &first);
        }
        comes_back(&first);
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        wild in any::<String>(),
        edits in prop::collection::vec((any::<usize>(), any::<u8>(), prop::sample::select(vec!['{', '}', '[', ']', '"', ':', ',', '\\', 'é', '0', ' ', '\n', 'u', '-'])), 1..8),
    ) {
        for text in [wild, damaged(BY_NAME, &edits), damaged(AS_LIST, &edits)] {
            match parse(&text) {
                Ok(document) => comes_back(&document.workflow),
                Err(problems) => {
                    prop_assert!(!problems.problems.is_empty());
                    for problem in &problems {
                        let line = text.split('\n').nth(problem.line - 1);
                        prop_assert!(line.is_some_and(|line| problem.column <= line.chars().count() + 1), "{}", problem);
                    }
                }
            }
        }
    }

    #[test]
    fn data_is_kept_to_the_letter(number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?", text in any::<String>()) {
        let data = format!("{{\"n\":{number},\"t\":[{}]}}", Value::from(text));
        let definition = r#"{ "workflow": "w", "phases": { "a": { "is_initial": true, "is_final": true } }, "data": "#;
        let document = read(&format!("{definition}{data}}}"));
        let kept = document.data.unwrap();
        prop_assert_eq!(kept.as_json(), data);
    }
}
