//! The handlers that a worker hosts, and how a job finds its own.

use std::sync::Arc;
use std::time::Duration;

use phasework_workflows::Version;
use phasework_workflows::definition::handler_queue;
use phasework_workflows::id::HandlerName;
use phasework_workflows::message::presence::HostedHandler;

use crate::handler::HandlerFn;
use crate::slots::Slots;

/// A handler that this worker hosts.
pub(crate) struct Hosted {
    pub(crate) name: HandlerName,
    pub(crate) version: Version,
    pub(crate) handler: HandlerFn,
    pub(crate) slots: Slots,
    /// Queues that definitions name for it, besides its own.
    pub(crate) queues: Vec<Arc<str>>,
}

/// The handlers of a worker.
pub(crate) struct Handlers {
    /// Those it hosts.
    pub(crate) hosted: Vec<Arc<Hosted>>,
    /// Those that the program has, but that other workers are to host.
    pub(crate) elsewhere: Vec<HandlerName>,
}

/// Who is to do a job.
pub(crate) enum Found<'a> {
    /// This handler.
    Handler(&'a Arc<Hosted>),
    /// A worker with another version of the handler, or with other handlers of the program.
    OtherWorker,
    /// A handler that the program does not have.
    Nobody,
}

impl Handlers {
    /// Finds the handler of a job.
    pub(crate) fn find(&self, name: &HandlerName, version: &Version) -> Found<'_> {
        let mut of_that_name = self.hosted.iter().filter(|hosted| hosted.name == *name).peekable();
        if of_that_name.peek().is_none() && !self.elsewhere.contains(name) {
            return Found::Nobody;
        }
        of_that_name.find(|hosted| hosted.version == *version).map_or(Found::OtherWorker, Found::Handler)
    }
}

impl Hosted {
    /// The names of the queues that it is served from.
    pub(crate) fn queues(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        let own = handler_queue(&self.name, &self.version);
        std::iter::once(Arc::from(own)).chain(self.queues.iter().cloned())
    }

    /// As the worker announces it.
    pub(crate) fn announced(&self) -> HostedHandler {
        let (slots, in_flight) = (self.slots.size(), self.slots.in_flight());
        HostedHandler { name: self.name.clone(), version: self.version.clone(), slots, in_flight }
    }

    /// Counts an ended attempt.
    pub(crate) fn count(&self, outcome: &'static str) {
        let (handler, version) = (self.name.to_string(), self.version.to_string());
        metrics::counter!("phasework_jobs_total", "handler" => handler, "version" => version, "outcome" => outcome)
            .increment(1);
    }

    /// Records how long an attempt took.
    pub(crate) fn time(&self, service: Duration) {
        let (handler, version) = (self.name.to_string(), self.version.to_string());
        metrics::histogram!("phasework_job_seconds", "handler" => handler, "version" => version)
            .record(service.as_secs_f64());
    }
}
