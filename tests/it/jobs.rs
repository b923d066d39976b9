//! What becomes of jobs: one, many, failing, retried, tolerated, delivered twice, shared out.

use std::time::Duration;

use phasework_sdk::{Context, HandlerError};
use phasework_tests::{World, submit, wait};
use phasework_workflows::run::RunState;
use serde_json::{Value, json};

use crate::definitions::phases;
use crate::{scenarios_on_sqlite, scenarios_over_http_too};

scenarios_over_http_too!(
    one_job,
    ten_thousand_jobs_over_three_handlers,
    a_failing_job_is_tried_again,
    a_job_that_fails_for_good_takes_the_error_path,
    without_an_error_path_the_run_halts,
    tolerated_failures_do_not_fail_the_phase,
    every_message_twice,
    two_engines_and_four_workers_on_two_hundred_runs,
    a_run_waits_for_a_fitting_worker,
    the_highest_fitting_version_gets_the_jobs,
    a_key_makes_one_run,
    a_worker_killed_in_mid_job_loses_nothing,
    a_worker_that_stops_hands_back_the_rest,
);

scenarios_on_sqlite!(
    ten_thousand_jobs_over_three_handlers,
    a_job_that_fails_for_good_takes_the_error_path,
    every_message_twice,
    two_engines_and_four_workers_on_two_hundred_runs,
    a_run_waits_for_a_fitting_worker,
    a_key_makes_one_run,
    a_worker_killed_in_mid_job_loses_nothing,
);

/// A workflow of one phase with these handlers.
pub(crate) fn one_phase(handlers: &Value) -> String {
    let phases = json!({
        "work": { "is_initial": true, "transitions_to": "end", "handlers": handlers },
        "end": { "is_final": true }
    });
    json!({ "workflow": "one-phase", "phases": phases }).to_string()
}

async fn one_job(mut world: World) {
    world.start_engine().await;
    world
        .start_worker(|worker| {
            worker.handler("H", "1.0.0", |data: Value, ctx: Context| async move {
                assert_eq!((ctx.index(), ctx.attempt(), ctx.try_number()), (0, 1, 1));
                Ok::<_, HandlerError>(data)
            })
        })
        .await;
    let definition = json!({
        "workflow": "one-job",
        "phases": { "only": { "is_initial": true, "is_final": true, "handlers": ["H"] } }
    });
    let run = world.run(&definition.to_string(), json!({ "x": [1, "two", null] })).await;
    assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
    assert_eq!(run.output.map(|output| output.to_value()), Some(json!({ "H": { "x": [1, "two", null] } })));
    world.stop().await;
}

async fn ten_thousand_jobs_over_three_handlers(mut world: World) {
    world.start_engine().await;
    for _ in 0..2 {
        let ledger = world.ledger.clone();
        world
            .start_worker(|mut worker| {
                for name in ["A", "B", "C"] {
                    let ledger = ledger.clone();
                    worker = worker
                        .handler(name, "1.0.0", move |index: u64, _: Context| {
                            ledger.note(format!("{name} {index}"));
                            async { Ok::<_, HandlerError>(()) }
                        })
                        .concurrency(32);
                }
                worker
            })
            .await;
    }
    let handlers = json!([
        { "name": "A", "for_each": 5000 },
        { "name": "B", "for_each": 4999, "max_in_flight": 10_000 },
        { "name": "C", "for_each": 1, "max_in_flight": 1 },
    ]);
    let run = world.run(&one_phase(&handlers), Value::Null).await;
    assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
    for (name, jobs) in [("A", 5000), ("B", 4999), ("C", 1)] {
        let done = world.ledger.under(&format!("{name} "));
        assert_eq!(done.len(), jobs, "{name}");
        assert!(done.iter().all(|(_, times)| *times == 1), "{name}: without faults nothing runs twice");
    }
    world.stop().await;
}

async fn a_failing_job_is_tried_again(mut world: World) {
    world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            worker.handler("Flaky", "1.0.0", move |index: u64, ctx: Context| {
                let turn = ledger.note(format!("flaky {index}"));
                async move {
                    assert_eq!(u64::from(ctx.try_number()), turn);
                    match (index, turn) {
                        (0, 1) => Err(HandlerError::retry("not yet")),
                        (1, 1) => Err(HandlerError::retry_after("later", Duration::from_millis(30))),
                        (2, 1 | 2) => panic!("boom {turn}"),
                        _ => Ok(turn),
                    }
                }
            })
        })
        .await;
    let retry = json!({ "max_attempts": 3, "backoff": "fixed", "delay": "20ms" });
    let run = world.run(&one_phase(&json!([{ "name": "Flaky", "for_each": 4, "retry": retry }])), Value::Null).await;
    assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
    let turns: Vec<_> = world.ledger.under("flaky").into_iter().map(|(_, turns)| turns).collect();
    assert_eq!(turns, [2, 2, 3, 1]);
    world.stop().await;
}

