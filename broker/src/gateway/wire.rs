//! The bodies of the worker gateway's requests and answers, as both ends read and write them. `docs/wire-format.md`
//! describes them; the files in `golden` are examples of each. Decides nothing.
//!
//! A message's content travels as the JSON that it is, in its own text, and in base64 if it is none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::address;
use crate::{Address, Delivery, DeliveryTag, Message, PublishError};

/// The path that all paths of the gateway begin with.
pub const ROOT: &str = "/v1/gateway";

/// The code of an answer that says that there is no such session, or that it has ended.
pub const NO_SESSION: &str = "no-session";

/// The largest body of a request, in bytes: a message of the largest size in base64, and more than enough around it.
pub const MAX_REQUEST_BYTES: usize = 16 << 20;

/// `POST /v1/gateway/sessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Who asks, for people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A session that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its id.
    pub session: String,
    /// How long it lives without a request.
    pub ttl_ms: u64,
    /// The longest that one poll may wait.
    pub max_wait_ms: u64,
    /// What the broker's own names of queues begin with.
    pub prefix: String,
}

/// `PUT …/subscriptions/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// What to read from: [`address::text`].
    pub from: String,
    /// How many deliveries may be held unsettled.
    pub prefetch: u16,
}

/// A subscription that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The broker's own name of the queue, for answers to it.
    pub queue: String,
    /// How many deliveries may be held unsettled: what was asked for, or the most that is given.
    pub prefetch: u16,
}

/// A subscription that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// No delivery of it has a higher number.
    pub last: u64,
}

/// `POST …/next`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Next {
    /// The number of the last delivery that arrived.
    pub after: u64,
    /// How long to wait for one, if none is there; as long as may be unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// How many at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
    /// Whether the broker behind is away, as far as the reader knows: it is answered as soon as that is otherwise. Unless
    /// said, that is nothing to answer for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_away: Option<bool>,
    /// Deliveries to forget for good.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ack: Vec<u64>,
    /// Deliveries to give back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<u64>,
}

/// `POST …/settle`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settle {
    /// Deliveries to forget for good.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ack: Vec<u64>,
    /// Deliveries to give back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<u64>,
}

/// The answer to [`Next`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Deliveries<'a> {
    /// In order of their numbers.
    #[serde(borrow)]
    pub deliveries: Vec<Delivered<'a>>,
    /// Why the broker behind cannot be used now, if it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Cow<'a, str>>,
}

/// A delivery on its way to its reader.
#[derive(Debug, Serialize, Deserialize)]
pub struct Delivered<'a> {
    /// Its number within the session.
    pub n: u64,
    /// The subscription that it is of.
    #[serde(borrow)]
    pub subscription: Cow<'a, str>,
    /// What it is.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// Whether it was delivered before, maybe to somebody else.
    pub redelivered: bool,
    /// Where it was published to, in the broker's own words.
    #[serde(borrow)]
    pub routing_key: Cow<'a, str>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// Where an answer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Cow<'a, str>>,
    /// What an answer repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Cow<'a, str>>,
    /// Its headers.
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Its content, if that is JSON.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub body: Option<&'a RawValue>,
    /// Its content, if that is anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl<'a> Delivered<'a> {
    /// A delivery, with its number and the name of its subscription.
    pub fn of(n: u64, subscription: &'a str, delivery: &'a Delivery) -> Self {
        let (body, body_base64) = content(&delivery.body);
        Self {
            n,
            subscription: subscription.into(),
            kind: Cow::Borrowed(&delivery.kind),
            redelivered: delivery.redelivered,
            routing_key: Cow::Borrowed(&delivery.routing_key),
            id: delivery.id.as_deref().map(Cow::Borrowed),
            reply_to: delivery.reply_to.as_deref().map(Cow::Borrowed),
            correlation_id: delivery.correlation_id.as_deref().map(Cow::Borrowed),
            headers: views(&delivery.headers),
            body,
            body_base64,
        }
    }

    /// The delivery, as one of a session. `None` when its content cannot be read.
    pub fn into_delivery(self, session: u64) -> Option<Delivery> {
        Some(Delivery {
            tag: DeliveryTag { generation: session, number: self.n },
            body: bytes(self.body, self.body_base64.as_deref())?,
            kind: self.kind.into(),
            id: self.id.map(Arc::from),
            redelivered: self.redelivered,
            reply_to: self.reply_to.map(Arc::from),
            correlation_id: self.correlation_id.map(Arc::from),
            routing_key: self.routing_key.into(),
            headers: texts(self.headers),
        })
    }
}

/// `POST /v1/gateway/publish`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish<'a> {
    /// In the order in which they are to be published.
    #[serde(borrow)]
    pub messages: Vec<Published<'a>>,
}

