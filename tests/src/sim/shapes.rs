//! Workflows of any shape, and what becomes of their jobs: both follow from chance, and the second from which job it is.

use std::time::Duration;

use fastrand::Rng;
use phasework_sdk::Context;
use serde_json::{Map, Value, json};

/// The handlers that workers host.
pub(super) const HANDLERS: [&str; 4] = ["Alpha", "Beta", "Gamma", "Delta"];

/// A definition. What is drawn from `apart` leaves all else as it is.
pub(super) fn draw(number: usize, chance: &mut Rng, apart: &mut Rng) -> String {
    let middle = chance.usize(0..=2);
    let has_mending = chance.bool();
    let mut phases = Map::new();
    let mut lists: Vec<&str> = Vec::new();
    for place in 0..=middle {
        let (handlers, its_lists) = handlers(chance, (place > 0).then(|| (place - 1, lists.as_slice())), 2);
        let to = if place == middle { "end".to_owned() } else { format!("p{}", place + 1) };
        let can_fail = !handlers.is_empty();
        let mut phase = json!({ "is_initial": place == 0, "transitions_to": to, "handlers": handlers });
        if has_mending && can_fail && chance.bool() {
            phase["on_error_transition_to"] = json!("mend");
        }
        phases.insert(format!("p{place}"), phase);
        lists = its_lists;
    }
    let (last, _) = handlers(chance, None, 1);
    phases.insert("end".into(), json!({ "is_final": true, "handlers": last }));
    if has_mending && phases.values().any(|phase| phase.get("on_error_transition_to").is_some()) {
        let (mending, _) = handlers(chance, None, 1);
        phases.insert("mend".into(), json!({ "is_final": true, "handlers": mending }));
    }
    have_some_enumerate(&mut phases, apart);
    json!({ "workflow": format!("shape{number}"), "phases": phases }).to_string()
}

/// The handlers of a phase, and the names of those that give a list.
fn handlers(
    chance: &mut Rng,
    before: Option<(usize, &[&'static str])>,
    most: usize,
) -> (Vec<Value>, Vec<&'static str>) {
    let mut names = HANDLERS.to_vec();
    chance.shuffle(&mut names);
    let (mut handlers, mut lists) = (Vec::new(), Vec::new());
    for name in names.into_iter().take(chance.usize(0..=most)) {
        let mut handler = json!({
            "name": name,
            "timeout": if chance.u8(0..5) == 0 { "4m" } else { "15s" },
            "retry": {
                "max_attempts": chance.u32(1..=4),
                "backoff": if chance.bool() { "fixed" } else { "exponential" },
                "delay": format!("{}ms", chance.u32(0..=4000)),
                "max_delay": "8s",
            },
        });
        let list = match chance.u8(0..6) {
            0 | 1 => None,
            2 => Some(json!(chance.u64(0..=8))),
            3 => Some(json!("data.size")),
            4 => Some(json!("range(0, data.size)")),
            _ => Some(match before.and_then(|(place, lists)| Some((place, lists.first()?))) {
                Some((place, list)) => json!(format!("outputs.p{place}.{list}")),
                None => json!(3),
            }),
        };
        if let Some(list) = list {
            handler["for_each"] = list;
            lists.push(name);
            if chance.bool() {
                handler["max_in_flight"] = json!(chance.u32(1..=4));
            }
            match chance.u8(0..4) {
                0 => handler["tolerate_failures"] = json!("50%"),
                1 => handler["tolerate_failures"] = json!(1),
                _ => {}
            }
        }
        match chance.u8(0..8) {
            0 | 1 => handler["version"] = json!("^1"),
            2 => handler["start_timeout"] = json!(format!("{}s", chance.u32(90..=240))),
            _ => {}
        }
        handlers.push(handler);
    }
    (handlers, lists)
}

/// Has some handlers list their jobs themselves. Drawn apart from the rest, which stays what it was.
fn have_some_enumerate(phases: &mut Map<String, Value>, chance: &mut Rng) {
    let handlers = phases.values_mut().filter_map(|phase| phase["handlers"].as_array_mut()).flatten();
    for handler in handlers.filter_map(Value::as_object_mut) {
        let one_in = if handler.contains_key("for_each") { 2 } else { 8 };
        if chance.u8(0..one_in) == 0 {
            handler.remove("for_each");
            handler.insert("enumerate".into(), json!(true));
            if chance.bool() {
                handler.insert("input".into(), json!({ "size": "{{ data.size }}" }));
            }
        }
    }
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done.
    Done,
    /// It fails so many times first.
    Fails(u32),
    /// It fails for good.
    Fatal,
    /// Its first execution panics.
    Panics,
    /// It runs until it is stopped, at first.
    Hangs,
    /// Its worker dies of it, so many times.
    Kills(u64),
}

/// What becomes of a job, and how long it takes. Which job it is decides.
pub(super) fn fate(ctx: &Context) -> (Fate, Duration) {
    let mut chance = Rng::with_seed(number(ctx));
    let fate = match chance.u8(0..100) {
        0..80 => Fate::Done,
        80..90 => Fate::Fails(chance.u32(1..=2)),
        90..94 => Fate::Fatal,
        94..96 => Fate::Panics,
        96..98 => Fate::Hangs,
        98 => Fate::Kills(1),
        _ => Fate::Kills(9),
    };
    let millis = match chance.u8(0..20) {
        0..15 => chance.u64(0..=300),
        15..19 => chance.u64(1_000..=9_000),
        // Where there is time for it, a job that needs a lease.
        _ if ctx.time_left() > Duration::from_secs(100) => chance.u64(35_000..=80_000),
        _ => 1_000,
    };
    (fate, Duration::from_millis(millis))
}

/// How many jobs a list has: of one that is made anew, seldom as many as before.
pub(super) fn size_of_list(ctx: &Context, list: u64) -> u64 {
    Rng::with_seed(number(ctx) ^ list).u64(0..=9)
}

/// What a job gives.
pub(super) fn output(ctx: &Context) -> Value {
    match number(ctx) % 3 {
        0 => Value::Null,
        rest => json!({ "of": ctx.index(), "rest": rest, "number": number(ctx) >> 12 }),
    }
}

/// A number that names the job, whatever the attempt.
fn number(ctx: &Context) -> u64 {
    let key = format!("{}/{}", ctx.idempotency_key(), ctx.phase());
    key.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
