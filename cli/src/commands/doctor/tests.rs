//! What the facts mean: one sound installation, and what is said when one thing in it is otherwise.

use std::collections::BTreeMap;

use phasework_broker::rabbitmq::{self, Found};
use phasework_engine::epoch_of;
use phasework_store::RunCounts;
use phasework_store::{redis, sqlite};
use phasework_workflows::Version;
use phasework_workflows::definition::VersionRequirement;
use phasework_workflows::id::{HandlerName, RunId};
use phasework_workflows::message::presence::{HostedHandler, WorkerAnnounced};
use phasework_workflows::time::{Millis, Timestamp};

use super::facts::{BrokerFacts, EngineAnswer, EngineFacts, Facts, Markers, Part, Queue, Remembered, StoreFacts};
use super::judge::judge;
use super::line::{Line, Status};
use super::table;
use crate::failure::Exit;
use crate::output::{Paint, Rows};

const NOW: Timestamp = Timestamp::from_millis(1_769_860_800_000);

const INFO: &str = "redis_version:7.0.15\naof_enabled:1\nused_memory:104857600\nmaxmemory:1073741824\n\
    rdb_last_bgsave_status:ok\naof_last_write_status:ok\nrole:master\nconnected_slaves:1";

fn queue(name: &str, messages: u64, consumers: u64) -> Queue {
    Queue { name: format!("phasework.{name}"), found: Ok(Found::Sound { messages, consumers }) }
}

fn worker(pid: u32, name: &str, version: &str, seen: Timestamp) -> (WorkerAnnounced, Timestamp) {
    let (name, version) = (HandlerName::new(name).unwrap(), version.parse::<Version>().unwrap());
    let handlers = vec![HostedHandler { name, version, slots: 8, in_flight: 0 }];
    let (worker, host) = (format!("w{pid}").into(), "box".into());
    (WorkerAnnounced { worker, host, pid, sdk: "test".into(), started_at: NOW, handlers, draining: false }, seen)
}

/// An installation in which all is well.
fn sound() -> Facts {
    let broker = BrokerFacts {
        address: "amqp://rabbit".into(),
        server: Ok(rabbitmq::Server { product: "RabbitMQ".into(), version: "3.10.8".into() }),
        takes_messages: Ok(()),
        coordinators: vec![queue("coordinator.0", 1, 2), queue("coordinator.1", 0, 1)],
        submit: queue("submit", 0, 2),
        dead: queue("dead", 0, 2),
        jobs: vec![queue("jobs.H.1.0.0", 0, 1)],
        markers: Some(Ok(Markers { holds_stored: Some(true), was_used: true })),
    };
    let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let settings = [("maxmemory-policy", "noeviction"), ("appendfsync", "everysec")];
    let server = redis::Server {
        info: INFO.lines().filter_map(|line| line.split_once(':')).map(text).collect(),
        settings: settings.map(text).into(),
        format: Some("1".into()),
        time: NOW,
    };
    let memory = Remembered {
        runs: RunCounts { live: 3, ended: 4 },
        looked_at: 3,
        workers: vec![worker(7, "H", "1.0.0", NOW)],
        wanted: BTreeMap::from([(HandlerName::new("H").unwrap(), vec![VersionRequirement::parse("~> 1.0").unwrap()])]),
        marker: Some("m1".into()),
        lineage: "l1".into(),
        epochs: vec![epoch_of("m1", "l1"); 256],
        ..Remembered::default()
    };
    let store = StoreFacts { address: "redis://redis".into(), server, file: None, ahead_ms: 3, memory: Ok(memory) };
    let version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let answer = Ok(EngineAnswer { version, reasons: Vec::new() });
    let engine = EngineFacts { address: "http://engine".into(), is_named: true, answer };
    Facts { broker: Part::There(broker), store: Part::There(store), engine }
}

fn broker(facts: &mut Facts) -> &mut BrokerFacts {
    let Part::There(broker) = &mut facts.broker else { panic!("it is there") };
    broker
}

fn store(facts: &mut Facts) -> &mut StoreFacts {
    let Part::There(store) = &mut facts.store else { panic!("it is there") };
    store
}

fn memory(facts: &mut Facts) -> &mut Remembered {
    store(facts).memory.as_mut().unwrap()
}

