//! What is too large for a head: data, results, inputs, outputs, history, failures.

use phasework_workflows::Payload;
use phasework_workflows::id::{JobIndex, Nonce};
use phasework_workflows::run::{Delta, ForgottenList, OutputPage};

use super::SharedSubject;
use super::draft::{NONCE, commit, done, event, except, failure, forgotten, json, outputs, patch, run};
use crate::{Commit, OutputsPage, PAGE_JOBS, Store, StoreError};

pub(super) async fn data_and_output_are_kept(subject: SharedSubject) {
    let store = subject.store();
    done(&*store, Commit { data: Some(json("{\"a\": 1}")), ..commit(run(1), 0) }).await;
    assert_eq!(store.data(run(1)).await.unwrap(), Some(json("{\"a\": 1}")));
    assert_eq!(store.output(run(1)).await.unwrap(), None);
    done(&*store, Commit { delta: Delta { output: Some(json("[2]")), ..Delta::default() }, ..commit(run(1), 1) }).await;
    done(&*store, commit(run(1), 2)).await;
    assert_eq!(store.data(run(1)).await.unwrap(), Some(json("{\"a\": 1}")));
    assert_eq!(store.output(run(1)).await.unwrap(), Some(json("[2]")));
    // `null` is not the same as none.
    done(&*store, Commit { data: Some(Payload::null()), ..commit(run(2), 0) }).await;
    done(&*store, commit(run(3), 0)).await;
    assert_eq!(store.data(run(2)).await.unwrap(), Some(Payload::null()));
    assert_eq!(store.data(run(3)).await.unwrap(), None);
}

/// A page whose items tell what they are of.
fn page(what: &str, items: u64) -> Vec<Payload> {
    (0..items).map(|item| json(format!("{{\"of\":\"{what}, ü\",\"n\":{item}}}"))).collect()
}

pub(super) async fn inputs_are_kept_by_page_and_nonce(subject: SharedSubject) {
    let (store, other) = (subject.store(), Nonce(7));
    store
        .put_inputs(
            run(1),
            1,
            NONCE,
            0,
            vec![(0, page("0", PAGE_JOBS)), (1, page("1", PAGE_JOBS)), (10, page("10", 3))],
        )
        .await
        .unwrap();
    store.put_inputs(run(1), 1, other, 0, vec![(1, page("other nonce", 2))]).await.unwrap();
    store.put_inputs(run(1), 1, NONCE, 1, vec![(1, page("other handler", 2))]).await.unwrap();
    store.put_inputs(run(1), 2, NONCE, 0, vec![(1, page("other entry", 2))]).await.unwrap();
    store.put_inputs(run(2), 1, NONCE, 0, vec![(1, page("other run", 2))]).await.unwrap();
    store.put_inputs(run(1), 1, NONCE, 0, vec![(2, page("2", 1))]).await.unwrap();
    store.put_inputs(run(1), 1, NONCE, 0, vec![(2, page("again", 2))]).await.unwrap();
    let twin = subject.twin();
    for (of, entry, nonce, handler, number, expected) in [
        (run(1), 1, NONCE, 0, 0, Some(page("0", PAGE_JOBS))),
        (run(1), 1, NONCE, 0, 1, Some(page("1", PAGE_JOBS))),
        (run(1), 1, NONCE, 0, 2, Some(page("again", 2))),
        (run(1), 1, NONCE, 0, 3, None),
        (run(1), 1, NONCE, 0, 10, Some(page("10", 3))),
        (run(1), 1, NONCE, 0, 1 << 53, None),
        (run(1), 1, NONCE, 0, (1 << 63) - 1, None),
        (run(1), 1, NONCE, 0, 1 << 63, None),
        (run(1), 1, NONCE, 0, u64::MAX, None),
        (run(1), 1, other, 0, 0, None),
        (run(1), 1, other, 0, 1, Some(page("other nonce", 2))),
        (run(1), 1, NONCE, 1, 1, Some(page("other handler", 2))),
        (run(1), 2, NONCE, 0, 1, Some(page("other entry", 2))),
        (run(2), 1, NONCE, 0, 1, Some(page("other run", 2))),
        (run(3), 1, NONCE, 0, 1, None),
    ] {
        assert_eq!(twin.inputs(of, entry, nonce, handler, number).await.unwrap(), expected);
    }
    assert_eq!(store.load(&[run(1)]).await.unwrap(), vec![None], "inputs make no run");
}

