//! Looks at a server and its queues for a person who wants to know whether all is well. Makes and changes nothing.

use futures::{AsyncReadExt, AsyncWriteExt};
use lapin::protocol::connection::parse_start;
use lapin::runtime;
use lapin::tcp::{AMQPUriTcpExt, TLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use tokio::time::timeout;

use super::errors::{NOT_FOUND, PRECONDITION_FAILED, broker_error, code};
use super::{RabbitMq, RabbitOptions};
use crate::{Address, BrokerError};

/// What a client says first: the protocol it speaks.
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// A frame: its type, its channel, the length of what follows; and a byte at its end.
const FRAME_HEADER_BYTES: usize = 7;

/// How long a greeting may be.
const MAX_GREETING_BYTES: usize = 64 * 1024;

/// The class and method of the greeting.
const START: [u8; 4] = [0, 10, 0, 10];

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What it is: `RabbitMQ`.
    pub product: String,
    /// Its version.
    pub version: String,
}

/// A queue as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is not there.
    Missing,
    /// It is as we would make it.
    Sound {
        /// How many messages wait in it, ready to be delivered.
        messages: u64,
        /// How many consumers it has.
        consumers: u64,
    },
    /// It was made otherwise, so that it cannot be used; in RabbitMQ's words.
    Otherwise(String),
}

impl RabbitMq {
    /// Asks the server what it is. Nobody logs in for that, so it also works with a wrong password.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] for an address that is none, [`BrokerError::Unavailable`] when nothing like it answers
    /// there.
    pub async fn greet(options: &RabbitOptions) -> Result<Server, BrokerError> {
        let uri: AMQPUri =
            options.url.parse().map_err(|error| BrokerError::Refused(format!("not an AMQP URL: {error}")))?;
        let greeted = timeout(options.connect_timeout, greeting(uri)).await;
        let greeting =
            greeted.map_err(|_| unavailable(format!("no answer within {:?}", options.connect_timeout)))??;
        let (_, start) = parse_start(greeting.as_slice())
            .map_err(|_| unavailable("what answers there does not speak AMQP 0-9-1".to_owned()))?;
        let text = |name| text(&start.server_properties, name).unwrap_or_else(|| "unknown".to_owned());
        Ok(Server { product: text("product"), version: text("version") })
    }

    /// Looks at a durable queue: whether it is there, and as we would make it.
    ///
    /// # Errors
    /// When the server cannot be asked, or does not let us.
    pub async fn examine(&self, queue: &Address) -> Result<Found, BrokerError> {
        self.topology.check(queue).map_err(|error| BrokerError::Refused(error.to_string()))?;
        let (link, channel) = self.channel().await?;
        let found = link.wire.ask(self.topology.inspect(&channel, queue)).await;
        // Only a queue that is there is declared: RabbitMQ then compares, and makes nothing.
        let compared = match &found {
            Ok(_) => link.wire.ask(self.topology.declare_queue(&channel, queue)).await,
            Err(_) => Ok(()),
        };
        link.wire.close_channel(channel).await;
        match (found, compared) {
            (Ok(found), Ok(())) => {
                let (messages, consumers) = (found.message_count().into(), found.consumer_count().into());
                Ok(Found::Sound { messages, consumers })
            }
            (Err(error), _) if code(&error) == Some(NOT_FOUND) => Ok(Found::Missing),
            (Ok(_), Err(error)) if code(&error) == Some(PRECONDITION_FAILED) => {
                Ok(Found::Otherwise(match broker_error(&error) {
                    BrokerError::Refused(why) | BrokerError::Unavailable(why) => why,
                    closed @ BrokerError::Closed => closed.to_string(),
                }))
            }
            (Err(error), _) | (_, Err(error)) => Err(broker_error(&error)),
        }
    }
}

/// The arguments of the first method that the server sends.
async fn greeting(uri: AMQPUri) -> Result<Vec<u8>, BrokerError> {
    let runtime = runtime::default_runtime().map_err(|error| broker_error(&error))?;
    let connected = AMQPUriTcpExt::connect_with_config_async(&uri, TLSConfig::default(), &runtime).await;
    let mut stream = connected.map_err(|error| unavailable(error.to_string()))?;
    let talk = async {
        stream.write_all(PROTOCOL_HEADER).await?;
        stream.flush().await?;
        let mut header = [0; FRAME_HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let [_, _, _, length @ ..] = header;
        let mut body = vec![0; (u32::from_be_bytes(length) as usize).min(MAX_GREETING_BYTES)];
        stream.read_exact(&mut body).await?;
        Ok::<_, std::io::Error>(body)
    };
    let body = talk.await.map_err(|error| unavailable(error.to_string()))?;
    let arguments = body.strip_prefix(&START).map(<[u8]>::to_vec);
    arguments.ok_or_else(|| unavailable("what answers there does not speak AMQP 0-9-1".to_owned()))
}

fn text(properties: &FieldTable, name: &str) -> Option<String> {
    match properties.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

const fn unavailable(why: String) -> BrokerError {
    BrokerError::Unavailable(why)
}