fn info(facts: &mut Facts, name: &str, value: &str) {
    store(facts).server.info.insert(name.into(), value.into());
}

/// Changes one thing, and checks what is said that was not said before: a status and a part of the words for each line.
fn check(change: impl FnOnce(&mut Facts), expected: &[(Status, &str)]) {
    let mut facts = sound();
    change(&mut facts);
    let before = judge(&sound());
    let new: Vec<Line> = judge(&facts).into_iter().filter(|line| !before.contains(line)).collect();
    assert_eq!(new.len(), expected.len(), "{new:#?}");
    for (line, (status, words)) in new.iter().zip(expected) {
        let said =
            format!("{} {}: {} → {}", line.area, line.what, line.found, line.hint.as_deref().unwrap_or_default());
        assert!(line.status == *status && said.contains(words), "{words}\n{line:#?}");
        assert!(line.status == Status::Ok || line.hint.is_some(), "what to do about this? {line:#?}");
    }
}

#[test]
fn nothing_is_said_against_what_is_well() {
    let lines = judge(&sound());
    assert!(lines.iter().all(|line| line.status == Status::Ok && line.hint.is_none()), "{lines:#?}");
}

#[test]
fn the_broker_is_judged() {
    use Status::{Error, Ok as Well, Warning};
    let version = |version: &'static str| {
        move |facts: &mut Facts| broker(facts).server.as_mut().unwrap().version = version.to_owned()
    };
    check(version("4.1.0"), &[(Well, "broker version: RabbitMQ 4.1.0")]);
    check(version("3.9.29"), &[(Error, "RabbitMQ 3.9.29 is too old → 3.10 or later is needed")]);
    check(version("next"), &[(Warning, "RabbitMQ next")]);
    check(|it| broker(it).server.as_mut().unwrap().product = "LavinMQ".into(), &[(Warning, "LavinMQ")]);
    check(|it| broker(it).takes_messages = Err("low on memory".into()), &[(Error, "are not taken: low on memory")]);
    check(|it| broker(it).coordinators[0] = queue("coordinator.0", 5000, 1), &[(Warning, "5000 messages wait")]);
    check(|it| broker(it).coordinators[0].found = Ok(Found::Missing), &[(Warning, "1 of 2 are not there")]);
    check(|it| broker(it).coordinators[1] = queue("coordinator.1", 0, 0), &[(Error, "nobody serves 1 of 2")]);
    check(|it| broker(it).submit.found = Ok(Found::Missing), &[(Warning, "phasework.submit is not there")]);
    check(|it| broker(it).dead = queue("dead", 2000, 1), &[(Warning, "2000 wait in phasework.dead")]);
    let jobs =
        |messages, consumers| move |it: &mut Facts| broker(it).jobs[0] = queue("jobs.H.1.0.0", messages, consumers);
    check(jobs(9, 2), &[(Well, "jobs.H.1.0.0: 9 messages wait for 2 workers")]);
    check(jobs(9, 0), &[(Warning, "9 messages wait, and nobody takes them")]);
    check(|it| broker(it).jobs[0].found = Ok(Found::Missing), &[(Warning, "jobs.H.1.0.0 is not there")]);
    let otherwise = |it: &mut Facts| broker(it).coordinators[0].found = Ok(Found::Otherwise("it is classic".into()));
    check(
        otherwise,
        &[(Error, "phasework.coordinator.0 was made otherwise: it is classic → stop who uses it, delete it")],
    );
    check(|it| broker(it).dead.found = Err("no access".into()), &[(Error, "phasework.dead cannot be looked at")]);
}

#[test]
fn queues_that_nobody_has_made_yet_are_no_error() {
    let none = |facts: &mut Facts| {
        let broker = broker(facts);
        let queues = broker.coordinators.iter_mut().chain([&mut broker.submit, &mut broker.dead]);
        queues.for_each(|queue| queue.found = Ok(Found::Missing));
    };
    check(none, &[(Status::Warning, "not there yet → the first coordinator makes them")]);
}

