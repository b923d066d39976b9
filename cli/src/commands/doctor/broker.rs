//! What the facts about RabbitMQ mean, and what to do about it. Pure: from facts to lines.

use phasework_broker::rabbitmq::Found;

use super::facts::{BrokerFacts, Queue};
use super::judge::at_least;
use super::line::Line;

/// The oldest version that is tested with.
const OLDEST: (u64, u64) = (3, 10);

/// How many messages may wait in a queue that somebody is to empty at once.
const BACKLOG: u64 = 1000;

/// What is to be said of the broker.
pub(super) fn judge(facts: &BrokerFacts) -> Vec<Line> {
    let mut lines = vec![Line::ok("broker", "address", facts.address.clone()), rabbit(facts)];
    lines.push(match &facts.takes_messages {
        Ok(()) => Line::ok("broker", "messages", "are taken".to_owned()),
        Err(why) => Line::error("broker", "messages", format!("are not taken: {why}")).hint(
            "give the server memory or disk space, or raise its limits (`rabbitmqctl status` shows them); \
             all goes on by itself",
        ),
    });
    lines.push(coordinator_queues(&facts.coordinators));
    if let Some(line) = coordinators(&facts.coordinators) {
        lines.push(line);
    }
    // Where there is no coordinator yet, nobody has made these either, and that was said.
    let is_new = facts.coordinators.iter().all(is_missing);
    for (what, queue) in [("submission queue", &facts.submit), ("dead-letter queue", &facts.dead)] {
        if !(is_new && is_missing(queue)) {
            lines.push(single(what, queue));
        }
    }
    lines.extend(job_queues(&facts.jobs));
    lines
}

fn rabbit(facts: &BrokerFacts) -> Line {
    let (product, version) = match &facts.server {
        Ok(server) => (server.product.as_str(), server.version.as_str()),
        Err(why) => return Line::warning("broker", "version", format!("is not told: {why}")),
    };
    let found = format!("{product} {version}");
    if product != "RabbitMQ" {
        let line = Line::warning("broker", "version", found);
        return line.hint("RabbitMQ 3.10 or later is expected; nothing else was tried");
    }
    match at_least(version, OLDEST) {
        Some(true) => Line::ok("broker", "version", found),
        Some(false) => Line::error("broker", "version", format!("{found} is too old")).hint("3.10 or later is needed"),
        None => Line::warning("broker", "version", found).hint("3.10 or later is expected"),
    }
}

/// Whether all are there as they have to be.
fn coordinator_queues(queues: &[Queue]) -> Line {
    if let Some(line) = queues.iter().find_map(|queue| wrong("coordinator queues", queue)) {
        return line;
    }
    let missing = queues.iter().filter(|queue| is_missing(queue)).count();
    let waiting: u64 = queues.iter().map(messages).sum();
    let (what, count) = ("coordinator queues", queues.len());
    match missing {
        0 if waiting > BACKLOG => Line::warning("broker", what, format!("{count}; {waiting} messages wait in them"))
            .hint("are the coordinators well? GET /health/ready and their logs tell; more of them share the work"),
        0 => Line::ok("broker", what, format!("{count}; {waiting} messages wait in them")),
        all if all == count => Line::warning("broker", what, "not there yet".to_owned())
            .hint("the first coordinator makes them: `phasework serve`"),
        some => Line::warning("broker", what, format!("{some} of {count} are not there")).hint(
            "is --coordinator-queues the same for all? The next coordinator that starts makes those that are missing",
        ),
    }
}

/// Whether every queue that is there has a coordinator.
fn coordinators(queues: &[Queue]) -> Option<Line> {
    let served = |queue: &&Queue| match queue.found {
        Ok(Found::Sound { consumers, .. }) => Some(consumers > 0),
        _ => None,
    };
    let (there, unserved) = (queues.iter().filter_map(|queue| served(&queue)), |is_served: &bool| !is_served);
    let all = there.clone().count();
    let without = there.filter(unserved).count();
    match without {
        _ if all == 0 => None,
        0 => Some(Line::ok("broker", "coordinators", "serve every queue".to_owned())),
        without => Some(
            Line::error("broker", "coordinators", format!("nobody serves {without} of {all} coordinator queues"))
                .hint("`phasework serve` starts a coordinator; one that runs takes over within half a minute"),
        ),
    }
}

fn single(what: &'static str, queue: &Queue) -> Line {
    if let Some(line) = wrong(what, queue) {
        return line;
    }
    match (&queue.found, messages(queue)) {
        (Ok(Found::Missing), _) => {
            Line::warning("broker", what, format!("{} is not there", queue.name)).hint("the first coordinator makes it")
        }
        (_, waiting) if waiting > BACKLOG => {
            let line = Line::warning("broker", what, format!("{waiting} wait in {}", queue.name));
            line.hint("coordinators empty it; are they well?")
        }
        (_, waiting) => Line::ok("broker", what, format!("{waiting} wait in {}", queue.name)),
    }
}

/// One line for those that are empty, one for each of the others.
fn job_queues(queues: &[Queue]) -> Vec<Line> {
    let mut lines: Vec<_> = queues.iter().filter_map(|queue| wrong("job queues", queue)).collect();
    let mut idle = 0;
    for queue in queues {
        match &queue.found {
            Ok(Found::Missing) => {
                let line = Line::warning("broker", "job queues", format!("{} is not there", queue.name));
                lines.push(line.hint("its workers make it when they begin to take jobs; look at their logs"));
            }
            Ok(Found::Sound { messages, consumers: 0 }) => {
                let found = format!("{}: {messages} messages wait, and nobody takes them", queue.name);
                lines.push(Line::warning("broker", "job queues", found).hint("are its workers draining, or stuck?"));
            }
            Ok(Found::Sound { messages: 0, .. }) => idle += 1,
            Ok(Found::Sound { messages, consumers }) => {
                let found = format!("{}: {messages} messages wait for {consumers} workers", queue.name);
                lines.push(Line::ok("broker", "job queues", found));
            }
            _ => {}
        }
    }
    if idle > 0 {
        lines.push(Line::ok("broker", "job queues", format!("{idle} with nothing waiting")));
    }
    lines
}

/// What is wrong with a queue, but that it may not be there.
fn wrong(what: &'static str, queue: &Queue) -> Option<Line> {
    match &queue.found {
        Ok(Found::Otherwise(why)) => {
            let line = Line::error("broker", what, format!("{} was made otherwise: {why}", queue.name));
            Some(line.hint(format!(
                "stop who uses it, delete it (`rabbitmqctl delete_queue {}`) and start them again: it is made anew. \
                 What is in it is lost",
                queue.name
            )))
        }
        Err(why) => {
            let line = Line::error("broker", what, format!("{} cannot be looked at: {why}", queue.name));
            Some(line.hint("has the account the right to configure, write and read it?"))
        }
        Ok(Found::Missing | Found::Sound { .. }) => None,
    }
}

fn is_missing(queue: &Queue) -> bool {
    queue.found == Ok(Found::Missing)
}

fn messages(queue: &Queue) -> u64 {
    match queue.found {
        Ok(Found::Sound { messages, .. }) => messages,
        _ => 0,
    }
}
