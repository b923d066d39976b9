//! The handlers that a worker hosts, and how a job finds its own.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use phasework_workflows::Version;
use phasework_workflows::definition::handler_queue;
use phasework_workflows::id::HandlerName;
use phasework_workflows::message::presence::HostedHandler;

use crate::handler::{HandlerFn, ListFn};
use crate::quick::Quick;
use crate::rate::{Limit, Rate};
use crate::slots::Slots;

/// A handler that this worker hosts.
pub(crate) struct Hosted {
    pub(crate) name: HandlerName,
    pub(crate) version: Version,
    pub(crate) handler: HandlerFn,
    /// What lists its jobs, if it does that itself.
    pub(crate) enumerate: Option<ListFn>,
    pub(crate) slots: Slots,
    /// Whether its jobs are worth a task each.
    pub(crate) quick: Quick,
    pub(crate) meters: Meters,
    /// How often its jobs may start, if that is limited.
    pub(crate) rate: Option<Arc<Rate>>,
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
    /// The rate that another version of a handler has, if all its versions keep these limits together.
    pub(crate) fn shared_rate(
        &self,
        name: &HandlerName,
        own: Option<Limit>,
        global: Option<Limit>,
    ) -> Option<Arc<Rate>> {
        let versions = self.hosted.iter().filter(|hosted| hosted.name == *name);
        let mut rates = versions.filter_map(|hosted| hosted.rate.as_ref());
        rates.find(|rate| rate.is_shared() && rate.has(own, global)).cloned()
    }

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
    /// A handler with so many slots, served from its own queue.
    pub(crate) fn new(name: HandlerName, version: Version, handler: HandlerFn, slots: u32) -> Self {
        let (slots, meters) = (Slots::new(slots), Meters::new(&name, &version));
        Self {
            name,
            version,
            handler,
            enumerate: None,
            slots,
            quick: Quick::new(),
            meters,
            rate: None,
            queues: Vec::new(),
        }
    }

    /// The names of the queues that it is served from.
    pub(crate) fn queues(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        let own = handler_queue(&self.name, &self.version);
        std::iter::once(Arc::from(own)).chain(self.queues.iter().cloned())
    }

    /// Waits until a job could start: until a slot is free, and the limit of its rate lets it.
    pub(crate) async fn room(&self) {
        drop(self.slots.take().await);
        if let Some(rate) = &self.rate {
            rate.room().await;
        }
    }

    /// As the worker announces it.
    pub(crate) fn announced(&self) -> HostedHandler {
        let (slots, in_flight) = (self.slots.size(), self.slots.in_flight());
        self.meters.running.set(f64::from(in_flight));
        HostedHandler { name: self.name.clone(), version: self.version.clone(), slots, in_flight }
    }
}

/// How an attempt ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Returned,
    Canceled,
}

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Returned => "returned",
            Self::Canceled => "canceled",
        }
    }
}

/// What is measured of a handler. Made once: looking a metric up costs more than a short job.
pub(crate) struct Meters {
    /// In the order of [`Outcome`].
    ended: [Counter; 4],
    seconds: Histogram,
    running: Gauge,
}

impl Meters {
    pub(crate) fn new(name: &HandlerName, version: &Version) -> Self {
        let labels = [("handler", name.to_string()), ("version", version.to_string())];
        let ended = |outcome: Outcome| {
            let outcome = ("outcome", outcome.as_str().to_owned());
            metrics::counter!("phasework_jobs_total", &[labels[0].clone(), labels[1].clone(), outcome])
        };
        Self {
            ended: [Outcome::Done, Outcome::Failed, Outcome::Returned, Outcome::Canceled].map(ended),
            seconds: metrics::histogram!("phasework_job_seconds", &labels),
            running: metrics::gauge!("phasework_jobs_running", &labels),
        }
    }

    /// An attempt ended.
    pub(crate) fn ended(&self, outcome: Outcome, service: Duration) {
        self.ended[outcome as usize].increment(1);
        self.seconds.record(service.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::untyped;

    fn hosted(name: &str, version: &str) -> Arc<Hosted> {
        let (name, version) = (HandlerName::new(name).unwrap(), Version::parse(version).unwrap());
        let handler = untyped(|(): (), _| async { Ok(()) });
        Arc::new(Hosted::new(name, version, handler, 1))
    }

    #[test]
    fn a_job_is_for_this_handler_another_worker_or_nobody() {
        let hosted = vec![hosted("A", "1.0.0"), hosted("A", "1.1.0"), hosted("B", "1.0.0")];
        let handlers = Handlers { hosted, elsewhere: vec![HandlerName::new("C").unwrap()] };
        for (name, version, expected) in [
            ("A", "1.1.0", "A 1.1.0"),
            ("A", "1.0.0", "A 1.0.0"),
            ("A", "2.0.0", "other worker"),
            ("B", "1.1.0", "other worker"),
            ("C", "1.0.0", "other worker"),
            ("D", "1.0.0", "nobody"),
        ] {
            let found = match handlers.find(&name.parse().unwrap(), &version.parse().unwrap()) {
                Found::Handler(hosted) => format!("{} {}", hosted.name, hosted.version),
                Found::OtherWorker => "other worker".to_owned(),
                Found::Nobody => "nobody".to_owned(),
            };
            assert_eq!(found, expected, "{name} {version}");
        }
    }
}
