//! What a lapin error means to a caller of the port. Nothing is retried here.

use std::io;

use lapin::ErrorKind;
use lapin::protocol::AMQPErrorKind;

use crate::BrokerError;

pub(super) const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
pub(super) const PRECONDITION_FAILED: u16 = 406;
pub(super) const NOT_ALLOWED: u16 = 530;

/// The reply code, when RabbitMQ itself said no.
pub(super) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// Whether it cost a channel, and not the connection.
pub(super) fn is_about_a_channel(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)))
}

pub(super) fn broker_error(error: &lapin::Error) -> BrokerError {
    match (code(error), error.kind()) {
        (Some(ACCESS_REFUSED | PRECONDITION_FAILED | NOT_ALLOWED), ErrorKind::ProtocolError(error)) => {
            BrokerError::Refused(error.get_message().to_string())
        }
        (_, ErrorKind::ProtocolError(error)) => BrokerError::Unavailable(error.get_message().to_string()),
        _ => BrokerError::Unavailable(error.to_string()),
    }
}

/// RabbitMQ did not answer in time.
pub(super) fn no_answer() -> lapin::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer").into()
}

/// The connection was given up while an answer was awaited.
pub(super) fn connection_lost() -> lapin::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was lost").into()
}
