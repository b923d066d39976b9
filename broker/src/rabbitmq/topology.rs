//! Every name and every property of what we have on RabbitMQ. Nobody else spells a queue's or an exchange's name.
//!
//! | name | what |
//! |---|---|
//! | `<prefix>.jobs.<queue>`, `<prefix>.submit`, `<prefix>.dead`, `<prefix>.marker.<id>` | durable quorum queues |
//! | `<prefix>.coordinator.<n>` | the same, with a single active consumer |
//! | `<prefix>.<private name>` | exclusive, gone with its consumer |
//! | `<prefix>.events` | durable topic exchange |
//! | `<prefix>.control`, `<prefix>.presence` | durable fanout exchanges |
//!
//! Arguments are few, and none that anybody may want to tune: a queue declared otherwise than it is gets refused.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::Address;

/// The longest name that AMQP can carry, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 255;

/// How long it surely takes until those who read from a queue know that it was deleted. Declared again before, RabbitMQ
/// 3.10 does not tell them, and what they acknowledge then may be messages of the new queue.
pub(super) const DELETED_IS_HEARD_AFTER: Duration = Duration::from_millis(250);

#[derive(Clone, Debug)]
pub(super) struct Topology {
    prefix: Arc<str>,
}

/// How a message gets to an address.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    /// Whether it is an error that no queue takes it.
    pub(super) mandatory: bool,
}

/// A name that AMQP cannot carry.
#[derive(Debug, thiserror::Error)]
#[error("the name is longer than {MAX_NAME_BYTES} bytes: {0}")]
pub(super) struct NameTooLong(String);

impl Topology {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The name of an address's queue or exchange.
    pub(super) fn name(&self, address: &Address) -> String {
        let prefix = &self.prefix;
        match address {
            Address::Jobs(queue) => format!("{prefix}.jobs.{queue}"),
            Address::Coordinator(number) => format!("{prefix}.coordinator.{number}"),
            Address::Submit => format!("{prefix}.submit"),
            Address::Dead => format!("{prefix}.dead"),
            Address::Marker(id) => format!("{prefix}.marker.{id}"),
            Address::Private(name) => format!("{prefix}.{name}"),
            Address::Events(_) => format!("{prefix}.events"),
            Address::Control => format!("{prefix}.control"),
            Address::Presence => format!("{prefix}.presence"),
        }
    }

    pub(super) fn route(&self, address: &Address) -> Result<Route, NameTooLong> {
        let name = short(&self.name(address))?;
        Ok(match address {
            Address::Events(key) => Route { exchange: name, routing_key: short(key)?, mandatory: false },
            Address::Control | Address::Presence => {
                Route { exchange: name, routing_key: ShortString::default(), mandatory: false }
            }
            _ => Route::to_queue(name),
        })
    }

    /// Makes the exchanges.
    pub(super) async fn declare_exchanges(&self, channel: &Channel) -> lapin::Result<()> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        for (address, kind) in [
            (Address::Events("".into()), ExchangeKind::Topic),
            (Address::Control, ExchangeKind::Fanout),
            (Address::Presence, ExchangeKind::Fanout),
        ] {
            let name = self.name(&address).into();
            channel.exchange_declare(name, kind, options, FieldTable::default()).await?;
        }
        Ok(())
    }

    /// Makes a queue. Only for addresses that are queues.
    pub(super) async fn declare_queue(&self, channel: &Channel, address: &Address) -> lapin::Result<()> {
        let (options, arguments) = properties(address);
        channel.queue_declare(self.name(address).into(), options, arguments).await?;
        Ok(())
    }

    /// A queue as it is now. An error if it is not there, which costs the channel.
    pub(super) async fn inspect(&self, channel: &Channel, address: &Address) -> lapin::Result<lapin::Queue> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        channel.queue_declare(self.name(address).into(), options, FieldTable::default()).await
    }

    /// Whether an address is a queue that we make, and that stays.
    pub(super) const fn is_durable(&self, address: &Address) -> bool {
        address.is_queue() && !matches!(address, Address::Private(_))
    }

    /// Makes what a subscriber reads from, and says what it is called.
    pub(super) async fn declare_source(&self, channel: &Channel, from: &Address) -> lapin::Result<ShortString> {
        let name = ShortString::from(self.name(from));
        if from.is_queue() {
            self.declare_queue(channel, from).await?;
            return Ok(name);
        }
        // Named by RabbitMQ; we declare anew on every connection, so nothing needs to find it again.
        let (options, arguments) = properties(from);
        let queue = channel.queue_declare(ShortString::default(), options, arguments).await?.name().clone();
        let pattern = if let Address::Events(pattern) = from { pattern.as_ref() } else { "" };
        let (pattern, options) = (ShortString::from(pattern), QueueBindOptions::default());
        channel.queue_bind(queue.clone(), name, pattern, options, FieldTable::default()).await?;
        Ok(queue)
    }

    /// Whether an address's names can be carried.
    pub(super) fn check(&self, address: &Address) -> Result<(), NameTooLong> {
        self.route(address).map(drop)
    }
}