pub(super) async fn inputs_go_when_they_are_forgotten(subject: SharedSubject) {
    let store = subject.store();
    done(&*store, commit(run(1), 0)).await;
    let traces = subject.traces().await;
    // Some that no commit ever told of are among them, of handlers that it does not know either.
    for (entry, nonce, handler) in [(1, NONCE, 0), (1, NONCE, 2), (1, Nonce(5), 0), (2, NONCE, 0), (2, Nonce(6), 9)] {
        store.put_inputs(run(1), entry, nonce, handler, vec![(0, page("", 9)), (1, page("", 1))]).await.unwrap();
    }
    let kept = async |entry, nonce, handler| store.inputs(run(1), entry, nonce, handler, 1).await.unwrap().is_some();
    let forget = |expect, gone| Commit {
        entry: 3,
        delta: Delta { forget_jobs: vec![gone], ..Delta::default() },
        ..commit(run(1), expect)
    };
    done(&*store, forget(1, forgotten(1, 3))).await;
    assert!(!kept(1, NONCE, 0).await && !kept(1, NONCE, 2).await && !kept(1, Nonce(5), 0).await);
    assert!(kept(2, NONCE, 0).await && kept(2, Nonce(6), 9).await);
    // What an owner stores that does not know yet that the entry is over goes with the next one.
    store.put_inputs(run(1), 1, Nonce(7), 0, vec![(1, page("", 1))]).await.unwrap();
    done(&*store, forget(2, forgotten(2, 1))).await;
    assert!(!kept(1, Nonce(7), 0).await && !kept(2, NONCE, 0).await && !kept(2, Nonce(6), 9).await);
    assert_eq!(subject.traces().await, traces);
    for number in [1, 2] {
        store.put_inputs(run(number), 3, NONCE, 0, vec![(1, page("", 1))]).await.unwrap();
    }
    done(&*store, forget(3, forgotten(3, 1))).await;
    assert!(!kept(3, NONCE, 0).await);
    assert!(store.inputs(run(2), 3, NONCE, 0, 1).await.unwrap().is_some(), "another run's");
}

pub(super) async fn lists_of_inputs_go_alone(subject: SharedSubject) {
    let store = subject.store();
    let jobs = || Delta {
        bits: vec![patch(1, 0, 0, &[1])],
        exceptions: vec![except(1, 0, 1, Some(1))],
        outputs: vec![outputs(1, 0, &[(0, "0")])],
        ..Delta::default()
    };
    done(&*store, Commit { delta: jobs(), ..commit(run(1), 0) }).await;
    let traces = subject.traces().await;
    let before = store.load(&[run(1)]).await.unwrap()[0].clone().unwrap();
    for (entry, nonce, handler) in [(1, Nonce(5), 1), (1, Nonce(6), 1), (1, NONCE, 1), (2, Nonce(5), 1)] {
        store.put_inputs(run(1), entry, nonce, handler, vec![(0, page("", 9)), (1024, page("", 1))]).await.unwrap();
    }
    store.put_inputs(run(1), 1, Nonce(5), 0, vec![(0, page("", 3))]).await.unwrap();
    let kept = async |entry, nonce| store.inputs(run(1), entry, nonce, 1, 1024).await.unwrap().is_some();
    let gone = |entry, nonce| ForgottenList { entry, nonce, handler: 1 };
    let forget =
        |expect, gone| Commit { delta: Delta { forget_inputs: gone, ..Delta::default() }, ..commit(run(1), expect) };
    done(&*store, forget(1, vec![gone(1, Nonce(5))])).await;
    assert!(!kept(1, Nonce(5)).await);
    assert!(kept(1, Nonce(6)).await && kept(1, NONCE).await && kept(2, Nonce(5)).await);
    assert!(store.inputs(run(1), 1, Nonce(5), 0, 0).await.unwrap().is_some(), "another handler's");
    let after = store.load(&[run(1)]).await.unwrap()[0].clone().unwrap();
    assert_eq!((after.bits, after.exceptions), (before.bits, before.exceptions), "the jobs of the entry stay");
    assert_eq!(stored_outputs(&*store, 1, 0).await.len(), 1);
    // Forgetting what is not there, or is there no more, does no harm.
    let of_other = ForgottenList { handler: 0, ..gone(1, Nonce(5)) };
    let all = vec![gone(1, Nonce(5)), of_other, gone(1, Nonce(6)), gone(1, NONCE), gone(2, Nonce(5))];
    done(&*store, forget(2, all)).await;
    assert_eq!(subject.traces().await, traces);
}