async fn a_job_that_fails_for_good_takes_the_error_path(mut world: World) {
    world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            let mails = ledger.clone();
            worker
                .handler("Bad", "1.0.0", move |index: u64, _: Context| {
                    ledger.note(format!("bad {index}"));
                    async move { if index == 1 { Err(HandlerError::fail("no such page")) } else { Ok(()) } }
                })
                .handler("Mailer", "1.0.0", move |_: Value, _: Context| {
                    mails.note("mail");
                    async { Ok::<_, HandlerError>("sent") }
                })
        })
        .await;
    let definition = json!({
        "workflow": "errors",
        "phases": {
            "work": { "is_initial": true, "transitions_to": "end", "on_error_transition_to": "error",
                      "handlers": [{ "name": "Bad", "for_each": 3 }] },
            "error": { "is_final": true, "handlers": ["Mailer"] },
            "end": { "is_final": true }
        }
    });
    let run = world.run(&definition.to_string(), Value::Null).await;
    assert_eq!(run.head.state, RunState::Failed, "a run that ends on the error path has failed");
    let cause = run.head.cause.clone().expect("a failed run says why");
    assert_eq!((cause.error.message.as_str(), cause.phase.as_str()), ("no such page", "work"));
    assert_eq!(phases(&world, run.head.id).await, ["work", "error"]);
    assert_eq!((world.ledger.count("mail"), world.ledger.count("bad 1")), (1, 1));
    world.stop().await;
}

async fn without_an_error_path_the_run_halts(mut world: World) {
    world.start_engine().await;
    world
        .start_worker(|worker| {
            worker.handler("Bad", "1.0.0", |_: Value, _: Context| async { Err::<(), _>(HandlerError::fail("no")) })
        })
        .await;
    let run = world.run(&one_phase(&json!(["Bad"])), Value::Null).await;
    assert_eq!(run.head.state, RunState::Halted);
    assert_eq!(run.head.cause.expect("a halted run says why").error.message, "no");
    assert_eq!(run.head.ended_at, None);
    world.stop().await;
}

async fn tolerated_failures_do_not_fail_the_phase(mut world: World) {
    let engine = world.start_engine().await;
    world
        .start_worker(|worker| {
            worker.handler("Some", "1.0.0", |index: u64, _: Context| async move {
                if index.is_multiple_of(10) { Err(HandlerError::fail("tenth")) } else { Ok(index) }
            })
        })
        .await;
    for (tolerate, expected) in [("10%", RunState::Succeeded), ("9%", RunState::Halted)] {
        let handler = json!([{ "name": "Some", "for_each": 50, "tolerate_failures": tolerate }]);
        let run = world.run(&one_phase(&handler), Value::Null).await;
        assert_eq!(run.head.state, expected, "{tolerate}");
        let failures = engine.failures(run.head.id, 0, 100).await.expect("failures can be listed");
        assert!(!failures.is_empty() && failures.iter().all(|failure| failure.error.message == "tenth"));
    }
    world.stop().await;
}

async fn every_message_twice(mut world: World) {
    world.duplicate_messages();
    world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            let enders = ledger.clone();
            worker
                .handler("H", "1.0.0", move |index: u64, _: Context| {
                    ledger.note(format!("job {index}"));
                    async move { Ok::<_, HandlerError>(index) }
                })
                .handler("End", "1.0.0", move |sum: u64, _: Context| {
                    enders.note("end");
                    async move { Ok::<_, HandlerError>(sum) }
                })
        })
        .await;
    let definition = json!({
        "workflow": "twice",
        "phases": {
            "work": { "is_initial": true, "transitions_to": "end", "handlers": [{ "name": "H", "for_each": 100 }] },
            "end": { "is_final": true, "handlers": [{ "name": "End", "input": "{{ outputs.work.H | sum }}" }] }
        }
    });
    let run = world.run(&definition.to_string(), Value::Null).await;
    assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
    assert_eq!(run.output.map(|output| output.to_value()), Some(json!({ "End": 4950 })), "each outcome counts once");
    assert_eq!(phases(&world, run.head.id).await, ["work", "end"]);
    assert_eq!(world.ledger.under("job").len(), 100);
    world.stop().await;
}

async fn two_engines_and_four_workers_on_two_hundred_runs(mut world: World) {
    let engine = world.start_engine().await;
    let other = world.start_engine().await;
    for _ in 0..4 {
        let ledger = world.ledger.clone();
        world
            .start_worker(|worker| {
                worker.handler("H", "1.0.0", move |_: u64, ctx: Context| {
                    ledger.note(ctx.idempotency_key());
                    async { Ok::<_, HandlerError>(()) }
                })
            })
            .await;
    }
    let definition = json!({
        "workflow": "many",
        "phases": {
            "a": { "is_initial": true, "transitions_to": "b", "handlers": [{ "name": "H", "for_each": 3 }] },
            "b": { "transitions_to": "c", "handlers": [{ "name": "H", "for_each": 2 }] },
            "c": { "is_final": true }
        }
    })
    .to_string();
    let submitted = (0..200).map(|n| submit(if n % 2 == 0 { &engine } else { &other }, &definition, Value::Null));
    let runs = futures::future::join_all(submitted).await;
    let ended = futures::future::join_all(runs.iter().map(|&run| wait(&other, run))).await;
    assert!(ended.iter().all(|run| run.head.state == RunState::Succeeded));
    let jobs = world.ledger.under("");
    assert_eq!(jobs.len(), 200 * 5, "every job was run");
    let counts = engine.run_counts().await.expect("runs can be counted");
    assert_eq!((counts.live, counts.ended), (0, 200));
    world.stop().await;
}

