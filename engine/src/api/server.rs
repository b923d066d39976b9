//! Serves the API on a socket until it is told to stop: open requests are answered, long polls at once.

use std::io;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::wait::Stopping;

/// How long open requests get after the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves `router` on `listener` until `shutdown`. New connections are then refused, waits answered at once, and
/// requests under way get ten seconds.
///
/// # Errors
/// When the socket cannot be served.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let router = router.layer(Extension(Stopping(shutdown.clone())));
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps small answers back");
        }
    });
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let grace_is_over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        served = async { served.await } => served,
        () = grace_is_over => {
            tracing::warn!("requests that did not end in time were cut off");
            Ok(())
        }
    }
}
