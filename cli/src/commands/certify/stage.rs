//! Where a worker is tried out: the engine's part is played here, on a broker that the worker does not know from an
//! engine's. Sends jobs, hears what is said of them, starts and ends the worker.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phasework_broker::{Address, Message, PublishError, SharedBroker};
use phasework_workflows::Payload;
use phasework_workflows::id::{HandlerName, IdSource as _, JobIndex, Nonce, PhaseName, RunId, SystemIds, WorkflowName};
use phasework_workflows::message::job::{CancelJobs, CanceledEntry, InputSource, Job, JobGroup, Jobs};
use phasework_workflows::message::lease::{LEASE, LeaseAnswer, LeaseGroup, LeasesAnswered};
use phasework_workflows::message::presence::{WorkerAnnounced, WorkersWanted};
use phasework_workflows::message::{Body, encode};
use phasework_workflows::time::Millis;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::heard::{Heard, Said, Told};
use super::site::Site;
use crate::failure::{Exit, Failure};
use crate::program::{CommandLine, Program};

/// How many coordinator queues are listened to.
pub(super) const QUEUES: u16 = 3;

/// What takes no time by itself is done within this.
pub(super) const SOON: Duration = Duration::from_secs(15);

/// How often the depth of a queue is looked at, as no broker tells of it, and what was not confirmed is published again.
const LOOK: Duration = Duration::from_millis(50);

/// What has not changed for so long will not change by itself.
const SETTLED: Duration = Duration::from_secs(1);

/// What is wrong with a worker, in words.
pub(super) type Fault = String;

/// A job that the worker was given.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) group: JobGroup,
    /// Where to look from in what was heard.
    pub(super) from: usize,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) broker: SharedBroker,
    pub(super) heard: Heard,
    pub(super) site: Site,
    command: CommandLine,
    handler: HandlerName,
    version: semver::Version,
    worker: Option<Program>,
    /// Runs whose jobs get no lease.
    refused: Arc<Mutex<BTreeSet<RunId>>>,
    _end: DropGuard,
}

impl Stage {
    /// Listens wherever a worker may say something, before there is one.
    pub(super) async fn open(
        site: Site,
        command: CommandLine,
        (handler, version): (HandlerName, semver::Version),
    ) -> Result<Self, Failure> {
        let broker = Arc::clone(&site.broker);
        let (heard, end) = (Heard::default(), CancellationToken::new());
        let queues = (0..QUEUES).map(Address::Coordinator);
        for from in queues.chain([Address::Presence, Address::Dead]) {
            let listening = heard.listen(&broker, from, end.clone()).await;
            listening.map_err(|error| Failure::new(Exit::Unreachable, format!("cannot listen: {error}")))?;
        }
        let refused = Arc::default();
        tokio::spawn(answer_leases(broker.clone(), heard.clone(), Arc::clone(&refused), end.clone()));
        let _end = end.drop_guard();
        Ok(Self { broker, heard, site, command, handler, version, worker: None, refused, _end })
    }

    /// Starts the worker, and waits until it has announced itself.
    pub(super) async fn start(&mut self) -> Result<WorkerAnnounced, Fault> {
        let from = self.heard.so_far();
        let worker = self.command.start(&self.site.environment).map_err(|failure| failure.message)?;
        let worker = self.worker.insert(worker);
        let (name, version) = (&self.handler, &self.version);
        let hosts = |it: &WorkerAnnounced| it.handlers.iter().any(|it| it.name == *name && it.version == *version);
        let announced = self.heard.wait(from, 2 * SOON, |said| {
            said.iter().find_map(|said| match said {
                Said::Announced(announced) if hosts(announced) => Some(announced.clone()),
                _ => None,
            })
        });
        let announced = tokio::select! {
            biased;
            announced = announced => announced,
            Some(status) = worker.ended(2 * SOON) => return Err(format!("it ended with {status}")),
        };
        let found = self.heard.all(from, |said| matches!(said, Said::Announced(_)).then(|| format!("{said:?}")));
        announced.ok_or_else(|| match found.first() {
            None => format!("no `WorkerAnnounced` came to the presence exchange within {} s", 2 * SOON.as_secs()),
            Some(found) => format!("it announces no handler `{name}` in version {version}: {found}"),
        })
    }

    /// The worker, while there is one.
    pub(super) fn worker(&mut self) -> Option<&mut Program> {
        self.worker.as_mut()
    }