async fn a_run_waits_for_a_fitting_worker(mut world: World) {
    let engine = world.start_engine().await;
    let host = |version: &'static str| {
        move |worker: phasework_sdk::Worker| {
            worker.handler("H", version, move |_: Value, _: Context| async move { Ok::<_, HandlerError>(version) })
        }
    };
    world.start_worker(host("1.0.0")).await;
    let run = submit(&engine, &one_phase(&json!([{ "name": "H", "version": "~> 2.1" }])), Value::Null).await;
    let detail = engine.wait(run, Duration::from_millis(300)).await.expect("the run can be looked at");
    assert!(detail.head.awaits_worker, "it says what it waits for: {:#?}", detail.head);
    world.start_worker(host("2.4.0")).await;
    assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    world.stop().await;
}

async fn the_highest_fitting_version_gets_the_jobs(mut world: World) {
    let engine = world.start_engine().await;
    for version in ["1.1.0", "1.2.0", "1.9.0", "2.0.0"] {
        world
            .start_worker(move |worker| {
                worker.handler("H", version, move |_: Value, _: Context| async move { Ok::<_, HandlerError>(version) })
            })
            .await;
    }
    for (requirement, expected) in [("~> 1.2", "1.9.0"), ("1.1.0", "1.1.0"), ("*", "2.0.0"), ("< 1.9", "1.2.0")] {
        let definition = json!({
            "workflow": "versions",
            "phases": { "only": { "is_initial": true, "is_final": true,
                                  "handlers": [{ "name": "H", "version": requirement }] } }
        });
        // Workers come one by one: wait until the engine knows them all.
        while engine.registry().workers().len() < 4 {
            tokio::task::yield_now().await;
        }
        let run = world.run(&definition.to_string(), Value::Null).await;
        assert_eq!(run.output.map(|output| output.to_value()), Some(json!({ "H": expected })), "{requirement}");
    }
    world.stop().await;
}

async fn a_key_makes_one_run(mut world: World) {
    let engine = world.start_engine().await;
    let submission = || phasework_engine::Submission {
        what: phasework_engine::ToRun::Definition(one_phase(&json!([{ "name": "H", "for_each": 0 }]))),
        data: None,
        key: Some("order-17".into()),
    };
    let first = engine.submit(submission()).await.expect("it is accepted");
    let second = engine.submit(submission()).await.expect("it is accepted again");
    assert_eq!((first.changed, second.changed, first.run), (true, false, second.run));
    world.stop().await;
}

async fn a_worker_killed_in_mid_job_loses_nothing(mut world: World) {
    let engine = world.start_engine().await;
    let host = |ledger: phasework_tests::Ledger, hangs: bool| {
        move |worker: phasework_sdk::Worker| {
            let handler = move |index: u64, ctx: Context| {
                ledger.note(format!("job {index}"));
                let ledger = ledger.clone();
                async move {
                    if hangs && index == 2 {
                        ledger.note("hanging");
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, HandlerError>(ctx.attempt())
                }
            };
            worker.handler("H", "1.0.0", handler).concurrency(2)
        }
    };
    world.start_worker(host(world.ledger.clone(), true)).await;
    let run = submit(&engine, &one_phase(&json!([{ "name": "H", "for_each": 20 }])), Value::Null).await;
    while world.ledger.count("hanging") == 0 {
        tokio::task::yield_now().await;
    }
    world.start_worker(host(world.ledger.clone(), false)).await;
    world.kill_worker(0).await;
    let ended = wait(&engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    assert_eq!(world.ledger.count("job 2"), 2, "the job that was cut off ran again");
    assert_eq!(world.ledger.under("job").len(), 20);
    world.stop().await;
}

async fn a_worker_that_stops_hands_back_the_rest(mut world: World) {
    let engine = world.start_engine().await;
    let host = |ledger: phasework_tests::Ledger| {
        move |worker: phasework_sdk::Worker| {
            let handler = move |index: u64, ctx: Context| {
                let first = ledger.note(format!("job {index}")) == 1 && index == 0;
                async move {
                    if first {
                        ctx.canceled().await; // the drain deadline comes first
                    }
                    Ok::<_, HandlerError>(())
                }
            };
            worker.handler("H", "1.0.0", handler).concurrency(1)
        }
    };
    world.start_worker(host(world.ledger.clone())).await;
    let run = submit(&engine, &one_phase(&json!([{ "name": "H", "for_each": 5 }])), Value::Null).await;
    while world.ledger.count("job 0") == 0 {
        tokio::task::yield_now().await;
    }
    world.start_worker(host(world.ledger.clone())).await;
    world.stop_worker(0).await;
    let ended = wait(&engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    assert_eq!(ended.head.entry.handlers.len(), 0, "the run is in its final phase");
    world.stop().await;
}
