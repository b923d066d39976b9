//! From a worker that is set up to a shift that runs: checks everything, connects, and closes at the end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Carrier, Registered, Worker, WorkerError};
use crate::connect::connect;
use crate::hosted::{Handlers, Hosted};
use crate::layer::within;
#[cfg(feature = "listen")]
use crate::listen::{Listening, listen};
use crate::panics;
use crate::rate::Rate;
use crate::settings::HANDLERS;
use crate::shift::Shift;
use crate::stop::Stop;

/// How long closing the broker may take.
const CLOSING: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) async fn work(mut self, stop: Stop) -> Result<(), WorkerError> {
        let _running = self.health.start();
        let _listening = match self.forced.listen.or(self.listen) {
            Some(address) => Some(self.listen_at(address).await?), // first of all, so that all is measured
            None => None,
        };
        let handlers = self.set_up()?;
        panics::remember_places();
        let host = host();
        let (broker, is_ours) = match &self.carrier {
            Carrier::Given(broker) => (Arc::clone(broker), false),
            Carrier::At(target) => match connect(target, &host, &self.ids, &stop).await? {
                Some(broker) => (broker, true),
                None => return Ok(()), // told to stop before the broker could be reached
            },
        };
        let shift = Shift {
            worker: self.ids.uuid().to_string().into(),
            host: host.into(),
            handlers: Arc::new(handlers),
            broker: Arc::clone(&broker),
            clock: self.clock,
            ids: self.ids,
            max_output: self.max_output,
            drain_timeout: self.forced.drain_timeout.unwrap_or(self.drain_timeout),
            lease_after: self.forced.lease_after.unwrap_or(self.lease_after),
            health: self.health,
            stop,
        };
        let result = shift.run().await;
        if is_ours {
            timeout(CLOSING, broker.close()).await.ok(); // a broker that is away cannot be told
        }
        result
    }

    #[cfg(feature = "listen")]
    async fn listen_at(&self, address: SocketAddr) -> Result<Listening, WorkerError> {
        listen(address, &self.health).await.map_err(|problem| WorkerError::Setup(vec![problem]))
    }

    #[cfg(not(feature = "listen"))]
    async fn listen_at(&self, address: SocketAddr) -> Result<(), WorkerError> {
        let problem = format!("cannot listen at {address}: phasework-sdk was built without its feature `listen`");
        Err(WorkerError::Setup(vec![problem]))
    }

    /// The handlers, without a worker around them; there may be none.
    pub(crate) fn handlers_for_test(mut self) -> Result<Vec<Arc<Hosted>>, WorkerError> {
        if self.handlers.is_empty() && self.problems.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.set_up()?.hosted)
    }

    /// The handlers to host, or everything that is wrong.
    fn set_up(&mut self) -> Result<Handlers, WorkerError> {
        let mut problems = std::mem::take(&mut self.problems);
        let all = std::mem::take(&mut self.handlers);
        if all.is_empty() && problems.is_empty() {
            problems.push("it has no handlers".to_owned());
        }
        let names: BTreeSet<&str> = all.iter().map(|handler| handler.name.as_str()).collect();
        for unknown in self.only.iter().flatten().filter(|name| !names.contains(name.as_str())) {
            let known = names.iter().copied().collect::<Vec<_>>().join(", ");
            problems.push(format!("{HANDLERS} names `{unknown}`; this program has {known}"));
        }
        if !problems.is_empty() {
            return Err(WorkerError::Setup(problems));
        }
        let mut handlers = Handlers { hosted: Vec::new(), elsewhere: Vec::new() };
        for Registered { name, version, handler, enumerate, concurrency, layers, own_rate, global_rate, queues } in all
        {
            if self.only.as_ref().is_some_and(|only| !only.iter().any(|wanted| name == wanted.as_str())) {
                handlers.elsewhere.push(name);
                continue;
            }
            let handler = within(&layers, handler);
            let slots = self.forced.concurrency.unwrap_or(concurrency);
            let shared = handlers.shared_rate(&name, own_rate, global_rate);
            let rate = shared.or_else(|| Rate::of(own_rate, global_rate));
            handlers.hosted.push(Arc::new(Hosted {
                enumerate,
                queues,
                rate,
                ..Hosted::new(name, version, handler, slots)
            }));
        }
        Ok(handlers)
    }
}

/// The name of this machine, for people to read.
fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CONCURRENCY, Settings, URL};

    fn set_up(settings: &[(&str, &str)]) -> Result<Handlers, WorkerError> {
        let given = |name: &str| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let settings = Settings::read(|name| if name == URL { Some("amqp://h".to_owned()) } else { given(name) });
        let handler = |(): (), _| async { Ok(()) };
        let mut worker = Worker::from_settings(settings.map_err(WorkerError::Setup)?)
            .concurrency(4)
            .handler("A", "1.0.0", handler)
            .handler("B", "1.0.0", handler)
            .concurrency(64)
            .queue("mixed");
        worker.set_up()
    }

    fn slots(handlers: &Handlers) -> Vec<String> {
        handlers.hosted.iter().map(|hosted| format!("{} {}", hosted.name, hosted.slots.size())).collect()
    }

    #[test]
    fn the_environment_goes_before_the_program() {
        assert_eq!(slots(&set_up(&[]).unwrap()), ["A 4", "B 64"]);
        assert_eq!(slots(&set_up(&[(CONCURRENCY, "2")]).unwrap()), ["A 2", "B 2"]);
        let some = set_up(&[(HANDLERS, "B")]).unwrap();
        assert_eq!((slots(&some), some.elsewhere[0].as_str()), (vec!["B 64".to_owned()], "A"));
        assert_eq!(some.hosted[0].queues().collect::<Vec<_>>(), ["B.1.0.0".into(), "mixed".into()]);
        let error = set_up(&[(HANDLERS, "A,Bee")]).map(|_| ()).unwrap_err();
        let expected = "the worker is not set up right: PHASEWORK_HANDLERS names `Bee`; this program has A, B";
        assert_eq!((error.to_string(), format!("{error:?}")), (expected.to_owned(), expected.to_owned()));
    }
}
