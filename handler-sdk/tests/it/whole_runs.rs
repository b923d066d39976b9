//! Whole workflows under test: driven by the engine's state machine, without an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use phasework_sdk::testing::{EndedRun, TestContext, TestError, TestRun, Verdict};
use phasework_sdk::{CancellationToken, Context, HandlerError, JobList, Worker};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// `work` and, on its own, `finished`; on an error `broken`.
fn definition(handler: &Value) -> Value {
    json!({
        "workflow": "orders",
        "phases": {
            "work": { "is_initial": true, "handlers": [handler], "transitions_to": "finished",
                      "on_error_transition_to": "broken" },
            "finished": { "is_final": true },
            "broken": { "is_final": true, "handlers": ["Mailer"] }
        },
        "output": { "work": "{{ outputs.work.Worker | default(none) }}" }
    })
}

fn with_mailer(test: TestRun) -> TestRun {
    test.mock("Mailer", |_| Value::Null)
}

async fn run(test: TestRun) -> EndedRun {
    with_mailer(test).run().await.unwrap()
}

#[tokio::test]
async fn retries_after_hours_take_no_time() {
    let retry = json!({ "max_attempts": 4, "delay": "24h", "max_delay": "7d", "backoff": "fixed", "jitter": 0 });
    let test = TestRun::of(definition(&json!({ "name": "Worker", "retry": retry })));
    let began = std::time::Instant::now();
    let run = run(test.mock("Worker", |_| json!("done")).failing(3, HandlerError::retry("503"))).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((run.state(), run.phases()), ("succeeded", vec!["work", "finished"]));
    assert_eq!(run.output::<Value>(), json!({ "work": "done" }));
    let calls = run.calls_of("Worker");
    let tries: Vec<_> = calls.iter().map(|call| (call.attempt, call.try_number, call.is_done())).collect();
    assert_eq!(tries, [(1, 1, false), (2, 2, false), (3, 3, false), (4, 4, true)]);
    let days = run.took().as_secs() / 86_400;
    assert_eq!(days, 3, "{:?}", run.took());
}

#[tokio::test]
async fn a_job_that_fails_for_good_takes_the_error_transition() {
    let spec = json!({ "name": "Worker", "for_each": 3 });
    let test = TestRun::of(definition(&spec)).mock_with("Worker", |input, ctx| {
        if ctx.index() == 1 { Err(HandlerError::fail(format!("{input} is one too many"))) } else { Ok(input) }
    });
    let run = run(test).await;
    assert_eq!((run.state(), run.phases()), ("failed", vec!["work", "broken"]));
    assert_eq!(run.error().unwrap().message, "1 is one too many");
    assert_eq!(run.calls_of("Worker").len(), 3, "{:?}", run.calls());
    assert_eq!(run.calls_of("Mailer").len(), 1);
}

#[tokio::test]
async fn without_an_error_transition_the_run_halts() {
    let definition = r#"{ "workflow": "w", "phases": {
        "a": { "is_initial": true, "handlers": ["A"], "transitions_to": "b" }, "b": { "is_final": true } } }"#;
    let run = TestRun::of(definition).mock("A", Value::from).failing(9, HandlerError::retry("no")).run().await.unwrap();
    assert_eq!((run.state(), run.phases(), run.calls().len()), ("halted", vec!["a"], 3));
}