    /// Ends the worker as a crash does.
    pub(super) async fn kill(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            worker.kill().await;
            self.bury();
        }
    }

    /// The worker has ended: what it held goes to the next.
    pub(super) fn bury(&self) {
        if let Some(care) = &self.site.care {
            care.life.end();
        }
    }

    /// How a worker that should run has ended, and what it wrote last.
    pub(super) fn crashed(&mut self) -> Option<(String, Vec<String>)> {
        let worker = self.worker.as_mut()?;
        let status = worker.has_ended()?;
        Some((format!("it ended with {status}"), worker.last_lines()))
    }

    /// What the worker wrote last.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.worker.as_ref().map(Program::last_lines).unwrap_or_default()
    }

    /// The queue that the worker reads jobs from.
    pub(super) fn queue(&self) -> Address {
        Address::Jobs(format!("{}.{}", self.handler, self.version).into())
    }

    /// A group without jobs, of a run of its own.
    pub(super) fn group(&self) -> JobGroup {
        let ids = SystemIds;
        let name = |text| WorkflowName::new(text).expect("a name");
        JobGroup {
            run: RunId::new(ids.uuid()),
            workflow: name("certify"),
            phase: PhaseName::new("certifying").expect("a name"),
            entry: 3,
            nonce: Nonce((1 << 53) - 1),
            handler: self.handler.clone(),
            version: self.version.clone(),
            coordinator: 1,
            timeout: Millis::from_secs(600),
            max_attempts: 3,
            input: InputSource::Data,
            enumerate: false,
            traceparent: None,
            data: None,
            range: None,
            jobs: Vec::new(),
        }
    }

    /// A group with one job.
    pub(super) fn order(&self, order: &Value) -> JobGroup {
        let mut group = self.group();
        group.jobs.push(job(0, 1, order));
        group
    }

    /// Sends groups in one message.
    pub(super) async fn send(&self, groups: Vec<JobGroup>) -> Result<Vec<Asked>, Fault> {
        let from = self.heard.so_far();
        let asked = groups.iter().map(|group| Asked { group: group.clone(), from }).collect();
        self.publish(Message::new(self.queue(), Jobs::KIND, encode(&Jobs { groups }))).await?;
        Ok(asked)
    }

    /// Sends one job.
    pub(super) async fn ask(&self, order: &Value) -> Result<Asked, Fault> {
        Ok(self.send(vec![self.order(order)]).await?.remove(0))
    }

    /// Gives one job and waits for what becomes of it.
    pub(super) async fn answer(&self, order: &Value) -> Result<Told, Fault> {
        let asked = self.ask(order).await?;
        self.told(&asked, 0, SOON).await
    }

    /// Publishes until the broker has confirmed it.
    pub(super) async fn publish(&self, message: Message) -> Result<(), Fault> {
        publish(&self.broker, message).await
    }

    /// Orders all workers to stop the jobs of a run.
    pub(super) async fn cancel(&self, group: &JobGroup) -> Result<(), Fault> {
        let items = vec![CanceledEntry { run: group.run, entry: group.entry }];
        self.publish(Message::new(Address::Control, CancelJobs::KIND, encode(&CancelJobs { items }))).await
    }

    /// Asks who works here.
    pub(super) async fn want_workers(&self) -> Result<(), Fault> {
        let body = encode(&WorkersWanted { from: "certify".into() });
        self.publish(Message::new(Address::Presence, WorkersWanted::KIND, body)).await
    }

    /// Gives no lease to jobs of this run.
    pub(super) fn refuse_leases(&self, run: RunId) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
    }

    /// What became of a job, and that it was said as it must be said.
    pub(super) async fn told(&self, asked: &Asked, index: JobIndex, within: Duration) -> Result<Told, Fault> {
        Ok(self.told_times(asked, index, 1, within).await?.remove(0))
    }

    /// What became of a job that was given so many times, and that it was said as it must be said.
    pub(super) async fn told_times(
        &self,
        asked: &Asked,
        index: JobIndex,
        times: usize,
        within: Duration,
    ) -> Result<Vec<Told>, Fault> {
        let run = asked.group.run;
        let told = |said: &[Said]| said.iter().filter_map(|said| said.told(run, index)).collect::<Vec<_>>();
        let all = self.heard.wait(asked.from, within, |said| Some(told(said)).filter(|told| told.len() >= times));
        let Some(all) = all.await else {
            let seconds = within.as_secs();
            return Err(match self.heard.all(asked.from, |said| said.told(run, index)).len() {
                0 => format!("nothing was said of job {index} within {seconds} s"),
                found => format!(
                    "job {index} came again and was not told of again within {seconds} s, but {found} times before"
                ),
            });
        };
        all.iter().try_for_each(|told| check_address(asked, told))?;
        Ok(all)
    }

    /// How many jobs the worker says it works on at once.
    pub(super) fn slots(&self) -> u32 {
        let announced = |said: &Said| match said {
            Said::Announced(announced) => Some(announced.handlers.clone()),
            _ => None,
        };
        let last = self.heard.all(0, announced).pop().unwrap_or_default();
        last.iter().find(|it| it.name == self.handler).map_or(1, |it| it.slots)
    }

    /// Waits until `count` messages wait in the worker's queue.
    pub(super) async fn until_depth(&self, count: u64, within: Duration) -> Result<(), Fault> {
        let reached = async {
            loop {
                match self.broker.depth(&self.queue()).await {
                    Ok(depth) if depth == count => return,
                    Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let reached = tokio::time::timeout(within, reached).await;
        reached.map_err(|_| format!("its queue did not come to hold {count} messages within {} s", within.as_secs()))
    }
}

impl Stage {
    /// How many messages a worker has left behind that was killed: how many wait in its queue once some do, and no more come.
    pub(super) async fn left_behind(&self) -> Result<u64, Fault> {
        let words = |error: phasework_broker::BrokerError| format!("its queue cannot be looked at: {error}");
        let until = tokio::time::Instant::now() + SOON;
        let (mut left, mut since) = (0, tokio::time::Instant::now());
        while tokio::time::Instant::now() < until && (left == 0 || since.elapsed() < SETTLED) {
            // A broker tells nobody that a queue has changed.
            tokio::time::sleep(LOOK).await;
            let depth = self.broker.depth(&self.queue()).await.map_err(words)?;
            if depth != left {
                (left, since) = (depth, tokio::time::Instant::now());
            }
        }
        Ok(left)
    }
}

/// A job that carries an input.
pub(super) fn job(index: JobIndex, attempt: u32, input: &Value) -> Job {
    Job { index, attempt, tried: 1, input: Some(Payload::of(input).expect("a value is JSON")), details: None }
}

pub(super) async fn publish(broker: &SharedBroker, message: Message) -> Result<(), Fault> {
    loop {
        match broker.publish(vec![message.clone()]).await.remove(0) {
            Ok(()) => return Ok(()),
            Err(PublishError::Unconfirmed(_)) => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(format!("a message could not be sent to it: {error}")),
        }
    }
}

/// Whether an outcome repeats what names the attempt, and came to where it belongs.
fn check_address(asked: &Asked, told: &Told) -> Result<(), Fault> {
    let (group, index) = (&asked.group, told.outcome.index);
    let same = |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
        let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
        if expected == found {
            Ok(())
        } else {
            Err(format!("the outcome of job {index} says {what} {found}, not {expected}"))
        }
    };
    same("entry", &group.entry, &told.entry)?;
    same("nonce", &group.nonce.0, &told.nonce.0)?;
    same("handler", &group.handler, &told.handler)?;
    same("queue: coordinator", &group.coordinator, &told.queue)?;
    let attempt = group.each().find(|job| job.index == index).map_or(1, |job| job.attempt);
    same("attempt", &attempt, &told.outcome.attempt)
}

/// Answers whoever asks for leases, as the owner of a run does.
async fn answer_leases(
    broker: SharedBroker,
    heard: Heard,
    refused: Arc<Mutex<BTreeSet<RunId>>>,
    end: CancellationToken,
) {
    let mut from = 0;
    loop {
        let wanted = heard.wait(from, Duration::MAX, |said| {
            let at = said.iter().position(|said| matches!(said, Said::Leases(..)))?;
            let Said::Leases(_, group) = &said[at] else { return None };
            Some((at, group.clone()))
        });
        let (at, group) = tokio::select! {
            biased;
            () = end.cancelled() => return,
            wanted = wanted => match wanted { Some(wanted) => wanted, None => return },
        };
        from += at + 1;
        let grants = !refused.lock().unwrap_or_else(PoisonError::into_inner).contains(&group.run);
        let (reply_to, message) = lease_answer(group, grants);
        // A worker that hears nothing asks again.
        broker.reply(&reply_to, message).await.ok();
    }
}

fn lease_answer(group: LeaseGroup, grants: bool) -> (Arc<str>, Message) {
    let leased = grants.then_some(LEASE);
    let answer = |index, attempt| LeaseAnswer { index, attempt, leased };
    let answers = group.leases.iter().map(|lease| answer(lease.index, lease.attempt)).collect();
    let LeaseGroup { run, entry, nonce, handler, reply, .. } = group;
    let body = encode(&LeasesAnswered { run, entry, nonce, handler, answers });
    let mut message = Message::new(Address::Private(Arc::clone(&reply.queue)), LeasesAnswered::KIND, body);
    message.correlation_id = reply.correlation_id;
    (reply.queue, message)
}