#[test]
fn the_store_is_judged() {
    use Status::{Error, Ok as Well, Warning};
    let setting = |name: &'static str, value: &'static str| {
        move |it: &mut Facts| drop(store(it).server.settings.insert(name.into(), value.into()))
    };
    check(setting("maxmemory-policy", "allkeys-lru"), &[(Error, "allkeys-lru: runs may be thrown away")]);
    check(setting("maxmemory-policy", "volatile-lru"), &[(Well, "eviction: volatile-lru")]);
    check(|it| store(it).server.settings.clear(), &[(Warning, "eviction: is not told"), (Well, "file: is kept")]);
    check(setting("appendfsync", "no"), &[(Warning, "when the system likes")]);
    for (name, value, status, words) in [
        ("redis_version", "6.2.1", Warning, "Redis 6.2.1 → 7.0 or later"),
        ("valkey_version", "8.0.1", Well, "Valkey 8.0.1"),
        ("cluster_enabled", "1", Error, "in cluster mode"),
        ("aof_enabled", "0", Warning, "append-only file: is not kept"),
        ("rdb_last_bgsave_status", "err", Error, "the last snapshot failed"),
        ("aof_last_write_status", "err", Error, "the last write of the append-only file failed"),
        ("used_memory", "1000000000", Warning, "953 MiB used of 1024 MiB (maxmemory) → give it more"),
        ("role", "slave", Error, "a replica: nothing can be written → --store has to name the primary"),
    ] {
        check(|it| info(it, name, value), &[(status, words)]);
    }
    let format =
        |format: Option<&'static str>| move |it: &mut Facts| store(it).server.format = format.map(str::to_owned);
    check(format(None), &[(Well, "the store is empty")]);
    check(format(Some("9")), &[(Error, "9, this program reads up to 1 → update the program")]);
    check(format(Some("x")), &[(Error, "not ours")]);
    let file = sqlite::Looked { bytes: 5 << 20, free_bytes: 9 << 10, log_bytes: 0, format: 1, damage: Vec::new() };
    let with = |change: fn(&mut sqlite::Looked)| {
        let mut file = file.clone();
        change(&mut file);
        move |it: &mut Facts| store(it).file = Some(file)
    };
    let (room, sound) = ((Well, "file: 5 MiB, of which 9 KiB are free"), (Well, "integrity: nothing is damaged"));
    check(with(|_| {}), &[room, (Well, "log: 0 KiB"), sound]);
    check(with(|file| file.log_bytes = 1 << 30), &[room, (Warning, "log: 1024 MiB"), sound]);
    let damaged = with(|file| file.damage = vec!["page 7 is odd".into()]);
    check(damaged, &[room, (Well, "log: 0 KiB"), (Error, "integrity: page 7 is odd")]);
    check(|it| store(it).ahead_ms = -1500, &[(Warning, "the server's is 1.5s behind ours")]);
    check(|it| store(it).ahead_ms = 90_000, &[(Error, "the server's is 1m 30s ahead of ours")]);
}

#[test]
fn losses_are_judged() {
    use Status::{Error, Ok as Well, Warning};
    let markers = |holds_stored, was_used| {
        move |it: &mut Facts| broker(it).markers = Some(Ok(Markers { holds_stored, was_used }))
    };
    check(
        markers(Some(false), true),
        &[(Error, "timeline marker: the broker does not hold the one of the store: it has lost what it had")],
    );
    check(
        markers(Some(true), false),
        &[(Warning, "the broker has not noted that it is used → a coordinator notes it")],
    );
    check(
        markers(None, true),
        &[(Error, "the store has none, but the broker was used before: the store was emptied, or is another one → ")],
    );
    check(markers(None, true), &[(Error, "Restore it from its backup")]);
    check(markers(None, true), &[(Error, "`phasework serve --adopt`")]);
    check(markers(None, false), &[(Well, "marker: none yet")]);
    check(|it| broker(it).markers = Some(Err("no access".into())), &[(Warning, "cannot be looked for: no access")]);
    check(|it| broker(it).markers = None, &[]);
    check(|it| memory(it).epochs.clear(), &[(Well, "recovery: nothing to recover yet")]);
    check(
        |it| memory(it).epochs[..3].fill("m0/l1".into()),
        &[(Warning, "3 of 256 shards were not recovered → a coordinator that runs does it within seconds")],
    );
    check(|it| memory(it).lineage = "l2".into(), &[(Warning, "256 of 256 shards were not recovered")]);
}