fn appended(expect: u64, pages: Vec<OutputPage>) -> Commit {
    Commit { delta: Delta { outputs: pages, ..Delta::default() }, ..commit(run(1), expect) }
}

async fn stored_outputs(store: &dyn Store, entry: u32, handler: u16) -> Vec<(JobIndex, String)> {
    let outputs = store.outputs(run(1), entry, handler, 1 << 20).await.unwrap();
    outputs.into_iter().map(|(index, output)| (index, output.to_string())).collect()
}

pub(super) async fn outputs_come_in_the_order_of_their_jobs(subject: SharedSubject) {
    let store = subject.store();
    let first = vec![outputs(1, 0, &[(7, "7"), (3, "\"3\"")]), outputs(1, 1, &[(0, "[0]")])];
    done(&*store, appended(0, first)).await;
    done(&*store, appended(1, vec![outputs(1, 0, &[(5, "{\"a\":5}")]), outputs(1, 0, &[(1, "1")])])).await;
    done(&*store, appended(2, vec![outputs(1, 0, &[(1 << 40, "null"), (2, "2")]), outputs(2, 0, &[])])).await;
    let texts = |items: &[(u64, &str)]| items.iter().map(|&(i, text)| (i, text.to_owned())).collect::<Vec<_>>();
    let all = texts(&[(1, "1"), (2, "2"), (3, "\"3\""), (5, "{\"a\":5}"), (7, "7"), (1 << 40, "null")]);
    assert_eq!(stored_outputs(&*store, 1, 0).await, all);
    assert_eq!(stored_outputs(&*store, 1, 1).await, texts(&[(0, "[0]")]));
    assert_eq!(stored_outputs(&*store, 1, 2).await, []);
    assert_eq!(stored_outputs(&*store, 2, 0).await, []);
    // Many small pages.
    let many = (3..503).map(|n| appended(n, vec![outputs(3, 0, &[(1000 - n, &n.to_string())])]));
    for change in many {
        done(&*store, change).await;
    }
    let expected: Vec<_> = (3..503).rev().map(|n: u64| (1000 - n, n.to_string())).collect();
    assert_eq!(stored_outputs(&*store, 3, 0).await, expected);
    // Page by page they are the same, none twice.
    let (mut paged, mut from, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(place) = from {
        let page = store.outputs_page(run(1), 3, 0, place, 100).await.unwrap();
        paged.extend(page.outputs.into_iter().map(|(index, output)| (index, output.as_json().to_owned())));
        (from, pages) = (page.next, pages + 1);
    }
    paged.sort();
    assert_eq!(paged, expected);
    assert!(pages > 5, "{pages} pages of about 100 bytes");
    assert_eq!(store.outputs_page(run(1), 3, 1, 0, 100).await.unwrap(), OutputsPage::default());
}

pub(super) async fn outputs_that_are_too_large_are_refused(subject: SharedSubject) {
    let store = subject.store();
    for (expect, index) in [(0, 0), (1, 1), (2, 2)] {
        let text = format!("\"{}\"", "x".repeat(98));
        done(&*store, appended(expect, vec![outputs(1, 0, &[(index, &text)])])).await;
    }
    for (max_bytes, count) in [(300, Some(3)), (1 << 30, Some(3)), (299, None), (100, None), (0, None)] {
        match (store.outputs(run(1), 1, 0, max_bytes).await, count) {
            (Ok(outputs), Some(count)) => assert_eq!(outputs.len(), count),
            (Err(StoreError::TooLarge { size, limit, .. }), None) => {
                assert!(limit == max_bytes && size > limit && size <= 300, "{size}, {limit}");
            }
            (result, _) => panic!("at most {max_bytes}: {result:?}"),
        }
    }
}

pub(super) async fn outputs_go_when_they_are_forgotten(subject: SharedSubject) {
    let store = subject.store();
    done(&*store, commit(run(1), 0)).await;
    let traces = subject.traces().await;
    let pages = || vec![outputs(1, 0, &[(0, "0")]), outputs(1, 2, &[(0, "0")]), outputs(2, 0, &[(0, "0")])];
    done(&*store, appended(1, pages())).await;
    assert!(subject.traces().await > traces);
    let forget = |expect, entry, pages| {
        let mut change = appended(expect, pages);
        change.delta.forget_outputs = vec![forgotten(entry, 3)];
        change
    };
    done(&*store, forget(2, 1, pages())).await; // what the same delta appends goes too
    assert_eq!(stored_outputs(&*store, 1, 0).await, []);
    assert_eq!(stored_outputs(&*store, 1, 2).await, []);
    assert_eq!(stored_outputs(&*store, 2, 0).await.len(), 2);
    done(&*store, forget(3, 2, Vec::new())).await;
    assert_eq!(subject.traces().await, traces);
}

pub(super) async fn large_payloads_survive(subject: SharedSubject) {
    let store = subject.store();
    let large = json(format!("\"{}\"", "ж".repeat(512 * 1024)));
    let delta = Delta {
        outputs: vec![OutputPage { entry: 1, handler: 0, items: vec![(0, large.clone()), (1, large.clone())] }],
        output: Some(large.clone()),
        ..Delta::default()
    };
    let effects = vec![0xfe; 1 << 20];
    let change = Commit { data: Some(large.clone()), delta, effects: effects.clone(), ..commit(run(1), 0) };
    done(&*store, change).await;
    store.put_inputs(run(1), 1, NONCE, 0, (0..20).map(|page| (page, vec![large.clone()])).collect()).await.unwrap();
    let twin = subject.twin();
    assert!(twin.data(run(1)).await.unwrap() == Some(large.clone()));
    assert!(twin.output(run(1)).await.unwrap() == Some(large.clone()));
    assert!(twin.load(&[run(1)]).await.unwrap()[0].as_ref().unwrap().outbox == [(1, effects)]);
    assert!(twin.outputs(run(1), 1, 0, 1 << 30).await.unwrap() == [(0, large.clone()), (1, large.clone())]);
    assert!(twin.inputs(run(1), 1, NONCE, 0, 19).await.unwrap() == Some(vec![large]));
}

pub(super) async fn history_is_read_in_pages_without_gaps(subject: SharedSubject) {
    let store = subject.store();
    let events = |numbers: std::ops::Range<u64>| Delta { history: numbers.map(event).collect(), ..Delta::default() };
    for (expect, numbers) in [(0, 1..3), (1, 3..3), (2, 3..4), (3, 4..26)] {
        done(&*store, Commit { delta: events(numbers), ..commit(run(1), expect) }).await;
    }
    for (after, limit, expected) in
        [(0, 100, 1..26), (0, 3, 1..4), (3, 3, 4..7), (24, 3, 25..26), (25, 3, 0..0), (u64::MAX, 3, 0..0), (5, 0, 0..0)]
    {
        let expected: Vec<_> = expected.map(event).collect();
        assert_eq!(store.history(run(1), after, limit).await.unwrap(), expected, "{limit} after {after}");
    }
    assert_eq!(store.history(run(1), 20, usize::MAX).await.unwrap().len(), 5);
}

pub(super) async fn failures_are_read_in_pages(subject: SharedSubject) {
    let store = subject.store();
    for (expect, indexes) in [(0, 9..10), (1, 3..8), (2, 0..0), (3, 100..107)] {
        let delta = Delta { failures: indexes.map(failure).collect(), ..Delta::default() };
        done(&*store, Commit { delta, ..commit(run(1), expect) }).await;
    }
    let all = [9, 3, 4, 5, 6, 7, 100, 101, 102, 103, 104, 105, 106];
    for (skip, limit) in [(0, 100), (0, 2), (2, 5), (12, 5), (13, 5), (usize::MAX, 1), (3, 0), (3, usize::MAX)] {
        let expected: Vec<_> = all.into_iter().skip(skip).take(limit).map(failure).collect();
        assert_eq!(store.failures(run(1), skip, limit).await.unwrap(), expected, "{limit} after {skip}");
    }
}
