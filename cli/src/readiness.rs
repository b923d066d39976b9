//! Tells in the log when the engine becomes able to work, when it no longer is, and why. Changes nothing: everybody waits
//! for what is away by themselves.

use std::time::Duration;

use phasework_engine::Engine;
use tokio_util::sync::CancellationToken;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks until `shutdown`.
pub(crate) async fn watch(engine: Engine, shutdown: CancellationToken) {
    let mut told = None;
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let looking = async {
            every.tick().await;
            (engine.is_starting(), engine.readiness().await)
        };
        let (is_starting, reasons) = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            found = looking => found,
        };
        if told.as_ref() != Some(&reasons) {
            tell(&reasons, is_starting);
        }
        told = Some(reasons);
    }
}

fn tell(reasons: &[String], is_starting: bool) {
    if reasons.is_empty() {
        tracing::info!("ready: the broker and the store can be used");
    } else if is_starting {
        tracing::info!("not ready yet: {}", reasons.join("; "));
    } else {
        tracing::warn!("not ready, and waiting: {}", reasons.join("; "));
    }
}
