//! Orders: cancel, pause, resume, retry, rerun, in every state.

use super::{check, check_outside, guarded, plain};
use crate::message::event::{Control, ControlAction};
use crate::message::outcome::JobError;
use crate::run::{Event, HistoryKind, Ignored, Moment, RunState, Step, apply};
use crate::testkit::{Harness, Outside, final_phase, handler, phase, workflow};
use crate::time::Millis;

#[test]
fn a_canceled_run_waits_for_what_runs_and_not_for_ever() {
    check(
        &guarded(handler("a").count(3).window(2)),
        &[
            ("cancel", "canceled work#1, a out 2 left 1"),
            ("cancel:5000", "canceling work#1, a out 2 left 1"),
            ("cancel:5000 canceled:a:0 done:a:1", "canceled work#1, a waiting 1 done 1 left 1"),
            ("cancel:5000 done:a:0", "canceling work#1, a out 1 done 1 left 1"),
            ("cancel:5000 done:a:0 fatal:a:1", "canceled work#1, a done 1 failed 1 left 1"),
            ("cancel:5000 4999 look=nothing-due wake", "canceled work#1, a out 2 left 1"),
            ("cancel:5000 crash wake done:a:0=run-ended", "canceled work#1, a out 2 left 1"),
            ("cancel:5000 cancel:6000=already-so cancel", "canceled work#1, a out 2 left 1"),
            ("cancel:5000 cancel:1000 1000 look", "canceled work#1, a out 2 left 1"),
            (
                "cancel:5000 pause=not-now resume=not-now retry=not-now rerun=not-now recover=nothing-due",
                "canceling work#1, a out 2 left 1",
            ),
            ("cancel:5000 lease:a:0=too-late", "canceling work#1, a out 2 left 1"),
            ("done:a:0-1 done:a:2 cancel:5000 next=run-ended", "canceled work#1, a done 3"),
            ("pause cancel:5000 wake", "canceled work#1, a out 2 left 1"),
        ],
    );
    // A worker that died with a job costs no more than the lease, whatever the deadline is.
    check(
        &plain(handler("a").count(2).timeout(Millis::from_mins(60))),
        &[
            ("done:a:1 lease:a:0 cancel:300000 59999 look=nothing-due wake", "canceled work#1, a waiting 1 done 1"),
            ("lease:a:0 cancel:300000 wake", "canceling work#1, a out 1 waiting 1, in 4m"),
            ("lease:a:0 cancel:300000 wake crash done:a:1", "canceled work#1, a waiting 1 done 1"),
            ("lease:a:0 cancel:300000 wake wake", "canceled work#1, a out 1 waiting 1"),
            ("lease:a:0 30000 lease:a:1 cancel:300000 wake", "canceling work#1, a out 1 leased 1 waiting 1, in 30s"),
            ("lease:a:0 30000 lease:a:1 cancel:300000 wake wake", "canceled work#1, a waiting 2"),
            ("done:a:1 lease:a:0 pause 70000 cancel:300000 look", "canceled work#1, a waiting 1 done 1"),
            ("lease:a:0 fatal:a:1 70000 cancel:300000 look", "canceled work#1, a waiting 1 failed 1, because error"),
            ("done:a:1 lease:a:0 cancel:300000 cancel:59000 wake", "canceled work#1, a out 1 leased 1 done 1"),
        ],
    );
    // What halted is canceled once what is still out has stopped.
    check(
        &plain(handler("a").count(3)),
        &[
            ("fatal:a:0 cancel:5000", "canceling work#1, a out 2 failed 1, because error"),
            ("fatal:a:0 done:a:1-2 cancel:5000", "canceled work#1, a done 2 failed 1, because error"),
        ],
    );
}

