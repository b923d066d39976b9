//! Probes that come through a job queue: sent back to the coordinators that sent them, and nothing else. A probe runs
//! no job, so that it does not matter how often it comes.

use std::collections::BTreeMap;

use bytes::Bytes;
use phasework_broker::{Address, Message};
use phasework_workflows::message::probe::{Probe, ProbesReturned};
use phasework_workflows::message::{self, Body as _};

/// What goes back: a message to each coordinator queue that the probes name.
pub(crate) fn returned(probes: Vec<Probe>) -> Vec<Message> {
    let mut by_queue: BTreeMap<u16, Vec<Probe>> = BTreeMap::new();
    for probe in probes {
        by_queue.entry(probe.coordinator).or_default().push(probe);
    }
    let message = |(queue, items)| {
        let body = Bytes::from(message::encode(&ProbesReturned { items }));
        Message::new(Address::Coordinator(queue), ProbesReturned::KIND, body)
    };
    by_queue.into_iter().map(message).collect()
}