/// A message on its way to the broker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published<'a> {
    /// Where it goes: [`address::text`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Cow<'a, str>>,
    /// In place of `to`, the broker's own name of a queue, as `reply_to` gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Cow<'a, str>>,
    /// What it is.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// Where an answer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Cow<'a, str>>,
    /// What an answer repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Cow<'a, str>>,
    /// After this long it may be dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Its headers.
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Its content, if that is JSON.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub body: Option<&'a RawValue>,
    /// Its content, if that is anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// A message as it was read, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressed {
    /// To where the message says.
    Message(Message),
    /// To the queue of this name.
    Reply(Arc<str>, Message),
}

impl<'a> Published<'a> {
    /// A message. With `queue`, an answer to the queue of that name.
    pub fn of(message: &'a Message, queue: Option<&'a str>) -> Self {
        let (body, body_base64) = content(&message.body);
        Self {
            to: queue.is_none().then(|| address::text(&message.to).into()),
            queue: queue.map(Cow::Borrowed),
            kind: Cow::Borrowed(&message.kind),
            id: message.id.as_deref().map(Cow::Borrowed),
            reply_to: message.reply_to.as_deref().map(Cow::Borrowed),
            correlation_id: message.correlation_id.as_deref().map(Cow::Borrowed),
            expires_ms: message.expires.map(milliseconds),
            headers: views(&message.headers),
            body,
            body_base64,
        }
    }

    /// The message.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn into_message(self) -> Result<Addressed, String> {
        let (to, queue) = match (&self.to, self.queue) {
            (Some(to), None) => (address::read(to)?, None),
            (None, Some(queue)) => (Address::Private(queue.as_ref().into()), Some(Arc::from(queue))),
            (Some(_), Some(_)) | (None, None) => return Err("a message has either `to` or `queue`".to_owned()),
        };
        if self.body.is_some() && self.body_base64.is_some() {
            return Err("a message has either `body` or `body_base64`".to_owned());
        }
        let body = bytes(self.body, self.body_base64.as_deref());
        let message = Message {
            to,
            kind: self.kind.into(),
            body: body.ok_or_else(|| "`body_base64` is no base64".to_owned())?,
            id: self.id.map(Arc::from),
            reply_to: self.reply_to.map(Arc::from),
            correlation_id: self.correlation_id.map(Arc::from),
            expires: self.expires_ms.map(Duration::from_millis),
            headers: texts(self.headers),
        };
        Ok(match queue {
            Some(queue) => Addressed::Reply(queue, message),
            None => Addressed::Message(message),
        })
    }
}

/// The answer to [`Publish`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// One for each message, in order.
    pub results: Vec<PublishResult>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum PublishResult {
    /// The broker has it.
    Confirmed,
    /// It reached no queue, and will not.
    Unroutable {
        /// Why.
        message: String,
    },
    /// It is larger than the broker takes.
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// It may or may not have been published: publish it again.
    Unconfirmed {
        /// Why.
        message: String,
    },
    /// It may not be published, or makes no sense. It was not, and will not be.
    Refused {
        /// Why.
        message: String,
    },
}

impl From<Result<(), PublishError>> for PublishResult {
    fn from(result: Result<(), PublishError>) -> Self {
        match result {
            Ok(()) => Self::Confirmed,
            Err(PublishError::Unroutable(message)) => Self::Unroutable { message },
            Err(PublishError::TooLarge { size, limit }) => Self::TooLarge { size, limit },
            Err(PublishError::Unconfirmed(message)) => Self::Unconfirmed { message },
        }
    }
}

impl From<PublishResult> for Result<(), PublishError> {
    fn from(result: PublishResult) -> Self {
        match result {
            PublishResult::Confirmed => Ok(()),
            PublishResult::Unroutable { message } | PublishResult::Refused { message } => {
                Err(PublishError::Unroutable(message))
            }
            PublishResult::TooLarge { size, limit } => Err(PublishError::TooLarge { size, limit }),
            PublishResult::Unconfirmed { message } => Err(PublishError::Unconfirmed(message)),
        }
    }
}

/// `GET /v1/gateway/queues/{queue}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// How many messages wait in it.
    pub messages: u64,
}

/// An answer that is no success.
#[derive(Debug, Deserialize)]
pub(super) struct Envelope {
    pub(super) error: Told,
}

#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) code: String,
    pub(super) message: String,
}

/// What is read as it stands, `null` too.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Content as JSON if it is that and nothing around it, and in base64 if not. What is empty is neither.
fn content(body: &[u8]) -> (Option<&RawValue>, Option<String>) {
    if body.is_empty() {
        return (None, None);
    }
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(json) if json.get().len() == body.len() => (Some(json), None),
        _ => (None, Some(STANDARD.encode(body))),
    }
}

fn bytes(body: Option<&RawValue>, base64: Option<&str>) -> Option<Bytes> {
    match (body, base64) {
        (Some(json), _) => Some(Bytes::copy_from_slice(json.get().as_bytes())),
        (None, Some(base64)) => STANDARD.decode(base64).ok().map(Bytes::from),
        (None, None) => Some(Bytes::new()),
    }
}

