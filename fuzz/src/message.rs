//! Any bytes as a message body of every kind: they are read or refused, and what is read is written so that it reads as
//! the same. The first byte chooses the kind.

use std::fmt::Debug;

use phasework_workflows::message::event::{Accepted, Controls, PhasesFinished, Refused, StartRuns, Tick};
use phasework_workflows::message::job::{CancelJobs, Jobs};
use phasework_workflows::message::lease::{Leases, LeasesAnswered};
use phasework_workflows::message::listing::{JobsListed, ListAnswered};
use phasework_workflows::message::notice::{DeadLetter, Lifecycles};
use phasework_workflows::message::outcome::JobsFinished;
use phasework_workflows::message::presence::{WorkerAnnounced, WorkerGone, WorkersWanted};
use phasework_workflows::message::probe::{Probes, ProbesReturned};
use phasework_workflows::message::submission::Submit;
use phasework_workflows::message::{Batch, Body, decode, decode_batch, encode};

/// Of how many jobs of a group the fuzzer looks at each.
const LOOKED_AT: usize = 1000;

/// Every kind of body, in the order of the letters that choose them, `a` first.
const KINDS: [fn(&[u8]); 20] = [
    check_jobs,
    check_batch::<JobsFinished>,
    check_batch::<StartRuns>,
    check_batch::<PhasesFinished>,
    check_batch::<Controls>,
    check_batch::<Leases>,
    check::<LeasesAnswered>,
    check_batch::<Probes>,
    check_batch::<ProbesReturned>,
    check::<Submit>,
    check::<WorkerAnnounced>,
    check::<Lifecycles>,
    check::<DeadLetter>,
    check::<CancelJobs>,
    check::<Tick>,
    check::<Accepted>,
    check::<Refused>,
    check_presence,
    check::<JobsListed>,
    check::<ListAnswered>,
];

/// Reads `bytes` as a body.
pub fn message(bytes: &[u8]) {
    let [kind, body @ ..] = bytes else { return };
    KINDS[usize::from(kind.wrapping_sub(b'a')) % KINDS.len()](body);
}

fn check_presence(body: &[u8]) {
    check::<WorkerGone>(body);
    check::<WorkersWanted>(body);
}

fn check<T: Body + PartialEq + Debug>(body: &[u8]) {
    let read = match decode::<T>(body) {
        Ok(read) => read,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = encode(&read);
    match decode::<T>(&written) {
        Ok(again) => assert_eq!(again, read, "{}", String::from_utf8_lossy(&written)),
        Err(error) => panic!("{} is not read: {error}", String::from_utf8_lossy(&written)),
    }
    assert_eq!(encode(&read), written);
}

fn check_batch<T: Batch + PartialEq + Debug>(body: &[u8]) {
    check::<T>(body);
    let Ok((good, bad)) = decode_batch::<T>(body) else { return };
    if bad.is_empty() {
        assert_eq!(decode::<T>(body).map(|batch| batch.into_items().len()), Ok(good.len()));
    }
    for item in bad {
        assert!(decode::<T>(&item.body).is_err(), "{} was set aside", String::from_utf8_lossy(&item.body));
    }
}

/// However many jobs a group says it has, counting them and taking the first ones costs nothing.
fn check_jobs(body: &[u8]) {
    check_batch::<Jobs>(body);
    let Ok((groups, _)) = decode_batch::<Jobs>(body) else { return };
    for group in groups {
        let seen = group.each().take(LOOKED_AT).count() as u64;
        assert!(seen <= group.len() && (seen == 0 || !group.is_empty()), "{seen} of {} jobs", group.len());
    }
}