#[test]
fn runs_and_workers_are_judged() {
    use Status::{Ok as Well, Warning};
    let run = |n: u32| format!("00000000-0000-0000-0000-{n:012}").parse::<RunId>().unwrap();
    check(|it| memory(it).halted = vec![run(1), run(2), run(3), run(4)], &[(Warning, "halted: 4: 00000000-")]);
    check(|it| memory(it).paused = vec![run(1)], &[(Well, "paused: 1: 00000000-")]);
    check(|it| memory(it).dead_letters = 2, &[(Warning, "dead letters: 2 → `phasework dead list`")]);
    check(|it| memory(it).runs.live = 5000, &[(Well, "of the newest 3")]);
    let missing = |it: &mut Facts| memory(it).missing = BTreeMap::from([("H ~> 2".into(), 5)]);
    check(missing, &[(Warning, "5 for a worker that hosts H ~> 2 → start one")]);
    check(|it| memory(it).workers.clear(), &[(Warning, "workers live: none")]);
    check(|it| memory(it).workers[0].0.draining = true, &[(Well, "1, 1 of them draining")]);
    let lost = worker(8, "H", "1.0.0", Timestamp::from_millis(NOW.as_millis() - 60_000));
    check(|it| memory(it).workers.push(lost), &[(Warning, "lost: process 8 on box, heard of 1m ago")]);
    let ahead = |it: &mut Facts| memory(it).workers[0].1 = NOW.plus(Millis(5000));
    check(ahead, &[(Warning, "a coordinator's is 5.0s ahead of the store's")]);
    let hosts = |name: &'static str, version: &'static str| {
        move |it: &mut Facts| memory(it).workers[0] = worker(7, name, version, NOW)
    };
    check(hosts("H", "2.0.0"), &[(Warning, "H 2.0.0: workflows ask for H ~> 1.0")]);
    check(hosts("G", "1.0.0"), &[(Warning, "G 1.0.0: no stored workflow has G")]);
    let pinned = |it: &mut Facts| {
        hosts("H", "2.0.0")(it);
        memory(it).pinned.insert((HandlerName::new("H").unwrap(), Version::new(2, 0, 0)));
    };
    check(pinned, &[]);
}

#[test]
fn the_engine_is_judged() {
    use Status::{Error, Ok as Well, Warning};
    let answer = |it: &mut Facts| it.engine.answer.as_mut().unwrap().reasons = vec!["store: away".into()];
    check(answer, &[(Error, "ready: no: store: away")]);
    let other = |it: &mut Facts| it.engine.answer.as_mut().unwrap().version = Some("9.9.9".into());
    check(other, &[(Warning, "9.9.9, not ours")]);
    check(|it| it.engine.answer = Err("it cannot be reached".into()), &[(Error, "it cannot be reached")]);
    let unnamed = |it: &mut Facts| {
        (it.engine.is_named, it.engine.answer) = (false, Err("it cannot be reached".into()));
    };
    check(unnamed, &[(Well, "none answers at http://engine")]);
}

#[test]
fn what_cannot_be_looked_at_decides_the_exit_code() {
    let away = || Part::Away { address: "amqp://rabbit".into(), why: "refused".into() };
    let refused = || Part::Refused { address: "redis://redis".into(), why: "WRONGPASS".into() };
    let exit = |facts: &Facts| judge(facts).iter().map(|line| line.exit).max().unwrap();
    assert_eq!(exit(&sound()), Exit::Good);
    assert_eq!(exit(&Facts { store: refused(), ..sound() }), Exit::Usage);
    assert_eq!(exit(&Facts { broker: away(), store: refused(), ..sound() }), Exit::Unreachable);
    let mut facts = sound();
    info(&mut facts, "role", "slave");
    assert_eq!(exit(&facts), Exit::Bad);
    check(
        |it| it.broker = away(),
        &[(Status::Error, "amqp://rabbit cannot be reached: refused → is it running? --broker")],
    );
}

#[test]
fn columns_are_aligned_and_hints_stand_below() {
    let lines = [
        Line::ok("broker", "address", "amqp://rabbit".into()),
        Line::warning("broker", "dead letters", "9 wait".into()).hint("look at them"),
        Line::error("store", "role", "a replica".into()),
    ];
    let expected = "\
broker  ok       address       amqp://rabbit
        warning  dead letters  9 wait
                               → look at them
store   error    role          a replica
";
    assert_eq!(table(&lines, Rows::fitting(&[], None, Paint(false))), expected);
}
