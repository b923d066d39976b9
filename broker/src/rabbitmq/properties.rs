//! Between our messages and AMQP's properties. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery as AmqpDelivery;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::{Address, Delivery, DeliveryTag, Message, PublishError};

/// The most that all headers of a message may hold. They travel in one frame with the other properties, and a frame
/// holds 128 KiB; a larger one would cost us the connection.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// The AMQP properties of a message.
pub(super) fn properties(message: &Message) -> Result<BasicProperties, PublishError> {
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_type(short(&message.kind)?);
    if let Some(id) = &message.id {
        properties = properties.with_message_id(short(id)?);
    }
    if let Some(reply_to) = &message.reply_to {
        properties = properties.with_reply_to(short(reply_to)?);
    }
    if let Some(correlation_id) = &message.correlation_id {
        properties = properties.with_correlation_id(short(correlation_id)?);
    }
    if let Some(expires) = message.expires {
        properties = properties.with_expiration(expiration(expires).to_string().into());
    }
    if !message.headers.is_empty() {
        properties = properties.with_headers(headers(&message.headers)?);
    }
    Ok(properties)
}

/// In milliseconds, rounded up: zero means "only if it can be delivered right now". RabbitMQ takes at most 32 bits.
fn expiration(expires: Duration) -> u32 {
    let ms = expires.as_nanos().div_ceil(1_000_000);
    u32::try_from(ms).unwrap_or(u32::MAX)
}

fn headers(headers: &[(Arc<str>, Arc<str>)]) -> Result<FieldTable, PublishError> {
    let size = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_HEADER_BYTES {
        return Err(PublishError::TooLarge { size, limit: MAX_HEADER_BYTES });
    }
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(name)?, AMQPValue::LongString(value.as_ref().into()));
    }
    Ok(table)
}

/// A text property, of which AMQP carries at most 255 bytes.
pub(super) fn short(text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text)
        .map_err(|_| PublishError::TooLarge { size: text.len(), limit: super::topology::MAX_NAME_BYTES })
}

/// A delivery as the port has it, read from `from` whose queue or exchange is called `name`.
pub(super) fn delivery(amqp: AmqpDelivery, generation: u64, from: &Address, name: &Arc<str>) -> Delivery {
    let properties = &amqp.properties;
    Delivery {
        tag: DeliveryTag { generation, number: amqp.delivery_tag },
        kind: text(properties.kind()).unwrap_or_else(|| "".into()),
        id: text(properties.message_id()),
        redelivered: amqp.redelivered,
        reply_to: text(properties.reply_to()),
        correlation_id: text(properties.correlation_id()),
        routing_key: if let Address::Events(_) = from { amqp.routing_key.as_str().into() } else { name.clone() },
        headers: properties.headers().iter().flat_map(FieldTable::inner).filter_map(header).collect(),
        body: Bytes::from(amqp.data),
    }
}

fn header((name, value): (&ShortString, &AMQPValue)) -> Option<(Arc<str>, Arc<str>)> {
    let value = match value {
        AMQPValue::LongString(value) => utf8(value)?,
        AMQPValue::ShortString(value) => value.as_str(),
        _ => return None,
    };
    Some((name.as_str().into(), value.into()))
}

fn utf8(text: &LongString) -> Option<&str> {
    std::str::from_utf8(text.as_bytes()).ok()
}

fn text(property: &Option<ShortString>) -> Option<Arc<str>> {
    property.as_ref().map(|text| text.as_str().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MAX_HEADER_BYTES, expiration, properties};
    use crate::{Address, Message, PublishError};

    #[test]
    fn an_expiry_is_rounded_up_and_bounded() {
        for (expires, ms) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_micros(1001), 2),
            (Duration::from_secs(1 << 40), u32::MAX),
        ] {
            assert_eq!(expiration(expires), ms, "{expires:?}");
        }
    }

    #[test]
    fn what_would_break_the_connection_is_too_large() {
        let check = |change: fn(&mut Message), fits: bool| {
            let mut message = Message::new(Address::Submit, "Test", "");
            change(&mut message);
            match properties(&message) {
                Ok(_) => assert!(fits, "{message:?}"),
                Err(error) => assert!(!fits && matches!(error, PublishError::TooLarge { .. }), "{error}"),
            }
        };
        check(|_| (), true);
        check(|message| message.kind = "x".repeat(255).into(), true);
        check(|message| message.kind = "x".repeat(256).into(), false);
        check(|message| message.id = Some("x".repeat(256).into()), false);
        check(|message| message.reply_to = Some("x".repeat(256).into()), false);
        check(|message| message.correlation_id = Some("x".repeat(256).into()), false);
        check(|message| message.headers = vec![("a".into(), "x".repeat(MAX_HEADER_BYTES - 1).into())], true);
        check(|message| message.headers = vec![("a".into(), "x".repeat(MAX_HEADER_BYTES).into())], false);
        check(|message| message.headers = vec![("x".repeat(256).into(), "a".into())], false);
    }
}
