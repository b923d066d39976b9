//! An engine with nothing around it: `serve --embedded` and `dev`, killed and started again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::command::{Place, Running};
use crate::serve::address;
use crate::server::PASS;

/// A run through many phases, one of which waits for a worker that never comes, until its time is over.
const JOURNEY: &str = r#"{ "workflow": "journey", "phases": {
  "p1": { "is_initial": true, "transitions_to": "p2" }, "p2": { "transitions_to": "p3" },
  "p3": { "transitions_to": "p4" }, "p4": { "transitions_to": "waiting" },
  "waiting": { "transitions_to": "end", "on_error_transition_to": "p5",
               "handlers": [ { "name": "Nobody", "start_timeout": "300ms", "retry": { "max_attempts": 1 } } ] },
  "p5": { "transitions_to": "p6" }, "p6": { "transitions_to": "end" }, "end": { "is_final": true } } }"#;

const SERVE: [&str; 6] = ["serve", "--embedded", "--state", "kept", "--listen", "127.0.0.1:0"];

const KILLS: usize = 12;

/// Starts an engine, and says where its API is.
fn serve(place: &Place) -> (Running, String) {
    let mut serving = place.start(&SERVE);
    let url = address(&mut serving);
    // What it logs is not read: it must not wait for that.
    (serving.deaf(), url)
}

/// Asks, and gives the answer when it is a good one.
async fn ask(client: &Client, url: &str) -> Option<Value> {
    let answer = client.get(url).send().await.ok()?;
    if answer.status() != StatusCode::OK {
        return None;
    }
    answer.json().await.ok()
}

/// Submits a run; its id, once it is accepted.
async fn submit(client: &Client, url: &str, definition: &str, key: &str) -> Option<String> {
    let body = json!({ "definition": definition, "key": key });
    let answer = client.post(format!("{url}/v1/runs")).json(&body).send().await.ok()?;
    let accepted = answer.status().is_success();
    let answer: Value = answer.json().await.ok()?;
    accepted.then(|| answer["run"].as_str().unwrap().to_owned())
}