fn views(headers: &[(Arc<str>, Arc<str>)]) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    headers.iter().map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value))).collect()
}

fn texts(headers: BTreeMap<Cow<'_, str>, Cow<'_, str>>) -> Vec<(Arc<str>, Arc<str>)> {
    headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Rounded up: a message that expires soon is not to expire at once.
fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a golden file as a `T`, which writes it again byte for byte.
    fn check<'a, T: Serialize + Deserialize<'a>>(golden: &'a str) -> T {
        let read: T = serde_json::from_str(golden).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), golden.trim_end());
        read
    }

    macro_rules! golden {
        ($name:literal) => {
            include_str!(concat!("golden/", $name, ".json"))
        };
    }

    #[test]
    fn bodies_are_written_as_they_always_were() {
        assert_eq!(check::<Open>(golden!("open")).name.as_deref(), Some("mill-3"));
        assert_eq!(check::<Opened>(golden!("opened")).ttl_ms, 30_000);
        assert_eq!(check::<Subscribe>(golden!("subscribe")).prefetch, 10);
        assert_eq!(check::<Subscribed>(golden!("subscribed")).prefetch, 10);
        assert_eq!(check::<Next>(golden!("next")).release, [17]);
        assert_eq!(check::<Next>(golden!("next")).broker_away, Some(false));
        assert_eq!(check::<Deliveries<'_>>(golden!("away")).broker.as_deref(), Some("no connection"));
        assert_eq!(check::<Settle>(golden!("settle")).ack, [18, 19]);
        assert_eq!(check::<Stopped>(golden!("stopped")).last, 19);
        let results = check::<Results>(golden!("results")).results;
        let round = |result: &PublishResult| PublishResult::from(<Result<(), PublishError>>::from(result.clone()));
        let (refused, others) = results.split_last().unwrap();
        assert_eq!(others.iter().map(round).collect::<Vec<_>>(), others);
        // The port knows it as what reaches no queue, and will not.
        assert!(matches!(round(refused), PublishResult::Unroutable { message } if message.contains("no `Tick`")));
    }

    #[test]
    fn deliveries_are_written_and_read() {
        let mut deliveries = check::<Deliveries<'_>>(golden!("deliveries")).deliveries;
        let (second, first) = (deliveries.remove(1), deliveries.remove(0));
        let first = first.into_delivery(3).unwrap();
        assert_eq!(first.tag, DeliveryTag { generation: 3, number: 18 });
        assert_eq!(first.body, r#"{"v":1,"groups":[]}"#);
        let again = Delivered::of(18, "jobs", &first);
        assert_eq!(again.into_delivery(3).unwrap().headers, first.headers);
        let second = second.into_delivery(3).unwrap();
        assert!(second.redelivered && second.kind.is_empty());
        assert_eq!(second.body, "hello");
    }

    #[test]
    fn messages_are_written_and_read() {
        let messages = check::<Publish<'_>>(golden!("publish")).messages;
        let messages: Vec<_> = messages.into_iter().map(|message| message.into_message().unwrap()).collect();
        let [
            Addressed::Message(finished),
            Addressed::Message(gone),
            Addressed::Message(null),
            Addressed::Reply(queue, reply),
        ] = &messages[..]
        else {
            panic!("{messages:?}");
        };
        assert_eq!((&finished.to, &*finished.kind), (&Address::Coordinator(3), "JobsFinished"));
        assert_eq!(gone.expires, Some(Duration::from_secs(20)));
        assert_eq!(null.body, "null");
        assert_eq!((&**queue, &reply.body[..]), ("phasework.client.9", b"{\"".as_slice()));
        let written = [(finished, None), (gone, None), (null, None), (reply, Some(&**queue))];
        let messages = written.iter().map(|(message, queue)| Published::of(message, *queue)).collect();
        let written = serde_json::to_string(&Publish { messages }).unwrap();
        assert_eq!(written, golden!("publish").trim_end());
    }

    #[test]
    fn content_travels_byte_for_byte() {
        for body in
            ["", "{}", "null", " {}", "{}\n", "1e400", "[1,\n 2]", "\"\\ud800\"", "nope", "{", "\u{0}", "{\"a\":1.10}"]
        {
            let mut message = Message::new(Address::Submit, "Test", body.as_bytes().to_vec());
            message.expires = Some(Duration::from_micros(1));
            let written = serde_json::to_vec(&Published::of(&message, None)).unwrap();
            let read: Published<'_> = serde_json::from_slice(&written).unwrap();
            message.expires = Some(Duration::from_millis(1));
            assert_eq!(read.into_message(), Ok(Addressed::Message(message)), "{body:?}");
        }
        let bytes = Message::new(Address::Submit, "Test", vec![0xff, 0, 0x80]);
        let written = serde_json::to_vec(&Published::of(&bytes, None)).unwrap();
        let read: Published<'_> = serde_json::from_slice(&written).unwrap();
        assert_eq!(read.into_message(), Ok(Addressed::Message(bytes)));
    }
}
