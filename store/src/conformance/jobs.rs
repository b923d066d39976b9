//! Where the jobs of the current entry stand: bitmaps and exceptions.

use phasework_workflows::run::{Bitmap, Delta};

use super::SharedSubject;
use super::draft::{commit, done, except, exception, forgotten, loaded, patch, run};
use crate::Commit;

pub(super) async fn bits_are_patched(subject: SharedSubject) {
    let store = subject.store();
    let mut expected = Vec::new();
    let steps: &[&[(usize, &[u8])]] = &[
        &[(0, &[1])],
        &[(0, &[3]), (5, &[4, 5])],
        &[(2000, &[7])],  // far out
        &[(1, &[9; 40])], // over what is there
        &[],
        &[(2001, &[1]), (2100, &[2]), (2500, &[3])], // beyond the end, several times
        &[(100_000, &[8])],
    ];
    for (version, &step) in steps.iter().enumerate() {
        let bits = step.iter().map(|&(offset, bytes)| patch(1, 0, offset as u64, bytes)).collect();
        done(&*store, Commit { delta: Delta { bits, ..Delta::default() }, ..commit(run(1), version as u64) }).await;
        for &(offset, bytes) in step {
            expected.resize(expected.len().max(offset + bytes.len()), 0);
            expected[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        let stored = loaded(&*store, run(1)).await.bits.remove(0);
        assert_eq!(Bitmap::from_bytes(stored), Bitmap::from_bytes(expected.clone()), "after step {version}");
    }
}

pub(super) async fn exceptions_are_set_and_removed_and_the_last_counts(subject: SharedSubject) {
    let store = subject.store();
    let large = 1_u64 << 52;
    let steps = [
        (vec![except(1, 0, 5, Some(1)), except(1, 0, large, Some(2))], vec![(5, 1), (large, 2)]),
        (vec![except(1, 0, 40, Some(3)), except(1, 0, 6, Some(4))], vec![(5, 1), (6, 4), (40, 3), (large, 2)]),
        (vec![except(1, 0, 5, None), except(1, 0, 99, None)], vec![(6, 4), (40, 3), (large, 2)]),
        (vec![except(1, 0, 6, None), except(1, 0, 6, Some(7))], vec![(6, 7), (40, 3), (large, 2)]),
        (vec![except(1, 0, 6, Some(8)), except(1, 0, 6, None)], vec![(40, 3), (large, 2)]),
        (vec![except(1, 0, 40, Some(9)), except(1, 0, 40, Some(10))], vec![(40, 10), (large, 2)]),
        (vec![except(1, 0, 40, None), except(1, 0, large, None)], vec![]),
    ];
    for (version, (exceptions, expected)) in steps.into_iter().enumerate() {
        let delta = Delta { exceptions, ..Delta::default() };
        done(&*store, Commit { delta, ..commit(run(1), version as u64) }).await;
        let expected: Vec<_> = expected.into_iter().map(|(index, attempt)| (index, exception(attempt))).collect();
        assert_eq!(loaded(&*store, run(1)).await.exceptions, vec![expected], "after step {version}");
    }
}

pub(super) async fn another_entry_starts_afresh(subject: SharedSubject) {
    let store = subject.store();
    let marked = |entry, handler| Delta {
        bits: vec![patch(entry, handler, 0, &[entry as u8])],
        exceptions: vec![except(entry, handler, 1, Some(entry))],
        ..Delta::default()
    };
    let entry = |version, entry, handlers, delta| Commit { entry, handlers, delta, ..commit(run(1), version) };
    done(&*store, entry(0, 1, 2, marked(1, 1))).await;
    // What the delta says of the old entry is passed over, whether or not the old entry is forgotten.
    done(&*store, entry(1, 2, 3, marked(1, 1))).await;
    let stored = loaded(&*store, run(1)).await;
    assert_eq!((stored.bits, stored.exceptions), (vec![vec![]; 3], vec![vec![]; 3]));
    done(&*store, entry(2, 2, 3, marked(2, 2))).await;
    done(&*store, entry(3, 3, 1, marked(3, 0))).await;
    let stored = loaded(&*store, run(1)).await;
    assert_eq!((stored.bits, stored.exceptions), (vec![vec![3]], vec![vec![(1, exception(3))]]));
    // As many handlers as entry 2 had: nothing of it comes back.
    done(&*store, entry(4, 4, 3, Delta::default())).await;
    let stored = loaded(&*store, run(1)).await;
    assert_eq!((stored.bits, stored.exceptions), (vec![vec![]; 3], vec![vec![]; 3]));
    // A phase without handlers.
    done(&*store, entry(5, 5, 0, Delta { forget_jobs: vec![forgotten(4, 3)], ..Delta::default() })).await;
    let stored = loaded(&*store, run(1)).await;
    assert_eq!((stored.version, stored.bits.len(), stored.exceptions.len()), (6, 0, 0));
}

pub(super) async fn an_entry_may_have_many_handlers(subject: SharedSubject) {
    let store = subject.store();
    for (version, handlers) in [(0, 40), (1, 41), (2, 2)] {
        let entry = version as u32 + 1;
        let bits = (0..handlers).map(|handler| patch(entry, handler, u64::from(handler), &[1])).collect();
        let exceptions = (0..handlers).map(|handler| except(entry, handler, 0, Some(u32::from(handler)))).collect();
        let delta = Delta { bits, exceptions, ..Delta::default() };
        done(&*store, Commit { entry, handlers, delta, ..commit(run(1), version) }).await;
        let stored = loaded(&*store, run(1)).await;
        assert_eq!((stored.bits.len(), stored.exceptions.len()), (usize::from(handlers), usize::from(handlers)));
        for handler in 0..handlers {
            let place = usize::from(handler);
            assert_eq!(stored.bits[place].iter().rposition(|&byte| byte == 1), Some(place));
            assert_eq!(stored.exceptions[place], vec![(0, exception(u32::from(handler)))]);
        }
    }
}

pub(super) async fn many_jobs_may_be_exceptions(subject: SharedSubject) {
    const JOBS: u64 = 20_000;
    let store = subject.store();
    let exceptions = (0..JOBS).rev().map(|index| except(1, 0, index, Some(index as u32))).collect();
    done(&*store, Commit { delta: Delta { exceptions, ..Delta::default() }, ..commit(run(1), 0) }).await;
    let expected: Vec<_> = (0..JOBS).map(|index| (index, exception(index as u32))).collect();
    assert_eq!(loaded(&*store, run(1)).await.exceptions, vec![expected]);
    let exceptions = (0..JOBS).map(|index| except(1, 0, index, None)).collect();
    done(&*store, Commit { delta: Delta { exceptions, ..Delta::default() }, ..commit(run(1), 1) }).await;
    assert_eq!(loaded(&*store, run(1)).await.exceptions, vec![vec![]]);
}

pub(super) async fn forgotten_jobs_are_gone(subject: SharedSubject) {
    let store = subject.store();
    done(&*store, commit(run(1), 0)).await;
    let traces = subject.traces().await;
    let filled =
        || Delta { bits: vec![patch(1, 0, 3, &[1])], exceptions: vec![except(1, 0, 1, Some(1))], ..Delta::default() };
    done(&*store, Commit { delta: filled(), ..commit(run(1), 1) }).await;
    assert!(subject.traces().await > traces);
    // Of the current entry, in the delta that adds to it; then of one that is left.
    done(&*store, Commit { delta: Delta { forget_jobs: vec![forgotten(1, 1)], ..filled() }, ..commit(run(1), 2) })
        .await;
    let stored = loaded(&*store, run(1)).await;
    assert_eq!((stored.bits, stored.exceptions), (vec![vec![]], vec![vec![]]));
    assert_eq!(subject.traces().await, traces);
    done(&*store, Commit { delta: filled(), ..commit(run(1), 3) }).await;
    let delta = Delta { forget_jobs: vec![forgotten(1, 1)], ..filled() };
    done(&*store, Commit { entry: 2, delta, ..commit(run(1), 4) }).await;
    assert_eq!(subject.traces().await, traces);
}
