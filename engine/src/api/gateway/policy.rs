//! What may be done through the gateway. Asks no broker.

use phasework_broker::{Address, Message};
use phasework_workflows::message::Body as _;
use phasework_workflows::message::lease::Leases;
use phasework_workflows::message::listing::JobsListed;
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::outcome::JobsFinished;
use phasework_workflows::message::presence::{WorkerAnnounced, WorkerGone, WorkersWanted};
use phasework_workflows::message::probe::ProbesReturned;

/// What workers say to coordinators. Everything else that a coordinator queue carries is between coordinators.
const SAID_TO_COORDINATORS: [&str; 4] = [JobsFinished::KIND, JobsListed::KIND, Leases::KIND, ProbesReturned::KIND];

/// What workers say to coordinators and to each other: workers that share a limit out want to know of the others.
const SAID_TO_ALL: [&str; 3] = [WorkerAnnounced::KIND, WorkerGone::KIND, WorkersWanted::KIND];

/// Who may do what through the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// What workers do, and nothing else: read job queues, their own queue, orders, announcements and events; report to
    /// coordinators, announce themselves, set aside what they cannot understand.
    #[default]
    Workers,
    /// Everything that a broker does. For tests.
    Everything,
}

impl Policy {
    pub(super) fn may_subscribe(self, from: &Address) -> bool {
        match (self, from) {
            (Self::Everything, _)
            | (Self::Workers, Address::Jobs(_) | Address::Events(_) | Address::Control | Address::Presence) => true,
            (Self::Workers, Address::Private(name)) => name.starts_with("worker."),
            (Self::Workers, Address::Coordinator(_) | Address::Submit | Address::Dead | Address::Marker(_)) => false,
        }
    }

    pub(super) fn may_publish(self, message: &Message) -> bool {
        let kind = &*message.kind;
        match (self, &message.to) {
            (Self::Everything, _) => true,
            (Self::Workers, Address::Coordinator(_)) => SAID_TO_COORDINATORS.contains(&kind),
            (Self::Workers, Address::Presence) => SAID_TO_ALL.contains(&kind),
            (Self::Workers, Address::Dead) => kind == DeadLetter::KIND,
            (
                Self::Workers,
                Address::Jobs(_)
                | Address::Submit
                | Address::Marker(_)
                | Address::Private(_)
                | Address::Events(_)
                | Address::Control,
            ) => false,
        }
    }

    /// Whether queues may be asked about, deleted, and sent to by their own names.
    pub(super) fn may_see_queues(self) -> bool {
        self == Self::Everything
    }
}

#[cfg(test)]
mod tests {
    use phasework_broker::gateway::address;

    use super::*;

    #[test]
    fn workers_may_do_what_workers_do() {
        for (from, allowed) in [
            ("jobs.Echo.1.0.0", true),
            ("worker.7", true),
            ("events.run.#", true),
            ("control", true),
            ("presence", true),
            ("client.7", false),
            ("engine.7", false),
            ("coordinator.0", false),
            ("submit", false),
            ("dead", false),
            ("marker.used", false),
        ] {
            assert_eq!(Policy::Workers.may_subscribe(&address::read(from).unwrap()), allowed, "{from}");
        }
        for (to, kind, allowed) in [
            ("coordinator.3", "JobsFinished", true),
            ("coordinator.3", "JobsListed", true),
            ("coordinator.3", "Leases", true),
            ("coordinator.3", "ProbeReturned", true),
            ("coordinator.3", "Tick", false),
            ("coordinator.3", "Control", false),
            ("coordinator.3", "StartRun", false),
            ("coordinator.3", "PhaseFinished", false),
            ("coordinator.3", "", false),
            ("presence", "WorkerAnnounced", true),
            ("presence", "WorkerGone", true),
            ("presence", "WorkersWanted", true),
            ("presence", "CancelJobs", false),
            ("dead", "DeadLetter", true),
            ("dead", "Jobs", false),
            ("jobs.Echo.1.0.0", "Jobs", false),
            ("submit", "Submit", false),
            ("control", "CancelJobs", false),
            ("events.run.finished.x", "Lifecycle", false),
            ("worker.7", "LeasesAnswered", false),
            ("marker.used", "Marker", false),
        ] {
            let message = Message::new(address::read(to).unwrap(), kind, "");
            assert_eq!(Policy::Workers.may_publish(&message), allowed, "{kind} to {to}");
            assert!(Policy::Everything.may_publish(&message));
        }
    }
}