#[test]
fn a_run_is_ended_by_force_whatever_its_numbers_say() {
    let damages: [fn(&mut crate::run::HandlerEntry); 4] = [
        |_| {},
        |handler| (handler.cursor, handler.out) = (u64::MAX, u64::MAX),
        |handler| (handler.done, handler.failed) = (u64::MAX, u64::MAX),
        |handler| (handler.waiting, handler.leased, handler.total) = (7, u64::MAX, Some(1)),
    ];
    for damage in damages {
        for script in ["", "done:a:0", "lease:a:1", "pause", "fatal:a:0", "cancel:5000"] {
            let mut harness = Harness::start(plain(handler("a").count(3)));
            harness.play(script);
            damage(&mut harness.run.head.entry.handlers[0]);
            let mut control = Control::new(harness.run.head.id, ControlAction::Cancel);
            (control.force, control.reason) = (true, Some("damaged".into()));
            let moment = Moment { now: harness.now, random: 1, listening_since: harness.now };
            let step = apply(&harness.workflow, &mut harness.run, &Event::Control(control), moment);
            assert!(matches!(step, Step::Changed { .. }), "{script}");
            let delta = harness.run.take_delta();
            let kinds: Vec<_> = delta.history.iter().map(|event| &event.what).collect();
            let [HistoryKind::Abandoned { .. }, HistoryKind::Ended { state: RunState::Canceled, reason }] = &kinds[..]
            else {
                panic!("{script}: {kinds:?}")
            };
            assert_eq!(reason.as_deref(), Some("damaged"), "{script}");
        }
    }
}

#[test]
fn the_end_of_a_canceled_run_says_what_it_had_come_to() {
    let mut harness = Harness::start(guarded(handler("a").count(3)));
    harness.play("done:a:1 cancel:5000 wake");
    let kinds: Vec<_> = harness.stored.history.iter().map(|event| &event.what).collect();
    let [.., HistoryKind::Canceling { .. }, HistoryKind::Abandoned { handlers, .. }, HistoryKind::Ended { reason, .. }] =
        &kinds[..]
    else {
        panic!("{kinds:?}")
    };
    assert_eq!((handlers[0].total, handlers[0].done, reason.as_deref()), (Some(3), 1, Some("enough")));
}

#[test]
fn while_paused_nothing_goes_out_and_what_comes_back_counts() {
    check(
        &guarded(handler("a").count(4).window(2)),
        &[
            ("pause", "paused work#1, a out 2 left 2"),
            ("pause pause=already-so done:a:0 fail:a:1", "paused work#1, a waiting 1 done 1 left 2"),
            ("pause done:a:0 fail:a:1 99999 wake=nothing-due", "paused work#1, a waiting 1 done 1 left 2"),
            ("pause done:a:0 fail:a:1 99999 resume", "running work#1, a out 2 done 1 left 1"),
            ("resume=already-so pause crash resume done:a:0-1 done:a:2-3", "running work#1 finished, a done 4"),
            ("pause recover resume", "running work#1, a out 2 left 2"),
            ("pause retry=not-now rerun=not-now", "paused work#1, a out 2 left 2"),
            ("pause fatal:a:0 next=too-late resume next", "running oops#2 finished, because error"),
        ],
    );
    check(
        &plain("a"),
        &[
            ("pause done:a:0", "paused work#1, a done 1"),
            ("done:a:0 pause next=too-late 99999 wake=nothing-due", "paused work#1, a done 1"),
            ("done:a:0 pause next=too-late resume next next", "succeeded end#2"),
            ("pause fatal:a:0 resume=not-now", "halted work#1, a failed 1, because error"),
            ("pause fatal:a:0 retry done:a:0", "running work#1 finished, a done 1"),
        ],
    );
}

#[test]
fn an_end_that_was_missed_in_a_pause_is_announced_again() {
    let mut harness = Harness::start(plain("a"));
    harness.play("done:a:0 pause next=too-late");
    harness.events.clear();
    harness.play("resume");
    assert_eq!(harness.events, [harness.phase_finished()]);
}