#[tokio::test]
async fn lists_inputs_and_outputs_travel_between_real_and_made_up_handlers() {
    async fn double(number: u64, ctx: Context) -> Result<u64, HandlerError> {
        ctx.progress(10);
        let factor: u64 = ctx.data::<Value>()?["factor"].as_u64().unwrap_or(1);
        Ok(number * factor)
    }
    let definition = json!({ "workflow": "w", "phases": [
        { "name": "list", "is_initial": true, "handlers": ["Lister"], "transitions_to": "double" },
        { "name": "double", "transitions_to": "done",
          "handlers": [{ "name": "Doubler", "version": "~> 2.1", "for_each": "outputs.list.Lister",
                         "input": "{{ item.n }}" }] },
        { "name": "done", "is_final": true, "handlers": [
            { "name": "Adder", "input": { "all": "{{ outputs.double.Doubler }}", "run": "{{ run.key }}" } }] },
    ]});
    let test = TestRun::of(&definition)
        .data(&json!({ "factor": 3 }))
        .key("k")
        .handler("Doubler", "2.0.0", |_: Value, _| async { Err::<(), _>(HandlerError::fail("too old")) })
        .handler("Doubler", "2.1.7", double)
        .mock("Lister", |data| json!([{ "n": 1 }, { "n": 2 }, { "n": data["factor"] }]))
        .mock("Adder", |input| json!(input["all"].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>()));
    let run = test.run().await.unwrap();
    assert_eq!(run.state(), "succeeded", "{run:?}");
    assert_eq!(run.output_of::<Vec<u64>>("double", "Doubler"), [3, 6, 9]);
    assert_eq!(run.output::<Value>(), json!({ "Adder": 18 }));
    assert_eq!(run.calls_of("Adder")[0].input::<Value>(), json!({ "all": [3, 6, 9], "run": "k" }));
    let doubled = run.calls_of("Doubler");
    assert_eq!(
        (doubled[2].input::<u64>(), doubled[2].version.to_string(), doubled[2].progress()),
        (3, "2.1.7".into(), &[10][..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_works_for_hours_is_not_taken_for_lost() {
    let spec = json!({ "name": "Worker", "timeout": "24h", "for_each": 2, "max_in_flight": 1 });
    let test = TestRun::of(definition(&spec)).handler("Worker", "1.0.0", |hours: u64, _| async move {
        sleep(Duration::from_secs(3600 * (hours + 1))).await;
        Ok(hours)
    });
    let run = run(test).await;
    assert_eq!((run.state(), run.calls().len()), ("succeeded", 2), "{:?}", run.calls());
    assert_eq!(run.took().as_secs() / 60, 180);
}

#[tokio::test(start_paused = true)]
async fn time_outs_count_as_tries() {
    let spec = json!({ "name": "Worker", "timeout": "30s", "retry": { "max_attempts": 2 } });
    let test = TestRun::of(definition(&spec)).handler("Worker", "1.0.0", |_: Value, _| async {
        sleep(Duration::from_secs(3600)).await;
        Ok(())
    });
    let run = run(test).await;
    assert_eq!(run.state(), "failed");
    let kinds: Vec<_> = run.calls_of("Worker").iter().map(|call| call.error().kind.to_string()).collect();
    assert_eq!(kinds, ["timeout", "timeout"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_abandoned_is_canceled() {
    let spec = json!({ "name": "Worker", "for_each": 2, "timeout": "1h", "retry": { "max_attempts": 1 } });
    let test = TestRun::of(definition(&spec)).handler("Worker", "1.0.0", |index: u64, ctx: Context| async move {
        if index == 0 {
            sleep(Duration::from_secs(1)).await;
            return Err(HandlerError::fail("no"));
        }
        ctx.canceled().await;
        Ok(())
    });
    let test = test.handler("Mailer", "1.0.0", |_: Value, _| async {
        sleep(Duration::from_secs(1)).await;
        Ok(())
    });
    let run = test.run().await.unwrap();
    assert_eq!((run.state(), run.phases()), ("failed", vec!["work", "broken"]));
    assert!(run.took() < Duration::from_secs(60), "{:?}", run.took());
    assert_eq!(run.calls()[1].verdict, Some(Verdict::Done(phasework_sdk::Payload::null())), "{:?}", run.calls());
}

#[tokio::test(start_paused = true)]
async fn the_concurrency_of_a_worker_holds() {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&most);
    let handlers = move |worker: Worker| {
        let busy = move |_: u64, _| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        };
        worker.handler("Worker", "1.0.0", busy).concurrency(4)
    };
    let run = run(TestRun::of(definition(&json!({ "name": "Worker", "for_each": 30 }))).worker(handlers)).await;
    assert_eq!((run.state(), run.calls().len(), seen.load(Ordering::SeqCst)), ("succeeded", 30, 4));
}

#[tokio::test]
async fn what_is_not_given_is_named_with_the_nearest() {
    let cases = [
        (TestRun::of("{"), "the definition has "),
        (
            TestRun::of(definition(&json!("Worker"))).mock("Wroker", Value::from).mock("Mailer", Value::from),
            "phase `work` needs `Worker`, which nobody gives; did you mean `Wroker`?",
        ),
        (
            TestRun::of(definition(&json!("Worker"))).mock("Mailer", Value::from),
            "needs `Worker`, which nobody gives; given are Mailer",
        ),
        (TestRun::of(definition(&json!("Worker"))), "phase `broken` needs `Mailer`, which nobody gives; none is given"),
        (
            with_mailer(TestRun::of(definition(&json!({ "name": "Worker", "version": "^2" })))).handler(
                "Worker",
                "1.0.0",
                |(): (), _| async { Ok(()) },
            ),
            "phase `work` needs `Worker` ^2, and is given 1.0.0",
        ),
        (
            with_mailer(TestRun::of(definition(&json!("Worker"))))
                .handler("Worker", "one", |(): (), _| async { Ok(()) }),
            "handler `Worker` has version `one`, which is none",
        ),
        (TestRun::of(definition(&json!("Worker"))).failing(1, HandlerError::retry("x")), "`failing` is said before"),
    ];
    for (test, expected) in cases {
        let error = test.run().await.unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}\n{error}");
        assert_eq!(error.to_string(), format!("{error:?}"));
    }
    let no_worker: Result<_, TestError> = TestRun::of(definition(&json!("Worker"))).run().await;
    assert!(matches!(no_worker, Err(TestError::Setup(problems)) if problems.len() == 2));
}

#[tokio::test(start_paused = true)]
async fn one_handler_is_called_as_a_worker_does() {
    let panics = |(): (), _: Context| async { if true { panic!("oh") } else { Ok(()) } };
    let call = TestContext::new("A").call(panics, &()).await;
    assert_eq!(&*call.error().kind, "panic");
    assert!(call.error().message.starts_with("oh (at "), "{}", call.error().message);

    let slow = |(): (), ctx: Context| async move {
        ctx.canceled().await;
        sleep(Duration::from_secs(60)).await;
        Ok(())
    };
    let began = Instant::now();
    let call = TestContext::new("A").timeout(Duration::from_secs(7)).call(slow, &()).await;
    assert_eq!((&*call.error().kind, began.elapsed().as_secs()), ("timeout", 7));
    let stop = CancellationToken::new();
    stop.cancel();
    let call = TestContext::new("A").canceled_by(stop).call(slow, &()).await;
    assert_eq!(&*call.error().kind, "canceled");

    let context = TestContext::new("A").version("1.2.3").within("orders", "work").attempt(7).tries(2, 2).index(5);
    let look = |(): (), ctx: Context| async move {
        let tries = (ctx.attempt(), ctx.try_number(), ctx.is_last_try());
        Ok(json!([ctx.version().to_string(), ctx.workflow(), ctx.phase(), tries, ctx.idempotency_key()]))
    };
    let call = context.clone().call(look, &()).await;
    let key = "00000000-0000-0000-0000-000000000007/1/A/5";
    assert_eq!(call.output::<Value>(), json!(["1.2.3", "orders", "work", [7, 2, true], key]));
    assert_eq!(context.build().idempotency_key(), key);
}

#[tokio::test]
async fn handlers_are_asked_for_their_lists() {
    async fn list(upto: u64, jobs: JobList<u64>, ctx: Context) -> Result<(), HandlerError> {
        for n in 1..=upto {
            jobs.push(n * 10).await?;
            if ctx.try_number() == 1 && n == 2 {
                return Err(HandlerError::retry("the connection was lost"));
            }
        }
        Ok(())
    }
    async fn double(n: u64, _: Context) -> Result<u64, HandlerError> {
        Ok(n * 2)
    }
    let worker = |worker: Worker| worker.handler("Worker", "1.0.0", double).enumerate(list);
    let spec = json!({ "name": "Worker", "enumerate": true, "max_in_flight": 1, "input": "{{ data.upto }}" });
    let listed = run(TestRun::of(definition(&spec)).data(&json!({ "upto": 3 })).worker(worker)).await;
    assert_eq!(listed.output::<Value>(), json!({ "work": [20, 40, 60] }));
    let attempts: Vec<_> = listed.calls_of("Worker").iter().map(|call| (call.index, call.attempt)).collect();
    assert_eq!(attempts, [(0, 1), (0, 2), (0, 1), (1, 1), (2, 1)], "twice the list, and then its jobs");
    let empty = run(TestRun::of(definition(&spec)).data(&json!({ "upto": 0 })).worker(worker)).await;
    assert_eq!(empty.output::<Value>(), json!({ "work": [] }));
    // A made-up handler gives its list for what it lists from, and then what its jobs give.
    let spec = json!({ "name": "Worker", "enumerate": true });
    let mocked = TestRun::of(definition(&spec)).data(&json!("all"));
    let mocked = run(mocked.mock("Worker", |input| if input == "all" { json!(["a", "b"]) } else { input })).await;
    assert_eq!(mocked.output::<Value>(), json!({ "work": ["a", "b"] }));
    let without = TestRun::of(definition(&spec)).handler("Worker", "1.0.0", double).data(&json!(1));
    let without = run(without).await;
    assert_eq!((without.state(), &*without.error().unwrap().kind), ("failed", "enumerate"));
}

#[tokio::test]
async fn a_function_that_lists_is_called_in_a_test() {
    async fn list(upto: u64, jobs: JobList<u64>, ctx: Context) -> Result<(), HandlerError> {
        for n in 0..upto {
            jobs.push(n + ctx.data::<u64>()?).await?;
        }
        Ok(())
    }
    let jobs: Vec<u64> = TestContext::new("Worker").data(&7).list(list, 3).await.unwrap();
    assert_eq!(jobs, [7, 8, 9]);
    let failed: Result<Vec<u64>, _> = TestContext::new("Worker").list(list, 3).await;
    assert_eq!(failed.unwrap_err().kind(), "input");
}
