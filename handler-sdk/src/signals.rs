//! The signals that stop a worker. Nothing else in this crate knows of signals.

use std::future::Future;
use std::io;

use crate::stop::Stop;

/// Listens from now on: the first signal drains, the second leaves at once.
#[cfg(unix)]
pub(crate) fn listen(stop: Stop) -> io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        for step in [Stop::drain, Stop::leave] {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            step(&stop);
        }
    })
}

/// Listens from now on: the first Ctrl-C drains, the second leaves at once.
#[cfg(not(unix))]
pub(crate) fn listen(stop: Stop) -> io::Result<impl Future<Output = ()> + Send> {
    Ok(async move {
        for step in [Stop::drain, Stop::leave] {
            if tokio::signal::ctrl_c().await.is_ok() {
                step(&stop);
            }
        }
    })
}