impl Route {
    /// To one queue, by its name.
    pub(super) fn to_queue(name: ShortString) -> Self {
        Self { exchange: ShortString::default(), routing_key: name, mandatory: true }
    }
}

/// A queue's properties, which for a subscription to an exchange are those of the subscriber's queue.
fn properties(address: &Address) -> (QueueDeclareOptions, FieldTable) {
    let mut arguments = FieldTable::default();
    let mut set = |name: &str, value: AMQPValue| {
        arguments.insert(name.into(), value);
    };
    let options = match address {
        Address::Jobs(_) | Address::Coordinator(_) | Address::Submit | Address::Dead | Address::Marker(_) => {
            set("x-queue-type", AMQPValue::LongString("quorum".into()));
            // We count attempts ourselves. Without a limit, 4.x drops a message after 20 deliveries; -1 means none there,
            // but on 3.10 it drops every message that comes back even once.
            set("x-delivery-limit", AMQPValue::LongInt(i32::MAX));
            QueueDeclareOptions { durable: true, ..Default::default() }
        }
        Address::Private(_) | Address::Events(_) | Address::Control | Address::Presence => {
            set("x-queue-type", AMQPValue::LongString("classic".into()));
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() }
        }
    };
    if matches!(address, Address::Coordinator(_)) {
        set("x-single-active-consumer", AMQPValue::Boolean(true));
    }
    (options, arguments)
}

fn short(name: &str) -> Result<ShortString, NameTooLong> {
    ShortString::try_new(name).map_err(|_| NameTooLong(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::Topology;
    use crate::Address;

    #[test]
    fn names_are_as_documented() {
        let topology = Topology::new("phasework");
        for (address, name, exchange, key, mandatory) in [
            (Address::Jobs("Pages.1.2.0".into()), "phasework.jobs.Pages.1.2.0", "", "phasework.jobs.Pages.1.2.0", true),
            (Address::Coordinator(7), "phasework.coordinator.7", "", "phasework.coordinator.7", true),
            (Address::Submit, "phasework.submit", "", "phasework.submit", true),
            (Address::Dead, "phasework.dead", "", "phasework.dead", true),
            (Address::Marker("a1".into()), "phasework.marker.a1", "", "phasework.marker.a1", true),
            (Address::Private("worker.1".into()), "phasework.worker.1", "", "phasework.worker.1", true),
            (Address::Events("run.x".into()), "phasework.events", "phasework.events", "run.x", false),
            (Address::Control, "phasework.control", "phasework.control", "", false),
            (Address::Presence, "phasework.presence", "phasework.presence", "", false),
        ] {
            let route = topology.route(&address).unwrap();
            let found = (topology.name(&address), route.exchange.to_string(), route.routing_key.to_string());
            assert_eq!(found, (name.to_owned(), exchange.to_owned(), key.to_owned()));
            assert_eq!(route.mandatory, mandatory, "{address:?}");
        }
    }

    #[test]
    fn a_name_that_amqp_cannot_carry_is_refused() {
        let topology = Topology::new("phasework");
        let check = |bytes: usize| topology.check(&Address::Jobs("x".repeat(bytes).into())).is_ok();
        assert!(check(255 - "phasework.jobs.".len()));
        assert!(!check(256 - "phasework.jobs.".len()));
        assert!(topology.check(&Address::Events("x".repeat(256).into())).is_err());
    }
}
