//! What definitions mean, seen from outside: phases, transitions, lists, outputs.

use phasework_sdk::{Context, HandlerError};
use phasework_tests::World;
use phasework_workflows::run::{HistoryKind, RunState};
use serde_json::{Value, json};

use crate::scenarios;

scenarios!(
    the_original_definition_in_both_spellings,
    zero_jobs_finish_a_phase,
    twenty_phases_in_a_row,
    lists_flow_from_phase_to_phase,
);

/// The example of the product's own description, byte for byte.
const MAP: &str = include_str!("originals/search.json");

/// The same in the array spelling.
const ARRAY: &str = include_str!("originals/search_array.json");

/// The names of the phases a run has been in, in order.
pub(crate) async fn phases(world: &World, run: phasework_workflows::id::RunId) -> Vec<String> {
    let history = world.store().await.history(run, 0, 10_000).await.expect("the history can be read");
    assert!(history.iter().zip(1..).all(|(event, n)| event.n == n), "gaps in {history:?}");
    let entered = history.iter().filter_map(|event| match &event.what {
        HistoryKind::Entered { phase, .. } => Some(phase.to_string()),
        _ => None,
    });
    entered.collect()
}

async fn the_original_definition_in_both_spellings(mut world: World) {
    world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            let downloads = ledger.clone();
            let finishes = ledger.clone();
            worker
                .handler("GoogleSearcher", "0.3.0", |_: Value, _: Context| async {
                    Ok::<_, HandlerError>(json!({ "urls": ["a", "b", "c"] }))
                })
                .handler("PageDownloader", "1.2.7", move |url: String, _: Context| {
                    downloads.note(format!("download {url}"));
                    async move { Ok::<_, HandlerError>(format!("page {url}")) }
                })
                .handler("JobFinisher", "1.0.0", move |_: Value, _: Context| {
                    finishes.note("finish");
                    async { Ok::<_, HandlerError>("all done") }
                })
                .handler("ErrorEmailer", "1.0.0", |_: Value, _: Context| async { Ok::<_, HandlerError>(()) })
        })
        .await;
    for (spelling, times) in [(MAP, 1), (ARRAY, 2)] {
        let run = world.run(spelling, json!({ "query": "petrel" })).await;
        assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
        assert_eq!(phases(&world, run.head.id).await, ["pending", "searching", "fetching-pages", "finished"]);
        assert_eq!(run.output.map(|output| output.to_value()), Some(json!({ "JobFinisher": "all done" })));
        let downloads: Vec<_> = ["a", "b", "c"].map(|url| (format!("download {url}"), times)).to_vec();
        assert_eq!(world.ledger.under("download"), downloads);
        assert_eq!(world.ledger.count("finish"), times);
    }
    world.stop().await;
}

async fn zero_jobs_finish_a_phase(mut world: World) {
    world.start_engine().await;
    // No worker is there at all: a list that is empty needs none.
    let definition = r#"{
        "workflow": "empty",
        "phases": {
            "start": { "is_initial": true, "transitions_to": "work" },
            "work": { "handlers": [{ "name": "H", "for_each": "data.items" }, { "name": "N", "for_each": 0 }],
                      "transitions_to": "end" },
            "end": { "is_final": true }
        }
    }"#;
    let run = world.run(definition, json!({ "items": [] })).await;
    assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
    assert_eq!(phases(&world, run.head.id).await, ["start", "work", "end"]);
    world.stop().await;
}

async fn twenty_phases_in_a_row(mut world: World) {
    world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            worker.handler("Step", "1.0.0", move |_: Value, ctx: Context| {
                let turn = ledger.note("step");
                async move { Ok::<_, HandlerError>(json!({ "phase": ctx.phase(), "turn": turn })) }
            })
        })
        .await;
    let mut members = Vec::new();
    for n in 0..20 {
        let mut phase = json!({ "handlers": ["Step"] });
        if n == 0 {
            phase["is_initial"] = true.into();
        }
        match n {
            19 => phase["is_final"] = true.into(),
            _ => phase["transitions_to"] = format!("p{}", n + 1).into(),
        }
        members.push((format!("p{n}"), phase));
    }
    let phases_of: serde_json::Map<String, Value> = members.into_iter().collect();
    let definition = json!({ "workflow": "long", "phases": phases_of, "output": "{{ outputs.p19.Step.turn }}" });
    let run = world.run(&definition.to_string(), Value::Null).await;
    assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
    let expected: Vec<_> = (0..20).map(|n| format!("p{n}")).collect();
    assert_eq!(phases(&world, run.head.id).await, expected);
    assert_eq!(run.output.map(|output| output.to_value()), Some(json!(20)));
    world.stop().await;
}

async fn lists_flow_from_phase_to_phase(mut world: World) {
    world.start_engine().await;
    world
        .start_worker(|worker| {
            worker
                .handler("Lister", "1.0.0", |n: u64, _: Context| async move {
                    Ok::<_, HandlerError>(
                        (0..n).map(|i| json!({ "i": i, "big": 12_345_678_901_234_567_890_u64 })).collect::<Vec<_>>(),
                    )
                })
                .handler("Doubler", "1.0.0", |item: Value, _: Context| async move {
                    Ok::<_, HandlerError>(item["n"].as_u64().map(|n| n * 2))
                })
        })
        .await;
    let definition = r#"{
        "workflow": "lists",
        "phases": {
            "list": { "is_initial": true, "transitions_to": "double",
                      "handlers": [{ "name": "Lister", "input": "{{ data.n }}" }] },
            "double": { "transitions_to": "end",
                        "handlers": [{ "name": "Doubler", "for_each": "outputs.list.Lister",
                                       "input": { "n": "{{ item.i }}", "word": "job {{ index }} of {{ run.workflow }}" } }] },
            "end": { "is_final": true }
        },
        "output": { "sum": "{{ outputs.double.Doubler | sum }}", "first": "{{ outputs.list.Lister[0].big }}" }
    }"#;
    let run = world.run(definition, json!({ "n": 2500 })).await;
    assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
    let sum: u64 = (0..2500).map(|i| i * 2).sum();
    let expected = json!({ "sum": sum, "first": 12_345_678_901_234_567_890_u64 });
    assert_eq!(run.output.map(|output| output.to_value()), Some(expected));
    world.stop().await;
}