#[test]
fn what_failed_is_tried_again_and_nothing_else() {
    check(
        &plain(handler("a").count(4).tries(2)),
        &[
            ("fatal:a:2 done:a:0 fatal:a:3", "halted work#1, a out 1 done 1 failed 2, because error"),
            ("fatal:a:2 done:a:0 fatal:a:3 retry", "running work#1, a out 3 done 1"),
            ("fatal:a:2 retry done:a:2#1=stale done:a:2#2 done:a:0-1 done:a:3", "running work#1 finished, a done 4"),
            ("fatal:a:2 crash retry crash retry=not-now fail:a:2", "running work#1, a out 3 waiting 1, in 1s"),
            ("fail:a:2 wake fail:a:2 retry fail:a:2 wake fail:a:2", "halted work#1, a out 3 failed 1, because error"),
            ("retry=not-now", "running work#1, a out 4"),
        ],
    );
    check(&guarded("a"), &[("fatal:a:0 retry=not-now next retry=not-now next", "failed oops#2, because error")]);
}

#[test]
fn a_list_that_could_not_be_made_is_made_anew() {
    let error = JobError::new("expression", "no such thing").for_good();
    let name = crate::id::HandlerName::new("a").unwrap();
    let outside = Outside { lists: [(name.clone(), Err(error))].into(), ..Outside::default() };
    let mut harness = Harness::start_with(plain(handler("a").each("data.pages")), outside);
    assert_eq!(harness.summary(), "halted work#1, a, because expression");
    harness.play("retry");
    assert_eq!(harness.summary(), "halted work#1, a, because expression");
    harness.outside.lists.clear();
    harness.play("retry done:a:0 next next");
    assert_eq!(harness.summary(), "succeeded end#2");
}

#[test]
fn a_phase_is_entered_anew_from_wherever_a_run_stands() {
    let two = workflow("two")
        .phase(phase("first").to("second").handler("a"))
        .phase(phase("second").to("end").on_error("oops").handler(handler("b").count(2)))
        .phase(final_phase("end"))
        .phase(final_phase("oops").handler("c"))
        .build();
    check(
        &two,
        &[
            ("rerun", "running first#2, a out 1"),
            ("rerun done:a:0 next done:b:0 rerun", "running second#4, b out 2"),
            ("done:a:0 next done:b:0 rerun:first done:a:0", "running first#3 finished, a done 1"),
            ("done:a:0 rerun:second", "running second#2, b out 2"),
            ("fatal:a:0 rerun:second done:b:0-1 next next", "succeeded end#3"),
            ("done:a:0 next fatal:b:1 next rerun:second done:b:0-1 next next", "succeeded end#5"),
            ("rerun:nowhere=unknown-phase", "running first#1, a out 1"),
            ("cancel rerun=run-ended", "canceled first#1, a out 1"),
        ],
    );
}