/// Waits for the end of a run, and checks that it came there by each phase once.
async fn ended_once(client: &Client, url: &str, run: &str) {
    let mut found = Value::Null;
    // A coordinator that has just started hears for a while who is there before it says that nobody is.
    for _ in 0..3 {
        let answer = client.get(format!("{url}/v1/runs/{run}?wait=20s")).send().await.unwrap();
        let status = answer.status();
        found = answer.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{found}");
        if found["state"] != "running" {
            break;
        }
    }
    assert_eq!(found["state"], "failed", "{found}");
    let history = ask(client, &format!("{url}/v1/runs/{run}/history?limit=1000")).await.unwrap();
    let events = history["events"].as_array().unwrap();
    let numbers: Vec<_> = events.iter().map(|event| event["n"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=events.len() as u64), "{numbers:?}");
    let entered: Vec<_> = events.iter().filter(|event| event["what"] == "entered").collect();
    let phases: Vec<_> = entered.iter().map(|event| event["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["p1", "p2", "p3", "p4", "waiting", "p5", "p6", "end"], "{history}");
    assert_eq!(events.iter().filter(|event| event["what"] == "ended").count(), 1, "{history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_that_was_accepted_ends_once_however_often_the_engine_is_killed() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let (place, client) = (Place::new(), Client::builder().timeout(Duration::from_secs(40)).build().unwrap());
    let mut chance = fastrand::Rng::with_seed(3);
    let (mut accepted, mut keys) = (Vec::new(), 0);
    for _ in 0..KILLS {
        let (serving, url) = serve(&place);
        let mut live = 0;
        let enough = chance.usize(1..15);
        while live < enough {
            // What was not answered is asked for again under its key.
            match submit(&client, &url, JOURNEY, &format!("key-{keys}")).await {
                Some(run) => {
                    accepted.push(run);
                    (keys, live) = (keys + 1, live + 1);
                }
                None => tokio::task::yield_now().await, // it is still starting
            }
        }
        // One more is under way when it is killed.
        let last = tokio::spawn({
            let (client, url, key) = (client.clone(), url.clone(), format!("key-{keys}"));
            async move { submit(&client, &url, JOURNEY, &key).await }
        });
        serving.signal("KILL");
        drop(serving);
        if let Some(run) = last.await.unwrap() {
            accepted.push(run);
            keys += 1;
        }
    }
    let (_serving, url) = serve(&place);
    while ask(&client, &format!("{url}/health/ready")).await.is_none() {
        tokio::task::yield_now().await;
    }
    for run in &accepted {
        ended_once(&client, &url, run).await;
    }
    let (before, mut runs) = (accepted.len(), accepted);
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), before, "two keys made one run");
    assert!(before > KILLS, "{before} runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_soon_after_the_engine_was_killed() {
    let phases = (0..60).map(|n| format!(r#""p{n}": {{ "is_initial": {}, "transitions_to": "p{}" }}"#, n == 0, n + 1));
    let phases: Vec<_> = phases.collect();
    let long =
        format!(r#"{{ "workflow": "long", "phases": {{ {}, "p60": {{ "is_final": true }} }} }}"#, phases.join(","));
    rustls::crypto::ring::default_provider().install_default().ok();
    let (place, client) = (Place::new(), Client::builder().timeout(Duration::from_secs(40)).build().unwrap());
    let mut longest = Duration::ZERO;
    for round in 0..4 {
        let (serving, url) = serve(&place);
        let run = loop {
            if let Some(run) = submit(&client, &url, &long, &format!("key-{round}")).await {
                break run;
            }
            tokio::task::yield_now().await;
        };
        serving.signal("KILL");
        drop(serving);
        let started = Instant::now();
        let (serving, url) = serve(&place);
        let found = loop {
            match ask(&client, &format!("{url}/v1/runs/{run}?wait=30s")).await {
                Some(found) => break found,
                None => tokio::task::yield_now().await,
            }
        };
        longest = longest.max(started.elapsed());
        assert_eq!(found["state"], "succeeded", "{found}");
        let history = ask(&client, &format!("{url}/v1/runs/{run}/history?limit=1000")).await.unwrap();
        let events = history["events"].as_array().unwrap();
        assert_eq!(events.iter().filter(|event| event["what"] == "entered").count(), 61, "{history}");
        drop(serving);
    }
    // What is allowed is for a machine that does much else.
    eprintln!("at most {longest:?} from a start to the end of a run that was under way");
    assert!(longest < Duration::from_secs(15), "{longest:?}");
}

#[test]
fn what_does_not_go_together_is_told() {
    let file = "broker = \"amqp://127.0.0.1\"\n";
    let place = Place::new().file("there.toml", file).file("taken", "");
    let rows: [(&[&str], &[&str]); 8] = [
        (&["--embedded"], &["no state directory is given (--state or PHASEWORK_STATE)", "hint: "]),
        (&["--embedded", "--state", "d", "--broker", "amqp://h"], &["leave out --broker, or --embedded"]),
        (
            &["--embedded", "--state", "d", "--store", "memory:", "--broker", "memory:"],
            &["leave out --broker and --store, or --embedded"],
        ),
        (&["--embedded", "--state", "d", "--config", "there.toml"], &["leave out there.toml: broker, or --embedded"]),
        (&["--state", "d", "--broker", "memory:", "--store", "memory:"], &["--state is the directory of --embedded"]),
        (&["--broker", "memory:", "--store", "sqlite:"], &["--store: no directory is named"]),
        (&["--embedded", "--state", "~/d"], &["--state: `~/d`", "write the whole path"]),
        (
            &["--embedded", "--state", "taken", "--listen", "127.0.0.1:0"],
            &["cannot make the directory", "/taken", "hint: --state DIR, or --store sqlite:DIR"],
        ),
    ];
    for (arguments, expected) in rows {
        place.check(&[&["serve"], arguments].concat(), 2, expected);
    }
    let shown = place.check(&["serve", "--embedded", "--state", "d", "--show-settings"], 0, &[]);
    let shown: Vec<_> = shown.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(shown[..3], ["broker = memory: (embedded)", "store = sqlite:d (embedded)", "state = d (flag)"]);
}

#[test]
fn dev_keeps_what_it_does_and_says_how_to_go_on() {
    let place = Place::new().file("pass.json", PASS).with("PHASEWORK_STORE", "redis://127.0.0.1:1");
    for round in 0..2 {
        let mut dev = place.start(&["dev", "--listen", "127.0.0.1:0"]);
        dev.until("is ready");
        let engine = dev.until("engine");
        let url = engine.split_whitespace().nth(1).unwrap().trim_end_matches(',').to_owned();
        let state = dev.until("state");
        assert!(state.contains(if round == 0 { "no runs yet" } else { "0 live and 1 ended runs" }), "{state}");
        assert!(dev.until("worker").contains(&format!("PHASEWORK_URL={url} ./my-worker")));
        assert!(dev.until("submit").contains(&format!("--url {url}")));
        // One run for both rounds: the same key. Whoever has it answered has waited for the engine, too.
        let run = ["run", "pass.json", "--key", "bo", "--data", "{\"name\":\"Bo\"}", "--follow", "--url", &url];
        place.check(&run, 0, &["hello Bo"]);
        place.check(&["runs", "list", "--url", &url], 0, &["pass", "succeeded"]);
        let port = url.strip_prefix("http://").unwrap();
        place.check(&["dev", "--listen", port], 2, &["cannot listen on", "--listen takes another address"]);
        let in_use = &["/.phasework is in use by another phasework (process ", "hint: "];
        place.check(&["dev", "--listen", "127.0.0.1:0"], 2, in_use);
        // Nothing is wrong with it but that there are no workers.
        let doctor = ["doctor", "--broker", "memory:", "--store", "sqlite:.phasework", "--url", &url];
        place.check(&doctor, 0, &["sqlite:.phasework", "nothing is damaged", "0 live, 1 ended", "1 warning"]);
        dev.signal("INT");
        let done = dev.end();
        assert_eq!((done.exit, done.out.as_str()), (0, ""), "{}", done.err);
    }
    let kept: PathBuf = place.path().join(".phasework");
    assert_eq!(std::fs::read_to_string(kept.join(".gitignore")).unwrap(), "*\n");
    assert!(!kept.join("phasework.db-wal").exists(), "it was closed well");
}

#[test]
fn a_directory_may_be_called_anything() {
    for dir in ["file:odd?mode=memory", "a b#c%41?d&e", "me@work"] {
        let place = Place::new().file("pass.json", PASS);
        for expected in ["no runs yet", "0 live and 1 ended runs"] {
            let mut dev = place.start(&["dev", "--state", dir, "--listen", "127.0.0.1:0"]);
            let engine = dev.until("engine");
            let url = engine.split_whitespace().nth(1).unwrap().trim_end_matches(',').to_owned();
            assert!(dev.until("state").contains(&format!("{dir}, {expected}")));
            let run = ["run", "pass.json", "--key", "one", "--data", "{\"name\":\"Bo\"}", "--follow", "--url", &url];
            place.check(&run, 0, &["hello Bo"]);
            dev.signal("INT");
            assert_eq!(dev.end().exit, 0);
        }
        assert!(place.path().join(dir).join("phasework.db").exists(), "{dir}");
    }
}

#[test]
fn what_others_have_in_the_directory_is_left_as_it_is() {
    let place = Place::new().file("mine.txt", "");
    for (state, ignored) in [(".", false), ("new", true)] {
        let mut dev = place.start(&["dev", "--state", state, "--listen", "127.0.0.1:0"]);
        dev.until("stop");
        dev.signal("INT");
        assert_eq!(dev.end().exit, 0);
        assert_eq!(place.path().join(state).join(".gitignore").exists(), ignored, "{state}");
    }
    assert!(place.path().join("phasework.lock").exists());
}

#[test]
fn a_new_store_where_there_may_have_been_one_is_told() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("kept")).unwrap();
    for is_new in [true, false] {
        let mut serving = place.start(&SERVE);
        serving.until("ready: ");
        serving.signal("TERM");
        let told = serving.end().err;
        assert_eq!(told.contains("there was no store in the directory"), is_new, "{told}");
    }
}

#[test]
fn a_store_that_cannot_be_opened_yet_is_waited_for() {
    let place = Place::new().file("pass.json", PASS);
    let (serving, url) = serve(&place);
    place.check(&["run", "pass.json", "--data", "{\"name\":\"Bo\"}", "--follow", "--url", &url], 0, &["hello Bo"]);
    serving.signal("TERM");
    serving.end();
    let other = rusqlite::Connection::open(place.path().join("kept/phasework.db")).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let mut serving = place.start(&SERVE);
    let url = address(&mut serving);
    serving.until("the store is not there yet; trying again");
    place.check(&["runs", "list", "--url", &url], 3, &["the engine is starting: ", "store: "]);
    place.check(&["status", "--url", &url], 3, &["starting", "store: "]);
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    serving.until("ready: ");
    place.check(&["status", "--url", &url], 0, &["0 live, 1 ended"]);
}

#[test]
fn dev_is_ready_when_it_says_so_and_starts_without_complaint() {
    let place = Place::new().file("pass.json", PASS);
    for _ in 0..2 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let url = format!("http://{port}");
        let mut dev = place.start(&["dev", "--listen", &port]);
        // From the very first moment that it can be asked.
        let first = loop {
            let done = place.run(&["status", "--url", &url]);
            if !done.err.contains("cannot be reached") {
                break done;
            }
        };
        assert_eq!(first.exit, 0, "{}{}", first.out, first.err);
        assert!(
            first.err.contains("the server is starting") && first.out.contains("yes"),
            "{}{}",
            first.out,
            first.err
        );
        dev.until("stop");
        let now = place.check(&["status", "--url", &url], 0, &["yes"]);
        assert_eq!(now.err, "");
        dev.signal("INT");
        let told = dev.end().err;
        assert!(told.contains("is ready") && !told.contains("WARN") && !told.contains("compared"), "{told}");
    }
}