#[test]
fn what_an_abandoned_entry_left_is_forgotten() {
    let mut harness = Harness::start(guarded(handler("a").count(3)));
    harness.play("out:a:0 fail:a:1 rerun");
    assert!(
        harness.stored.outputs.is_empty() && harness.stored.exceptions.is_empty() && harness.stored.bits.is_empty()
    );
    // What has finished stays: its outputs are those of its phase until it has finished once more.
    let mut harness = Harness::start(guarded(handler("a").count(1)));
    harness.play("out:a:0 rerun");
    assert_eq!(harness.stored.outputs.len(), 1);
    harness.play("out:a:0 next next");
    assert_eq!(harness.stored.outputs.keys().map(|key| key.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_missing_worker_does_not_hold_up_a_cancel() {
    let outside = Outside { absent: vec![crate::id::HandlerName::new("a").unwrap()], ..Outside::default() };
    check_outside(
        &plain("a"),
        &outside,
        &[
            ("cancel:5000", "canceled work#1, a left 1"),
            ("pause 99999 wake=nothing-due", "paused work#1, a left 1"),
            ("pause worker:a=nothing-due resume", "running work#1, a out 1"),
        ],
    );
}

#[test]
fn an_endless_reason_is_cut_short() {
    let mut harness = Harness::start(plain("a"));
    let control = Control::new(harness.run.head.id, ControlAction::Pause);
    harness.deliver(&Event::Control(Control { reason: Some("x".repeat(1_000_000)), ..control }));
    let last = serde_json::to_vec(harness.stored.history.last().unwrap()).unwrap();
    assert!(last.len() < 4096, "{}", last.len());
}

/// Each event of a history, and who brought it about.
fn actors(harness: &Harness, from: usize) -> Vec<(String, String)> {
    let told = harness.stored.history[from..].iter().map(|event| {
        let what = serde_json::to_value(&event.what).unwrap();
        let name = what.as_object().unwrap().keys().next().unwrap().clone();
        (name, event.actor().unwrap_or("-").to_owned())
    });
    told.collect()
}

#[test]
fn who_gave_an_order_is_in_the_history() {
    let mut harness = Harness::start(guarded(handler("a").count(1)));
    let (run, begun) = (harness.run.head.id, harness.stored.history.len());
    let order = |action, actor: Option<&str>| {
        Event::Control(Control { actor: actor.map(Into::into), ..Control::new(run, action) })
    };
    harness.deliver(&order(ControlAction::Pause, Some("alice")));
    harness.deliver(&order(ControlAction::Resume, None));
    harness.deliver(&order(ControlAction::Rerun, Some(&"x".repeat(1000))));
    harness.play("done:a:0");
    let told = actors(&harness, begun);
    let told: Vec<_> = told.iter().map(|(what, actor)| (what.as_str(), actor.as_str())).collect();
    assert_eq!(told[..2], [("paused", "alice"), ("resumed", "-")], "{told:?}");
    let endless = "x".repeat(100);
    // What an order brings about at once is of who gave it.
    assert_eq!(told[2..4], [("abandoned", &*endless), ("rerun", &*endless)]);
    assert!(told.contains(&("finished", "engine")), "{told:?}");
    // What is stored of the engine's own doing takes no more than it did.
    let last = serde_json::to_string(harness.stored.history.last().unwrap()).unwrap();
    assert!(!last.contains("actor"), "{last}");
}

#[test]
fn an_order_that_is_repeated_is_carried_out_once() {
    let mut harness = Harness::start(guarded(handler("a").count(1)));
    let order = |id: &str| {
        let control = Control::new(harness.run.head.id, ControlAction::Rerun);
        Event::Control(Control { id: Some(id.into()), ..control })
    };
    let (first, second) = (order("first"), order("second"));
    assert_eq!(harness.deliver(&first), None);
    harness.play("crash");
    assert_eq!((harness.deliver(&first), harness.run.head.entry.number), (Some(Ignored::AlreadySo), 2));
    assert_eq!((harness.deliver(&second), harness.run.head.entry.number), (None, 3));
    assert_eq!(harness.deliver(&first), Some(Ignored::AlreadySo));
    // Only the last ones are remembered, and none at any length.
    for n in 0..20 {
        let id = format!("{n}{}", "x".repeat(1000));
        let control = Control { id: Some(id.into()), ..Control::new(harness.run.head.id, ControlAction::Pause) };
        harness.deliver(&Event::Control(control));
        harness.play("resume");
    }
    let orders = &harness.run.head.orders;
    assert!(orders.len() <= 8 && orders.iter().all(|id| id.len() < 100), "{orders:?}");
}

#[test]
fn no_deadline_is_too_long_to_be_written_down() {
    let mut harness = Harness::start(plain("a"));
    harness.deliver(&harness.cancel_within(crate::time::Millis(u64::MAX)));
    harness.play("crash wake");
    assert_eq!(harness.summary(), "canceled work#1, a out 1");
}
